"""`nautilus jobs`: many or long recordings at a running server. Imports late, so that `--help` is instant."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from nautilus.cli.console import fail, notes
from nautilus.cli.options import HERE, KeyOption, UrlOption
from nautilus.errors import NautilusError
from nautilus.types import LEVELS
from nautilus.wire.forms import FORMATS

jobs = typer.Typer(
    help="Jobs at a running server: many recordings, or long ones.", no_args_is_help=True, rich_markup_mode="rich"
)

JobArgument = Annotated[str, typer.Argument(help="The job's id.")]
JobsArgument = Annotated[list[str], typer.Argument(help="Ids of jobs.")]


@jobs.command()
def submit(
    inputs: Annotated[list[str] | None, typer.Argument(help="Files, folders and addresses.")] = None,
    manifest: Annotated[
        list[Path] | None, typer.Option(help="JSON lines with audio_filepath, url or upload; repeatable.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A name that `/v1/models` lists.")] = None,
    language: Annotated[str | None, typer.Option(help="ISO-639-1 code of the language.")] = None,
    response_format: Annotated[
        str | None, typer.Option("--format", "-f", help=f"What results are by default: {', '.join(FORMATS)}.")
    ] = None,
    keyword: Annotated[list[str] | None, typer.Option("--keyword", "-k", help="A word to expect; repeatable.")] = None,
    preprocess: Annotated[str | None, typer.Option(help=f"Cleaning: {', '.join(LEVELS)}.")] = None,
    channel: Annotated[str | None, typer.Option(help="Hear this channel instead of the mix.")] = None,
    priority: Annotated[str | None, typer.Option(help="high, normal or low.")] = None,
    webhook_url: Annotated[str | None, typer.Option(help="Whom to tell when it has ended.")] = None,
    metadata: Annotated[list[str] | None, typer.Option(help="name=value of your own; repeatable.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="Sent again with this, it is the same job.")] = None,
    follow: Annotated[bool, typer.Option("--watch", "-w", help="Show how far it is until it has ended.")] = False,
    url: UrlOption = HERE,
    api_key: KeyOption = None,
) -> None:
    """Begin a job and print its id. Files are sent one after the other, however many there are."""
    from nautilus.cli.sending import gather, send

    single = {
        "model": model,
        "language": language,
        "response_format": response_format,
        "preprocess": preprocess,
        "channel": channel,
        "priority": priority,
        "webhook_url": webhook_url,
    }
    fields = [(name, value) for name, value in single.items() if value]
    fields += [("keywords[]", word) for word in keyword or ()]
    with _asking(url, api_key) as server:
        fields += [(f"metadata[{name}]", value) for name, value in map(_pair, metadata or ())]
        parcel = gather(inputs or (), manifest or ())
        with _sending(parcel.size) as tell:
            job = send(server, parcel, fields, idempotency_key, tell)
        for warning in job.get("warnings", ()):
            notes.print(warning, style="yellow", markup=False, soft_wrap=True)
        sys.stdout.write(f"{job['id']}\n")
        sys.stdout.flush()
        if follow:
            _watch(server, job["id"])


@jobs.command("list")
def list_jobs(
    status: Annotated[str | None, typer.Option(help="Only these: queued, processing, completed, failed, …")] = None,
    limit: Annotated[int, typer.Option(help="How many at most, the youngest first.", min=1, max=1000)] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines for programs.")] = False,
    url: UrlOption = HERE,
    api_key: KeyOption = None,
) -> None:
    """List your jobs."""
    from nautilus.cli.asking import JOBS
    from nautilus.cli.watching import show

    with _asking(url, api_key) as server:
        found = server.get(JOBS, status=status, limit=limit)["data"]
    if as_json:
        sys.stdout.writelines(json.dumps(job) + "\n" for job in found)
    else:
        show(found, Console(highlight=False))


@jobs.command()
def watch(job: JobArgument, url: UrlOption = HERE, api_key: KeyOption = None) -> None:
    """Show how far a job is until it has ended. Ends with 1 unless every file is transcribed."""
    with _asking(url, api_key) as server:
        _watch(server, job)


@jobs.command()
def result(
    job: JobArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for one file per recording; else standard output.")
    ] = None,
    response_format: Annotated[str, typer.Option("--format", "-f", help=f"One of {', '.join(FORMATS)}.")] = "text",
    file: Annotated[int | None, typer.Option(help="Only this one, counted from 0.")] = None,
    partial: Annotated[bool, typer.Option("--partial", help="What is heard so far, of a job that runs.")] = False,
    url: UrlOption = HERE,
    api_key: KeyOption = None,
) -> None:
    """Fetch transcripts in any format."""
    from nautilus.cli.watching import results, write
    from nautilus.errors import BadRequestError

    with _asking(url, api_key) as server:
        if response_format not in FORMATS:
            raise BadRequestError(f"--format must be one of {', '.join(FORMATS)}, not '{response_format}'.")
        found = results(server, job, response_format, file, partial=partial)
        if output:
            count = write(output, response_format, found)
            notes.print(f"[green]✓[/green] {count} files in {output}", soft_wrap=True)
            raise typer.Exit(0 if count else 1)
        _print(found, response_format)


@jobs.command()
def cancel(ids: JobsArgument, url: UrlOption = HERE, api_key: KeyOption = None) -> None:
    """Cancel jobs; what is transcribed already stays."""
    with _asking(url, api_key) as server:
        for job in ids:
            server.post(f"{_jobs()}/{job}/cancel")
            notes.print(f"[green]✓[/green] {job} cancelled")


@jobs.command()
def retry(ids: JobsArgument, url: UrlOption = HERE, api_key: KeyOption = None) -> None:
    """Try the files again that failed or were cancelled."""
    with _asking(url, api_key) as server:
        for job in ids:
            server.post(f"{_jobs()}/{job}/retry")
            notes.print(f"[green]✓[/green] {job} queued")


@jobs.command()
def delete(ids: JobsArgument, url: UrlOption = HERE, api_key: KeyOption = None) -> None:
    """Delete jobs with their audio and their results, whatever their status."""
    with _asking(url, api_key) as server:
        for job in ids:
            server.delete(f"{_jobs()}/{job}")
            notes.print(f"[green]✓[/green] {job} deleted")


def _watch(server: Any, job: str) -> None:
    """Follow a job to its end, and exit."""
    from nautilus.cli.watching import report
    from nautilus.cli.watching import watch as follow

    raise typer.Exit(0 if report(server, follow(server, job)) else 1)


def _print(found: Iterator[tuple[str, str]], form: str) -> None:
    """Print transcripts; JSON as lines, and others under the recordings' names where there are several."""
    texts = list(found)
    for name, text in texts:
        if form in ("json", "verbose_json"):
            sys.stdout.write(json.dumps(json.loads(text), ensure_ascii=False) + "\n")
            continue
        if len(texts) > 1:
            sys.stdout.write(f"# {name}\n")
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
    sys.stdout.flush()
    if not texts:
        raise typer.Exit(1)


def _jobs() -> str:
    from nautilus.cli.asking import JOBS

    return JOBS


def _pair(given: str) -> tuple[str, str]:
    from nautilus.errors import BadRequestError

    name, equals, value = given.partition("=")
    if not equals or not name:
        raise BadRequestError(f"--metadata is name=value, not '{given}'.")
    return name, value


@contextmanager
def _asking(url: str, key: str | None) -> Iterator[Any]:
    """Give the server to ask; what goes wrong is said in a sentence, and ends with 1."""
    from nautilus.cli.asking import JobServer

    try:
        with JobServer(url, key) as server:
            yield server
    except NautilusError as error:
        raise fail(error) from error
    except KeyboardInterrupt:
        notes.print("Stopped; a job that was accepted goes on.")
        raise typer.Exit(130) from None


@contextmanager
def _sending(size: int) -> Iterator[Any]:
    """Show how much was sent of so many bytes; gives what is to be told."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("Sending"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal) as progress:
        bar = progress.add_task("Sending", total=max(1, size))
        yield lambda count: progress.advance(bar, count)
