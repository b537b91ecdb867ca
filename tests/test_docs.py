"""The documents name everything that there is, and what they point to is there."""

import re
from pathlib import Path

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


def anchors(document: Path) -> set[str]:
    """Return what GitHub makes of the headings of a document."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    words = (
        re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).lower() for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    )
    return {re.sub(r"[^\w\- ]", "", one).strip().replace(" ", "-") for one in words}


DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "recipes").rglob("*.md")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!\w+:)([^)\s]+)\)", document.read_text(encoding="utf-8"))
    lost = []
    for link in links:
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            lost.append(link)
    assert lost == []
