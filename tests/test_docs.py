"""The documents name everything that there is."""

import pytest

from nautilus.cli.configuration import markdown
from nautilus.errors import NautilusError
from nautilus.settings import Settings
from nautilus.types import LEVELS
from nautilus.wire.forms import FORMATS
from tests.conftest import ROOT
from tests.web.test_errors import tree


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", tree(NautilusError))
def test_every_error_code_is_explained(kind: type[NautilusError]) -> None:
    assert f"`{kind.code}`" in page("usage.md")


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_named(name: str) -> None:
    assert f"`{name}`" in page("usage.md")


@pytest.mark.parametrize("level", LEVELS)
def test_every_level_of_cleaning_is_explained(level: str) -> None:
    assert f"\n| `{level}` |" in page("preprocessing.md")


def test_the_page_of_settings_is_the_settings() -> None:
    assert markdown(Settings()) in page("configuration.md"), "run `nautilus config --markdown` and paste it"
