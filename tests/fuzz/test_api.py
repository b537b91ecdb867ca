"""What the OpenAPI document says, against the server: requests made from it, right and wrong, and every answer judged.

`make fuzz-api` makes thousands; here are a few of each, always the same.
"""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from pydantic import SecretStr
from schemathesis import GenerationMode
from schemathesis.core.result import Ok
from schemathesis.openapi import from_dict

from nautilus.access.settings import AccessSettings
from nautilus.jobs.job import JobLimits
from nautilus.settings import Settings
from nautilus.storage.settings import StorageSettings
from nautilus.web.app import create_app
from tests.conftest import fake_engine, running
from tests.fuzz.api import KEYS, NOT_PROMISED, bearer

GUARDED = AccessSettings(required=True, keys=SecretStr(json.dumps(KEYS)))
DOCUMENT = create_app(Settings(access=GUARDED)).openapi()
OPERATIONS = [found.ok() for found in from_dict(DOCUMENT).get_all_operations() if isinstance(found, Ok)]
KINDS = [
    pytest.param(operation, mode, id=f"{operation.label} {mode.value}")
    for operation in OPERATIONS
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or operation.body or operation.query or operation.path_parameters
]
FEW = settings(
    max_examples=4,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def api(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a server with keys and jobs, which is what the document describes."""
    storage = StorageSettings(data_dir=tmp_path_factory.mktemp("api"))
    own = {"access": GUARDED, "jobs": JobLimits(poll_seconds=0.1), "storage": storage}
    with running(settings.model_copy(update=own), fake_engine) as url:
        yield url


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
@pytest.mark.parametrize(("operation", "mode"), KINDS)
def test_every_answer_is_one_of_the_document(api: str, operation: Any, mode: GenerationMode) -> None:
    @FEW
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        case.call_and_validate(base_url=api, headers=bearer(), excluded_checks=NOT_PROMISED, timeout=30)

    ask()
