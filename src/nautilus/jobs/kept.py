"""Transcripts of earlier jobs, kept by what was heard and how."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Final

from nautilus.hearing import Task
from nautilus.jobs.job import FileState, Job
from nautilus.observe import Count
from nautilus.storage.cache import ResultCache, digest
from nautilus.wire.forms import read_form

WORTH: Final = 20.0
"""Seconds of audio from which on a transcript is kept: shorter audio is heard again in less time."""
LOOKED_UP_FROM: Final = 40_000
"""Bytes of audio from which on a transcript is looked for: twenty seconds at 16 kbit/s."""


class Kept:
    """Transcripts of earlier jobs, by what was heard and how."""

    def __init__(
        self, cache: ResultCache, fingerprint: Callable[[str], str], looked: Mapping[str, Count] | None = None
    ) -> None:
        self._cache = cache
        self._looked = looked or {}
        self._fingerprint = fingerprint

    def is_wanted(self, job: Job, file: FileState) -> bool:
        """Return whether a file's transcript is looked for, and kept, as far as its size is known."""
        return (file.bytes is None or file.bytes >= LOOKED_UP_FROM) and read_form(job.form).cache

    def key(self, job: Job, file: FileState, task: Task) -> str | None:
        """Return what a file's transcript is kept by; None where it is not to be, or not worth it."""
        if file.digest is None or not self.is_wanted(job, file):
            return None
        how = asdict(task.options) | {"level": task.level, "channel": task.channel}
        return digest(file.digest, self._fingerprint(task.model), how)

    async def get(self, tenant: str, key: str) -> bytes | None:
        """Return a transcript."""
        found = await self._cache.get(tenant, key)
        self._looked.get("miss" if found is None else "hit", Count()).add()
        return found

    async def put(self, tenant: str, key: str, stored: bytes) -> None:
        """Keep a transcript."""
        await self._cache.put(tenant, key, stored)
