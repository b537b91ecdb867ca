from dataclasses import replace
from pathlib import Path

import pytest

from nautilus.ahead import job_of, load_ahead
from nautilus.engines.catalog import Catalog
from nautilus.errors import UnknownModelError
from nautilus.runtime.isolated import open_isolated_lane
from nautilus.settings import Settings
from nautilus.types import Claim, Options
from tests.engines.sounds import sample


async def test_the_default_model_is_there_for_the_first_who_opens_a_lane(settings: Settings) -> None:
    job = job_of(Catalog(settings.models_dir).find(settings.model), settings)
    with load_ahead(settings):
        forbidden = replace(job, load=None)  # type: ignore[arg-type]  # what was begun ahead has been told its job
        async with open_isolated_lane(forbidden, settings.batch, lambda _: None) as lane:
            assert (await lane.submit(sample(), Options(), Claim())).hypothesis.text


def test_what_has_to_be_fetched_is_not_begun(settings: Settings) -> None:
    children = Path("/proc/thread-self/children")
    before = children.read_text().split()
    with load_ahead(settings.model_copy(update={"model": "nvidia/parakeet-ctc-0.6b"})):
        assert children.read_text().split() == before


def test_a_misspelt_model_is_told_at_once(settings: Settings) -> None:
    with pytest.raises(UnknownModelError), load_ahead(settings.model_copy(update={"model": "nothing"})):
        pass
