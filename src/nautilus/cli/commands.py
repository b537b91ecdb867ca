"""The `nautilus` command. Imports late, so that `--help` is instant."""

import asyncio
import json
import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from nautilus.cli.console import fail, notes
from nautilus.cli.database import database
from nautilus.cli.jobs import jobs
from nautilus.cli.keys import keys
from nautilus.cli.models import models
from nautilus.cli.options import HERE, KeyOption, UrlOption, authorization
from nautilus.cli.webhooks import webhooks
from nautilus.errors import NautilusError
from nautilus.types import LEVELS
from nautilus.wire.forms import FORMATS
from nautilus.wire.live import DELAYS

app = typer.Typer(
    help="Nautilus: a speech-to-text server for NVIDIA NeMo models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.add_typer(models, name="models")
app.add_typer(jobs, name="jobs")
app.add_typer(webhooks, name="webhooks")
app.add_typer(database, name="db")
app.add_typer(keys, name="keys")

ModelOption = Annotated[
    str | None,
    typer.Option(help="Model: embedded, a hub name, a bundle folder or a .nemo file.", show_default=False),
]


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on. [127.0.0.1]", show_default=False)] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on. [8000]", show_default=False)] = None,
    model: ModelOption = None,
) -> None:
    """Run the server. Everything else is set by NAUTILUS_… variables: see `nautilus config`."""
    from nautilus.ahead import load_ahead
    from nautilus.settings import load_settings

    try:
        settings = load_settings(host=host, port=port, model=model)
        with load_ahead(settings):
            from nautilus.cli.serve import run_server  # all of the server: it is imported while the model is loaded

            code = run_server(settings)
    except NautilusError as error:
        raise fail(error) from error
    raise typer.Exit(code)


@app.command()
def transcribe(
    inputs: Annotated[list[str], typer.Argument(help="Files, folders, or - for standard input.")],
    model: ModelOption = None,
    response_format: Annotated[str, typer.Option("--format", "-f", help=f"One of {', '.join(FORMATS)}.")] = "text",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for one file per recording; else standard output.")
    ] = None,
    language: Annotated[str | None, typer.Option(help="ISO-639-1 code of the language.")] = None,
    preprocess: Annotated[str | None, typer.Option(help=f"Cleaning: {', '.join(LEVELS)}.")] = None,
    channel: Annotated[str | None, typer.Option(help="Hear this channel instead of the mix.")] = None,
    keyword: Annotated[list[str] | None, typer.Option("--keyword", "-k", help="A word to expect; repeatable.")] = None,
) -> None:
    """Transcribe files here, without a server. Several files share the model's batches."""
    from nautilus.cli.transcribe import Request, run
    from nautilus.settings import load_settings
    from nautilus.wire.forms import read_form

    fields = {"response_format": response_format, "language": language, "preprocess": preprocess, "channel": channel}
    try:
        given = [(name, value) for name, value in fields.items() if value]
        form = read_form([*given, *(("keywords[]", word) for word in keyword or [])])
        failed = asyncio.run(run(Request(inputs, form, output), load_settings(model=model, log_level="warning")))
    except NautilusError as error:
        raise fail(error) from error
    except KeyboardInterrupt:
        notes.print("Stopped.")
        raise typer.Exit(130) from None
    raise typer.Exit(1 if failed else 0)


@app.command()
def listen(
    url: Annotated[str | None, typer.Option(help="A running server to ask instead of this process.")] = None,
    model: ModelOption = None,
    delay: Annotated[str, typer.Option(help=f"How long the model may wait: {', '.join(DELAYS)}.")] = "high",
    file: Annotated[Path | None, typer.Option(help="Play this recording instead of the microphone.")] = None,
    speed: Annotated[float, typer.Option(help="How fast to play it, times real time; 0: as fast as possible.")] = 1.0,
    device: Annotated[str | None, typer.Option(help="Microphone: its number or a part of its name.")] = None,
    api_key: KeyOption = None,
) -> None:
    """Show live captions of the microphone or of a recording. Ctrl-C ends it."""
    from nautilus.cli.listen import Request, run
    from nautilus.settings import load_settings

    try:
        request = Request(url, model, delay, file, speed, device, authorization(api_key))
        asyncio.run(run(request, load_settings(model=model, log_level="warning"), Console(highlight=False)))
    except NautilusError as error:
        raise fail(error) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command()
def export(
    model: Annotated[str, typer.Argument(help="A .nemo file or a hub name.")],
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
) -> None:
    """Turn a NeMo model into an ONNX bundle that the default install serves, without torch."""
    from nautilus.engines.export import export_model

    try:
        with notes.status(f"Exporting {model} …"):
            export_model(model, out)
    except NautilusError as error:
        raise fail(error) from error
    notes.print(f"[green]✓[/green] {out}: serve it with `nautilus serve --model {out}`")


@app.command()
def quantize(
    model: Annotated[str, typer.Argument(help="An installed model's name, or a folder that `nautilus export` made.")],
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    recordings: Annotated[list[str], typer.Argument(help="Some minutes of speech as it will hear: files, folders.")],
) -> None:
    """Give a CTC or transducer model 8-bit weights: faster on processors with VNNI, and a quarter of the size."""
    from nautilus.cli.quantize import beginnings
    from nautilus.engines.catalog import Catalog
    from nautilus.engines.quantize import quantize_model
    from nautilus.settings import load_settings

    try:
        found = Catalog(load_settings().models_dir).find(model)
        with notes.status(f"Quantizing {model} …"):
            quantize_model(found, out, beginnings(recordings))
    except NautilusError as error:
        raise fail(error) from error
    notes.print(f"[green]✓[/green] {out}: serve it with `nautilus serve --model {out}`")


@app.command()
def config(
    as_markdown: Annotated[bool, typer.Option("--markdown", help="The defaults, as the docs have them.")] = False,
) -> None:
    """Print the effective settings, each with its variable and its meaning."""
    from nautilus.cli.configuration import markdown, settings_table
    from nautilus.settings import Settings, load_settings

    try:
        if as_markdown:
            sys.stdout.write(markdown(Settings()))
        else:
            Console().print(settings_table(load_settings()))
    except NautilusError as error:
        raise fail(error) from error


@app.command()
def usage(
    since: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="First day, UTC; else a month.")] = None,
    until: Annotated[datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Last day, UTC; else today.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this one's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show who used how much, by day, key and model: read from the database, also while servers run."""
    from nautilus.cli.usage import read, usage_table
    from nautilus.storage.usage import usage_document

    try:
        period, found = asyncio.run(read(since, until, tenant))
    except NautilusError as error:
        raise fail(error) from error
    if as_json:
        sys.stdout.write(json.dumps(usage_document(period, found)) + "\n")
    else:
        Console(highlight=False).print(usage_table(period, found))


@app.command()
def doctor(
    model: ModelOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON list for programs.")] = False,
) -> None:
    """Check the machine, the settings and the model, and say what to do. Exits with 1 where there is a problem."""
    from nautilus.cli import doctor as checks

    findings = asyncio.run(checks.examine(model))
    if as_json:
        sys.stdout.write(checks.as_json(findings) + "\n")
    else:
        Console(highlight=False).print(checks.report(findings))
    raise typer.Exit(checks.verdict(findings))


@app.command()
def bench(
    files: Annotated[list[Path], typer.Argument(help="Recordings or folders to send.", exists=True)],
    url: UrlOption = HERE,
    clients: Annotated[str, typer.Option("--clients", "-c", help="How many at once, round by round.")] = "1,4,16",
    seconds: Annotated[float, typer.Option(help="How long each round lasts.")] = 10.0,
    live: Annotated[bool, typer.Option("--live", help="Play the recordings as live streams, in real time.")] = False,
    delay: Annotated[str, typer.Option(help="How long the model may wait in live streams.")] = "high",
    api_key: KeyOption = None,
) -> None:
    """Load a server and print throughput, latency, errors, and transcripts that changed under load."""
    from nautilus.measure.bench import rounds_table, run_rounds
    from nautilus.measure.client import Target
    from nautilus.measure.live import live_table, run_live

    try:
        counts = [int(count) for count in clients.split(",")]
        server = Target(url, authorization(api_key))
        if live:
            Console().print(live_table(asyncio.run(run_live(server, files, counts, seconds, delay))))
            return
        Console().print(rounds_table(asyncio.run(run_rounds(server, files, counts, seconds))))
    except NautilusError as error:
        raise fail(error) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


@app.command()
def evaluate(
    manifests: Annotated[list[Path], typer.Argument(help="NeMo manifests (JSON lines).", exists=True)],
    model: ModelOption = None,
    levels: Annotated[str, typer.Option(help=f"Cleaning, one or more of {', '.join(LEVELS)}.")] = "auto",
    url: Annotated[str | None, typer.Option(help="A running server to ask instead of this process.")] = None,
    limit: Annotated[int, typer.Option(help="Utterances of each set, spread evenly; 0: all.")] = 0,
    plain: Annotated[
        bool, typer.Option(help="Compare words as they are, not as Whisper's normaliser has them.")
    ] = False,
    show: Annotated[int, typer.Option(help="How many of the worst utterances to show.")] = 5,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every result to this file.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Write a report with plots and players.")] = None,
    api_key: KeyOption = None,
) -> None:
    """Measure word error rates and speed over manifests, in this process or against a server."""
    from nautilus.cli.evaluate import Request, run
    from nautilus.measure.client import Target
    from nautilus.settings import load_settings

    try:
        request = Request(
            manifests=manifests,
            model=model,
            levels=tuple(levels.split(",")),
            server=Target(url, authorization(api_key)) if url else None,
            limit=limit,
            plain=plain,
            show=show,
            json_file=json_file,
            html_file=html_file,
        )
        asyncio.run(run(request, load_settings(model=model, log_level="warning")))
    except NautilusError as error:
        raise fail(error) from error
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


if __name__ == "__main__":
    sys.exit(app())
