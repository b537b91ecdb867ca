"""`nautilus usage`: who used how much, read from the database."""

from collections.abc import Sequence
from datetime import date, datetime

from rich.table import Table

from nautilus.settings import load_settings
from nautilus.storage.database import open_database
from nautilus.storage.place import database_url
from nautilus.storage.usage import Period, Total, read_period, totals


async def read(since: datetime | None, until: datetime | None, tenant: str | None) -> tuple[Period, list[Total]]:
    """Return the days that are meant and what was used on them."""
    period = read_period(_day(since), _day(until))
    async with open_database(database_url(load_settings().storage)) as database:
        return period, await totals(database, *period.bounds, tenant)


def usage_table(period: Period, found: Sequence[Total]) -> Table:
    """Return totals as a table, with a line for all."""
    table = Table(title=f"{period.first} to {period.last}, UTC", box=None, header_style="bold", show_footer=bool(found))
    seconds = sum(total.seconds for total in found)
    table.add_column("Day", "all")
    table.add_column("Tenant")
    table.add_column("Key")
    table.add_column("Model")
    table.add_column("Requests", f"{sum(total.requests for total in found):,}", justify="right")
    table.add_column("Failed", f"{sum(total.failed for total in found):,}", justify="right")
    table.add_column("Audio", _hours(seconds), justify="right")
    for one in found:
        row = (one.day.isoformat(), one.tenant, one.key or "", one.model)
        table.add_row(*row, f"{one.requests:,}", f"{one.failed:,}", _hours(one.seconds))
    return table


def _day(given: datetime | None) -> date | None:
    return given.date() if given else None


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.2f} h" if seconds >= 3600 else f"{seconds:,.1f} s"  # noqa: PLR2004 - an hour
