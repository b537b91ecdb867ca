"""Which models there are and where: the embedded one, installed ones, files on disk, names on the hub.

A name is looked up in this order: `embedded` (or the embedded model's own name), a path to a bundle folder or a
`.nemo` file, a model installed in the models folder, a known name on the Hugging Face hub, any other name on a hub
(`owner/model`, `ngc:org/team/model:version`), of which the files decide what loads them.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

import nautilus.resources
from nautilus.engines.bundle import MANIFEST, is_bundle
from nautilus.errors import UnknownModelError
from nautilus.hubs.record import read_record
from nautilus.hubs.source import Source, parse

EMBEDDED: Final = "embedded"

Kind = Literal["bundle", "onnx-asr", "nemo"]
"""Which engine serves it: our bundles, ONNX files in onnx-asr's layout, or NeMo itself."""


@dataclass(frozen=True, slots=True)
class HubModel:
    """A model that is known to work, and where its ONNX files are."""

    repository: str
    languages: tuple[str, ...]
    summary: str
    revision: str | None = None
    """The commit that is fetched when the name says none; None: the newest."""


EUROPE: Final = (
    *("bg", "hr", "cs", "da", "nl", "en", "et", "fi", "fr", "de", "el", "hu", "it"),
    *("lv", "lt", "mt", "pl", "pt", "ro", "sk", "sl", "es", "sv", "ru", "uk"),
)

HUB: Final[dict[str, HubModel]] = {
    "nvidia/parakeet-tdt-0.6b-v3": HubModel(
        "istupakov/parakeet-tdt-0.6b-v3-onnx", EUROPE, "25 European languages, punctuation, 0.6B parameters"
    ),
    "nvidia/parakeet-tdt-0.6b-v2": HubModel(
        "istupakov/parakeet-tdt-0.6b-v2-onnx", ("en",), "English, punctuation, 0.6B parameters"
    ),
    "nvidia/parakeet-ctc-0.6b": HubModel("istupakov/parakeet-ctc-0.6b-onnx", ("en",), "English, 0.6B parameters"),
    "nvidia/parakeet-rnnt-0.6b": HubModel("istupakov/parakeet-rnnt-0.6b-onnx", ("en",), "English, 0.6B parameters"),
    "nvidia/canary-1b-v2": HubModel(
        "istupakov/canary-1b-v2-onnx", EUROPE, "25 languages, translation to and from English, 1B parameters"
    ),
}
"""Hub names with ONNX files that the default install serves."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be loaded."""

    name: str
    kind: Kind
    path: Path | None
    """Where it lies; None while it is only on the hub."""
    source: Source | None = None
    """Where it comes from; None for a model that was put here by hand."""
    languages: tuple[str, ...] = ()


class Catalog:
    """Finds models by name."""

    def __init__(self, models_dir: Path) -> None:
        self.models_dir = models_dir
        self.embedded = Path(nautilus.resources.__file__).parent / "embedded"

    def find(self, name: str) -> Model:
        """Return the named model, wherever it is. Raises UnknownModelError."""
        if name in (EMBEDDED, self.embedded_name):
            return self._bundle(self.embedded_name, self.embedded)
        if Path(name).expanduser().exists():
            return self._on_disk(name, Path(name).expanduser())
        if self.folder(name).is_dir():
            return self._on_disk(name, self.folder(name))
        if source := parse(name):
            return _on_hub(name, source)
        raise UnknownModelError(name, tuple(model.name for model in self.installed()))

    def installed(self) -> Iterator[Model]:
        """Yield the models that need no download: the embedded one, then those in the models folder."""
        yield self._bundle(self.embedded_name, self.embedded)
        if self.models_dir.is_dir():
            for folder in sorted(self.models_dir.iterdir()):
                if folder.is_dir() and not folder.name.startswith("."):
                    yield self._on_disk(folder.name.replace("--", "/"), folder)

    def folder(self, name: str) -> Path:
        """Return where a model of this name is installed. Raises UnknownModelError for a name that is none."""
        if not name or name.startswith(("/", ".", "~")) or ".." in name or "\0" in name:
            raise UnknownModelError(name)
        return self.models_dir / name.replace("/", "--")

    @property
    def embedded_name(self) -> str:
        """The embedded model's own name."""
        name: str = json.loads((self.embedded / MANIFEST).read_text(encoding="utf-8"))["name"]
        return name

    def _on_disk(self, name: str, path: Path) -> Model:
        if path.is_dir() and is_bundle(path):
            return self._bundle(name, path)
        if path.is_dir() and (path / "config.json").is_file():
            known = HUB.get(name.partition("@")[0])
            return Model(name, "onnx-asr", path, _origin(path), known.languages if known else ())
        if path.suffix == ".nemo" or (path.is_dir() and list(path.glob("*.nemo"))):
            return Model(name, "nemo", path if path.is_file() else next(path.glob("*.nemo")), _origin(path))
        raise UnknownModelError(f"{name} (there is neither {MANIFEST}, config.json nor a .nemo file in it)")

    def _bundle(self, name: str, path: Path) -> Model:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        return Model(name, "bundle", path, _origin(path), tuple(manifest.get("languages", ())))


def _on_hub(name: str, source: Source) -> Model:
    known = HUB.get(source.repository) if source.hub == "huggingface" else None
    if known is None:
        return Model(name, "nemo", None, source)
    source = replace(source, repository=known.repository, revision=source.revision or known.revision)
    return Model(name, "onnx-asr", None, source, known.languages)


def _origin(path: Path) -> Source | None:
    record = read_record(path)
    return record.source if record else None
