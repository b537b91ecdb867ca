import httpx
import pytest

from nautilus.errors import ModelLoadError
from nautilus.hubs.client import NGC, check_status, usual_access
from nautilus.hubs.source import Source

SOURCES = {"HF_TOKEN": Source("huggingface", "owner/model"), "NGC_API_KEY": Source("ngc", "org/model", "1")}


@pytest.mark.parametrize("status", [401, 403, 404, 429])
@pytest.mark.parametrize("variable", SOURCES)
def test_a_refusal_names_the_variable_that_helps(status: int, variable: str) -> None:
    with pytest.raises(ModelLoadError, match=variable):
        check_status(httpx.Response(status), SOURCES[variable])


@pytest.mark.parametrize("status", [400, 500, 503])
def test_other_failures_say_that_nothing_is_lost(status: int) -> None:
    with pytest.raises(ModelLoadError, match=f"answers {status}. Try again later: what has arrived is kept"):
        check_status(httpx.Response(status), SOURCES["HF_TOKEN"])


@pytest.mark.parametrize("status", [200, 206])
def test_an_answer_is_no_failure(status: int) -> None:
    check_status(httpx.Response(status), SOURCES["HF_TOKEN"])


def test_the_variables_of_the_hubs_own_tools_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NGC_ENDPOINT", raising=False)
    monkeypatch.setenv("NGC_API_KEY", "nvapi-known")
    assert usual_access(offline=True).ngc == NGC
    monkeypatch.setenv("NGC_ENDPOINT", "http://mirror/")
    access = usual_access(offline=True)
    assert (access.ngc, access.ngc_key, access.offline) == ("http://mirror", "nvapi-known", True)
    assert access.headers(SOURCES["NGC_API_KEY"]) == {"Authorization": "Bearer nvapi-known"}
