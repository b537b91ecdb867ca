"""What a server loads first, begun before the server itself is imported.

To import all of it takes as long as to load a small model, and both go on side by side:

    nautilus serve ──load_ahead──▶ web, jobs, storage are imported ──▶ the pool opens a lane to the model
                          └──────▶ its process: weights, sizing ──────────────▲
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Final

from nautilus.engines.catalog import Catalog, Model
from nautilus.engines.load import fingerprint, load_engine
from nautilus.runtime import model_process
from nautilus.runtime.calibrate import Sizing
from nautilus.runtime.model_process import Job
from nautilus.settings import Settings

SIZING: Final = "sizing"
"""The folder of the cache where it is remembered what suits a model on this machine."""


@contextmanager
def load_ahead(settings: Settings) -> Iterator[None]:
    """Begin to load the default model, for whoever opens a lane to it in the block. Raises UnknownModelError.

    One that has to be fetched is not begun: that takes longer than any import, and its place changes meanwhile.
    """
    model = Catalog(settings.models_dir).find(settings.model)
    with model_process.begun_ahead(job_of(model, settings)) if model.path else nullcontext():
        yield


def job_of(model: Model, settings: Settings) -> Job:
    """Return what the process of a model is told."""
    return Job(
        load=partial(load_engine, model, models_dir=settings.models_dir, offline=settings.offline),
        wanted=Sizing(settings.batch.workers, settings.batch.max_items),
        memory=settings.cache_dir / SIZING / f"{fingerprint(model)}.json",
        log_level=settings.log_level,
        log_format=settings.log_format,
    )
