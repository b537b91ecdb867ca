"""`nautilus transcribe`: files through the same pipeline as the server, without one."""

import asyncio
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from nautilus.assembly import Core, assemble
from nautilus.errors import BadRequestError, NautilusError
from nautilus.hearing import Piece, Task
from nautilus.observe import configure_logging
from nautilus.settings import Settings
from nautilus.types import Options, Transcript
from nautilus.wire import openai_rest
from nautilus.wire.forms import TranscriptionForm

AT_ONCE = 16
"""Files in work at once: enough to fill the model's batches."""
ENDINGS = {"text": ".txt", "json": ".json", "verbose_json": ".json", "srt": ".srt", "vtt": ".vtt"}
MEDIA = frozenset(
    {
        *(".aac", ".aif", ".aiff", ".amr", ".au", ".avi", ".flac", ".m4a", ".mka", ".mkv", ".mov", ".mp3", ".mp4"),
        *(".oga", ".ogg", ".opus", ".sph", ".ts", ".wav", ".webm", ".wma"),
    }
)
"""What is taken from a folder; files named one by one may have any ending."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked for."""

    inputs: list[str]
    form: TranscriptionForm
    output: Path | None


async def run(request: Request, settings: Settings) -> int:
    """Transcribe everything, in order, with a progress bar in seconds of audio. Return how many failed."""
    configure_logging(settings.log_level, settings.log_format)
    sources = list(find(request.inputs))
    notes = Console(stderr=True, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f} s"),
        TimeRemainingColumn(),
    )
    progress = Progress(*columns, console=notes, transient=True, disable=not notes.is_terminal)
    with progress:
        async with assemble(settings) as core:
            job = _Job(core, request, progress, progress.add_task("Loading the model", total=1))
            await core.pool.keep(core.default_model)
            return await job.work(sources)


class _Job:
    """The files of one command."""

    def __init__(self, core: Core, request: Request, progress: Progress, bar: TaskID) -> None:
        self._core = core
        self._request = request
        self._progress = progress
        self._bar = bar
        self._places = asyncio.Semaphore(AT_ONCE)

    async def work(self, sources: list[Path | None]) -> int:
        """Transcribe all, print or write each as soon as those before it are done."""
        self._progress.update(self._bar, description="Transcribing", total=max(1.0, _total_seconds(sources)))
        failed = 0
        async with asyncio.TaskGroup() as tasks:
            for source, task in [(s, tasks.create_task(self._one(s))) for s in sources]:
                outcome = await task
                if isinstance(outcome, NautilusError):
                    failed += 1
                    self._progress.console.print(f"[red]{source or '-'}:[/red] {outcome}", soft_wrap=True)
                else:
                    self._deliver(source, outcome, alone=len(sources) == 1)
        return failed

    async def _one(self, source: Path | None) -> Transcript | NautilusError:
        done = 0.0

        async def tell(piece: Piece) -> None:
            nonlocal done
            self._progress.advance(self._bar, max(0.0, piece.seconds_done - done))
            done = max(done, piece.seconds_done)

        form = self._request.form
        level = form.level or self._core.settings.preprocess
        task = Task(
            self._core.default_model, Options(language=form.language, keywords=form.keywords), level, form.channel
        )
        async with self._places:
            try:
                with _opened(source) as file:
                    transcript = await self._core.pipeline.transcribe(file, task, tell)
            except NautilusError as error:
                return error
        self._progress.advance(self._bar, max(0.0, transcript.audio.duration - done))
        return transcript

    def _deliver(self, source: Path | None, transcript: Transcript, *, alone: bool) -> None:
        for warning in transcript.warnings:
            self._progress.console.print(f"[yellow]{source or '-'}:[/yellow] {warning}", soft_wrap=True)
        text = openai_rest.render(transcript, self._request.form)
        if self._request.output:
            self._request.output.mkdir(parents=True, exist_ok=True)
            name = (source.stem if source else "stdin") + ENDINGS[self._request.form.response_format]
            (self._request.output / name).write_text(text, encoding="utf-8")
            return
        if not alone:
            sys.stdout.write(f"# {source or '-'}\n")
        sys.stdout.write(text if text.endswith("\n") else text + "\n")
        sys.stdout.flush()


def find(inputs: list[str]) -> Iterator[Path | None]:
    """Yield the recordings that the arguments mean; None is standard input. Raises BadRequestError."""
    for given in inputs:
        path = Path(given).expanduser()
        if given == "-":
            yield None
        elif path.is_dir():
            found = sorted(file for file in path.rglob("*") if file.suffix.lower() in MEDIA)
            if not found:
                raise BadRequestError(f"There are no recordings in {given}.")
            yield from found
        elif path.is_file():
            yield path
        else:
            raise BadRequestError(f"There is no file {given}.")


@contextmanager
def _opened(source: Path | None) -> Iterator[BinaryIO]:
    if source is not None:
        with source.open("rb") as file:
            yield file
        return
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(sys.stdin.buffer, copy)
        copy.seek(0)
        yield copy


def _total_seconds(sources: list[Path | None]) -> float:
    """Guess how much audio there is, for the progress bar: what the headers say."""
    from nautilus.audio.decode import Decoder

    total = 0.0
    for source in filter(None, sources):
        try:
            with source.open("rb") as file:
                decoder = Decoder(file)
                total += decoder.facts.declared_seconds or 0.0
                decoder.close()
        except NautilusError:
            continue
    return total
