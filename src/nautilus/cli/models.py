"""`nautilus models`: which there are; fetching, moving and removing them. Imports late, so that `--help` is instant."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from nautilus.cli.console import fail, notes
from nautilus.errors import NautilusError, UnknownModelError, UnsupportedError

models = typer.Typer(
    help="Models: which there are; fetching, moving and removing them.", no_args_is_help=True, rich_markup_mode="rich"
)

SHORT = 12
"""Letters of a commit that are shown."""


@models.command("list")
def list_models() -> None:
    """List the models that are here, and those that can be fetched."""
    from nautilus.engines.catalog import HUB, Catalog
    from nautilus.hubs.space import in_units
    from nautilus.settings import load_settings

    table = Table("Model", "State", "Engine", "Languages", "Revision", "Size", box=None, header_style="bold")
    try:
        catalog = Catalog(load_settings().models_dir)
        installed = list(catalog.installed())
        for model in installed:
            state = "embedded" if model.path == catalog.embedded else "installed"
            folder = catalog.embedded if model.path == catalog.embedded else catalog.folder(model.name)
            size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
            languages = _few(model.languages)
            table.add_row(model.name, state, model.kind, languages, _revision(folder), in_units(size))
    except NautilusError as error:
        raise fail(error) from error
    for name in HUB.keys() - {model.name for model in installed}:
        table.add_row(name, "on the hub", "onnx-asr", _few(HUB[name].languages), HUB[name].revision or "")
    Console().print(table)


@models.command()
def info(name: Annotated[str, typer.Argument(help="A model's name, folder or .nemo file.")] = "embedded") -> None:
    """Load a model and tell what it is, what it can do and where it came from."""
    from dataclasses import asdict

    from nautilus.engines.catalog import Catalog
    from nautilus.engines.load import load_engine
    from nautilus.settings import load_settings

    try:
        settings = load_settings()
        catalog = Catalog(settings.models_dir)
        tell = lambda progress: notes.print(f"{progress} …", style="dim")  # noqa: E731
        engine = load_engine(catalog.find(name), tell, models_dir=settings.models_dir, offline=settings.offline)
        path = catalog.find(name).path
        facts = asdict(engine.info) | {"path": path} | _origin(path)
    except NautilusError as error:
        raise fail(error) from error
    table = Table(box=None, show_header=False)
    for key, value in facts.items():
        table.add_row(key.replace("_", " "), " ".join(map(str, value)) if isinstance(value, tuple) else str(value))
    Console().print(table)


@models.command()
def pull(
    name: Annotated[str, typer.Argument(help="A name on a hub: owner/model, owner/model@revision, ngc:….")],
) -> None:
    """Fetch a model from its hub into the models folder. A broken fetch goes on where it stopped."""
    from nautilus.engines.catalog import Catalog
    from nautilus.engines.load import fetch_model
    from nautilus.settings import load_settings

    try:
        settings = load_settings()
        model = Catalog(settings.models_dir).find(name)
        if model.path is not None:
            notes.print(f"{name} is here already: {model.path}", soft_wrap=True)
            return
        with _bar(name) as progress:
            fetch_model(model, progress, models_dir=settings.models_dir, offline=settings.offline)
        notes.print(f"[green]✓[/green] {name} is in {Catalog(settings.models_dir).folder(name)}", soft_wrap=True)
    except NautilusError as error:
        raise fail(error) from error
    except KeyboardInterrupt:
        notes.print("Stopped. What has arrived is kept: the next pull goes on from there.")
        raise typer.Exit(130) from None


@models.command()
def remove(name: Annotated[str, typer.Argument(help="An installed model's name.")]) -> None:
    """Delete a fetched model, or what a broken fetch left of it, from the models folder."""
    from nautilus.engines.catalog import Catalog
    from nautilus.hubs.fetch import forget
    from nautilus.settings import load_settings

    try:
        if not forget(Catalog(load_settings().models_dir).folder(name)):
            raise UnknownModelError(name)
    except NautilusError as error:
        raise fail(error) from error
    notes.print(f"[green]✓[/green] {name} is gone")


@models.command()
def bundle(
    names: Annotated[list[str], typer.Argument(help="Names on a hub, or of installed models.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The tar file to write.")] = Path("models.tar"),
) -> None:
    """Write models into one tar file for machines without a network; fetches those that are not here."""
    from nautilus.engines.catalog import Catalog
    from nautilus.engines.load import fetch_model
    from nautilus.hubs.archive import pack
    from nautilus.hubs.record import read_record, record_by_hand
    from nautilus.settings import load_settings

    try:
        settings = load_settings()
        catalog, chosen = Catalog(settings.models_dir), []
        for name in dict.fromkeys(names):
            model = catalog.find(name)
            if model.path is None:
                with _bar(name) as progress:
                    fetch_model(model, progress, models_dir=settings.models_dir, offline=settings.offline)
            folder = catalog.folder(name)
            if not folder.is_dir():
                raise UnsupportedError(f"{name} is not in the models folder: copy {model.path} itself.")
            chosen.append((read_record(folder) or record_by_hand(name, folder), folder))
        with _bar(str(output)) as progress:
            pack(chosen, output, progress)
    except NautilusError as error:
        raise fail(error) from error
    notes.print(f"[green]✓[/green] {output} holds {', '.join(dict.fromkeys(names))}", soft_wrap=True)
    notes.print(f"  Copy it, and run there: nautilus models install {output.name}", soft_wrap=True)


@models.command()
def install(archive: Annotated[Path, typer.Argument(help="A tar file that `nautilus models bundle` wrote.")]) -> None:
    """Install the models of a tar file, checking every file; needs no network."""
    from nautilus.engines.catalog import Catalog
    from nautilus.hubs.archive import unpack
    from nautilus.settings import load_settings

    try:
        catalog = Catalog(load_settings().models_dir)
        with _bar(str(archive)) as progress:
            installed = unpack(archive, catalog.models_dir, catalog.folder, progress)
    except NautilusError as error:
        raise fail(error) from error
    for record in installed:
        notes.print(f"[green]✓[/green] {record.name} is in {catalog.folder(record.name)}", soft_wrap=True)
    if not installed:
        notes.print(f"All models of {archive} are here already.", soft_wrap=True)


@contextmanager
def _bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar in bytes for the length of the block."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), TimeRemainingColumn(), console=notes) as bar:
        task = bar.add_task(what, total=None)
        yield lambda here, total: bar.update(task, completed=here, total=total)


def _origin(path: Path | None) -> dict[str, object]:
    """Return what is known of where a model came from."""
    from nautilus.hubs.record import read_record
    from nautilus.hubs.space import in_units

    folder = path.parent if path and path.is_file() else path
    record = read_record(folder) if folder else None
    if record is None:
        return {}
    files = "\n".join(f"{name}  {in_units(file.size)}  {file.sha256}" for name, file in record.files.items())
    return {"source": record.source, "commit": record.commit, "size": in_units(record.size), "files": files}


def _revision(folder: Path) -> str:
    from nautilus.hubs.record import read_record

    record = read_record(folder)
    if record is None or record.source is None:
        return ""
    named, commit = record.source.revision or "", record.commit or ""
    return commit[:SHORT] if named in ("", commit) else f"{named} {commit[:SHORT]}".strip()


def _few(languages: tuple[str, ...]) -> str:
    shown = " ".join(languages[:6])
    return f"{shown} +{len(languages) - 6}" if len(languages) > 6 else shown or "?"  # noqa: PLR2004 - fits a line
