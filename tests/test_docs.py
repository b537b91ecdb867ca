"""The documents name everything that there is."""

import re

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


def test_every_span_and_every_attribute_is_explained() -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "src" / "nautilus").rglob("*.py")]
    spans = {
        name for text in sources for name in re.findall(r'(?:span|trace\.add|heard\.add|begin)\("([a-z ]+)"', text)
    }
    spans |= {name for text in sources for name in re.findall(r'\.follow\([\w.]+, "([a-z ]+)"', text)}
    assert spans >= {"decode", "queue", "batch", "engine", "job", "webhook"}
    assert [name for name in sorted(spans) if f"| `{name}` |" not in page("traces.md")] == []
    told = {name for text in sources for name in re.findall(r'"(nautilus\.[a-z_.]+)":', text)}
    assert "nautilus.batch.id" in told
    last = {name: name.rpartition(".")[2] for name in told}
    assert [name for name, word in last.items() if not re.search(rf"[`.]{word}`", page("traces.md"))] == []


def test_the_page_of_settings_is_the_settings() -> None:
    assert markdown(Settings()) in page("configuration.md"), "run `nautilus config --markdown` and paste it"
