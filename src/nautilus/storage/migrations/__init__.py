"""The schema's history, for Alembic. Revisions are numbered: `0001`, `0002` and so on.

To change the schema, change `tables.py`, write the next revision beside the others and set `database.SCHEMA`; tests
compare what all revisions make with `tables.py`, on SQLite and on PostgreSQL.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy.engine import Connection


def config(connection: Connection | None = None) -> Config:
    """Return Alembic's configuration, for `connection`."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def upgrade(connection: Connection) -> None:
    """Run every revision that is missing, in the transaction that `connection` is in."""
    command.upgrade(config(connection), "head")
