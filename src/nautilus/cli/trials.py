"""What `nautilus doctor` tries with a core that runs: the decoder, the model, the sample, storage."""

import io
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import nautilus.resources
from nautilus.assembly import Core
from nautilus.cli.findings import Finding, ok
from nautilus.errors import BadAudioError, NautilusError
from nautilus.hearing import Task
from nautilus.storage.database import State, open_database
from nautilus.storage.place import blobs_of, database_url
from nautilus.types import SAMPLE_RATE

SAMPLE: Final = Path(nautilus.resources.__file__).with_name("sample.flac")
"""Four seconds of synthesised English."""
SAID: Final = SAMPLE.with_suffix(".txt").read_text(encoding="utf-8").split()
TRIAL: Final = "doctor/trial/blob"
FEW_WORDS: Final = 0.5
"""Share of the sample's words that any model of English hears."""


async def decoder(core: Core) -> AsyncIterator[Finding]:
    """Decode the sample and a damaged file, each in a process of its own."""
    seconds = 0.0
    try:
        with SAMPLE.open("rb") as file:
            async with core.sandbox.open(file) as recording:
                while (block := await recording.read()) is not None:
                    seconds += len(block) / SAMPLE_RATE
        async with core.sandbox.open(io.BytesIO(SAMPLE.read_bytes()[:60] + bytes(5000))):
            pass
    except BadAudioError:
        yield ok("decoder", f"decoded {seconds:.1f} s, and refused a damaged file")
    except NautilusError as error:
        advice = "Decoders need to fork and to share memory: look at limits on processes and at seccomp profiles."
        yield Finding("decoder", "problem", str(error), advice)
    else:
        yield Finding(
            "decoder", "problem", "took a damaged file for a recording", "Install av again: pip install -U av"
        )
    if core.sandbox.sealed:
        yield ok("sandbox", "decoders are sealed: they can open neither files nor connections")
    elif core.sandbox.sealed is not None:
        advice = "Serve strangers from Linux (x86-64 or ARM), in a container or a unit that allows seccomp filters."
        yield Finding("sandbox", "warning", "decoders are not sealed: there are no seccomp filters here", advice)


async def hearing(core: Core) -> AsyncIterator[Finding]:
    """Load the default model and let it hear the sample; a model that is not here is not fetched for that."""
    model = core.catalog.find(core.default_model)
    if model.path is None:
        return
    started = time.monotonic()
    try:
        await core.pool.keep(core.default_model)
        loaded = time.monotonic()
        yield ok("loading", f"{core.default_model} was ready after {loaded - started:.1f} s")
        with SAMPLE.open("rb") as file:
            transcript = await core.pipeline.transcribe(file, Task(core.default_model))
    except NautilusError as error:
        yield Finding(
            "model", "problem", str(error), "The log tells more; `nautilus models remove` and `pull` renew it."
        )
        return
    yield _judge(transcript.text, time.monotonic() - loaded, model.languages)


def _judge(text: str, seconds: float, languages: tuple[str, ...]) -> Finding:
    heard = re.findall(r"[\w']+", text.lower())
    share = len(set(SAID) & set(heard)) / len(set(SAID))
    if heard == SAID:
        return ok("sample", f"all {len(SAID)} words right, in {seconds:.2f} s")
    if languages and "en" not in languages:
        return ok("sample", f"heard {len(heard)} words; the sample is English, which the model is not for")
    if share < FEW_WORDS:
        return Finding("sample", "problem", f"heard “{text}”, said “{' '.join(SAID)}”", "Fetch the model again.")
    return ok("sample", f"{share:.0%} of the words, in {seconds:.2f} s: “{text}”")


async def storage(core: Core) -> AsyncIterator[Finding]:
    """Open the database, and write, read and delete a blob."""
    settings = core.settings.storage
    try:
        async with open_database(database_url(settings), check=False) as database:
            state = await database.state()
            kind = "SQLite" if database.is_sqlite else "PostgreSQL"
        if state is State.CURRENT or (state is State.BEHIND and kind == "SQLite"):
            yield ok("database", f"{kind}, {'up to date' if state is State.CURRENT else 'brought up to date at start'}")
        else:
            advice = "Run `nautilus db upgrade`." if state is State.BEHIND else "Update Nautilus: it is the older one."
            yield Finding("database", "problem", f"{kind}, its schema is {state.value}", advice)
    except NautilusError as error:
        yield Finding("database", "problem", str(error), "See NAUTILUS_STORAGE__DATABASE_URL in docs/storage.md.")
    try:
        blobs = blobs_of(settings)
        await blobs.put_bytes(TRIAL, b"trial")
        is_same = await blobs.read_bytes(TRIAL) == b"trial"
        await blobs.delete(TRIAL)
    except NautilusError as error:
        yield Finding("blobs", "problem", str(error), "See NAUTILUS_STORAGE__BLOBS_URL in docs/storage.md.")
    else:
        yield ok("blobs", f"{blobs} takes and gives") if is_same else Finding("blobs", "problem", "gave other bytes")
