"""A model → the same model with 8-bit weights: a quarter of the size, and much faster on processors with VNNI.

What hears becomes integers (`integer_graph`): a CTC bundle's network, for whole windows and for steps of live streams,
and a transducer's encoder. What a transducer asks for each token stays as it is.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nautilus.engines.base import SHORTEST
from nautilus.engines.bundle import MANIFEST, Bundle, StreamingGraph, read_bundle
from nautilus.engines.catalog import Model
from nautilus.engines.export import file_digest, new_folder, refuse_existing
from nautilus.engines.integer_graph import Feed, write_with_integers
from nautilus.engines.nemo_prompt import LanguagePrompt
from nautilus.engines.onnx import padded
from nautilus.engines.onnx_streaming import StepGraph, streams_of
from nautilus.engines.onnx_transducer import CONFIG, DECODER, ENCODER, features_of, is_transducer, read_config
from nautilus.errors import ModelLoadError, UnsupportedError
from nautilus.hubs.record import RECORD
from nautilus.types import Waveform


def quantize_model(model: Model, out: Path, recordings: Iterable[Waveform]) -> None:
    """Write the new folder `out`, its scales fitted to what `recordings` make of the model. Blocking.

    On failure there is no such folder. Needs the `quantize` extra. Raises ModelLoadError for a broken model and where
    `onnx` is missing, UnsupportedError for anything else, and what reading the recordings raises.
    """
    if find_spec("onnx") is None:
        raise ModelLoadError("Quantizing needs onnx: pip install 'nautilus[quantize]'.")
    refuse_existing(out)
    if model.path is None:
        raise UnsupportedError(
            f"{model.name} is not here yet: `nautilus models pull {model.name}` fetches it.", "model"
        )
    if model.kind == "bundle":
        _quantize_bundle(model.path, out, recordings)
    elif model.kind == "onnx-asr" and is_transducer(model.path):
        _quantize_transducer(model.path, model.languages, out, recordings)
    else:
        what = (
            "a .nemo file; `nautilus export` it first"
            if model.kind == "nemo"
            else "neither a CTC bundle nor a transducer"
        )
        raise UnsupportedError(f"{model.path} is {what}.", "model")


def _quantize_bundle(source: Path, out: Path, recordings: Iterable[Waveform]) -> None:
    bundle = read_bundle(source)
    if bundle.quantized:
        raise UnsupportedError(f"{source} is quantized already.", "model")
    audible = [waveform for waveform in recordings if len(waveform) >= SHORTEST]
    graphs: dict[str, Iterable[Feed]] = {
        bundle.offline: (_feed(*padded([bundle.features(waveform)])) for waveform in audible)
    }
    if bundle.streaming:
        graphs[bundle.streaming.file] = _steps(bundle, Watched(bundle, bundle.streaming), audible)
    with new_folder(out) as folder:
        for graph, given in graphs.items():
            write_with_integers(source / graph, folder / graph, given)
        _copy_rest(source, folder, [source / graph for graph in graphs])
        description = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
        digests = {file.name: file_digest(file) for file in sorted(folder.iterdir())}
        description |= {"name": f"{description['name']}-int8", "quantized": "static", "sha256": digests}
        _write(folder / MANIFEST, description)


def _quantize_transducer(source: Path, languages: tuple[str, ...], out: Path, recordings: Iterable[Waveform]) -> None:
    config = read_config(source)
    if config.get("quantized"):
        raise UnsupportedError(f"{source} is quantized already.", "model")
    features, prompts = features_of(config), config.get("prompts")
    told = {"prompt_index": np.full(1, LanguagePrompt(prompts).number(None), np.int64)} if prompts else {}
    audible = (waveform for waveform in recordings if len(waveform) >= SHORTEST)
    feeds = (_feed(*padded([features(waveform)])) | told for waveform in audible)
    with new_folder(out) as folder:
        write_with_integers(source / ENCODER, folder / ENCODER, feeds)
        _copy_rest(source, folder, [source / ENCODER], [source / DECODER])
        _write(folder / CONFIG, config | {"languages": config.get("languages") or languages, "quantized": "static"})


class Watched(StepGraph):
    """A graph of steps, and what it was given."""

    def __init__(self, bundle: Bundle, graph: StreamingGraph) -> None:
        super().__init__(bundle, graph)
        self.given: list[Feed] = []

    def run(self, feed: Feed) -> list[NDArray[Any]]:
        """Run the graph, and remember what it was given."""
        self.given.append(feed)
        return super().run(feed)


def _steps(bundle: Bundle, network: Watched, recordings: Sequence[Waveform]) -> Iterator[Feed]:
    """Yield what each step of a stream is given, with every look-ahead in turn."""
    streams, look_aheads = streams_of(bundle, network), network.graph.look_aheads
    for number in range(max(len(recordings), len(look_aheads))):
        state = streams.open(look_aheads[number % len(look_aheads)])
        streams.step([(state, recordings[number % len(recordings)])])
        streams.finish(state)
        yield from network.given
        network.given.clear()


def _feed(signal: np.ndarray, lengths: np.ndarray) -> Feed:
    return {"audio_signal": signal, "length": lengths}


def _copy_rest(source: Path, folder: Path, written: Sequence[Path], others: Sequence[Path] = ()) -> None:
    """Copy what a model needs besides the graphs `written`, whose weights are needed no more unless by `others`."""
    needed, replaced = ({name for graph in graphs for name in _weight_files(graph)} for graphs in (others, written))
    left_out = {*(graph.name for graph in written), *(replaced - needed), MANIFEST, RECORD, "model.nemo"}
    for file in source.iterdir():
        if file.is_file() and file.name not in left_out:
            shutil.copyfile(file, folder / file.name)


def _weight_files(graph: Path) -> set[str]:
    """Return the names of the files beside a graph that hold its weights."""
    import onnx

    model = onnx.load(graph, load_external_data=False)
    constants = [attribute.t for node in model.graph.node for attribute in node.attribute if node.op_type == "Constant"]
    tensors = [*model.graph.initializer, *constants]
    return {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}


def _write(file: Path, description: object) -> None:
    file.write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")
