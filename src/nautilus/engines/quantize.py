"""A bundle → the same bundle with 8-bit weights: a quarter of the size, and faster on processors with VNNI.

Weights of linear layers become integers of 8 bits with a scale for each output; what they are multiplied with is
scaled to 8 bits as it comes ("dynamic quantization"). That scale is one for all of a batch, so the engine hears each
waveform by itself. The graph of live streams, which gains most by hearing many at once, stays as it is.
"""

import json
import logging
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import numpy as np

from nautilus.engines.bundle import MANIFEST, is_bundle, read_bundle
from nautilus.engines.export import file_digest
from nautilus.errors import ModelLoadError, UnsupportedError

MATRIX: Final = 2
"""Axes."""


def quantize_bundle(source: Path, out: Path) -> None:
    """Write the new folder `out`. Blocking. On failure there is no such folder. Needs the `nemo` extra.

    Raises ModelLoadError for a broken bundle and where `onnx` is missing, UnsupportedError for anything else.
    """
    if find_spec("onnx") is None:
        raise ModelLoadError("Quantizing needs onnx: pip install 'nautilus[nemo]'.")
    if out.exists():
        raise UnsupportedError(f"{out} exists already; name a new folder.", "out")
    if not is_bundle(source):
        raise UnsupportedError(f"{source} is no bundle of a CTC model; `nautilus export` makes one.", "source")
    bundle = read_bundle(source)
    if bundle.quantized:
        raise UnsupportedError(f"{source} is quantized already.", "source")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as scratch:
        folder = Path(scratch) / "finished"
        folder.mkdir()
        _quantize(source / bundle.offline, folder / bundle.offline)
        left_out = {bundle.offline, MANIFEST, "model.nemo"}
        if not bundle.streaming:
            left_out |= _weight_files(source / bundle.offline)
        for file in source.iterdir():
            if file.is_file() and file.name not in left_out:
                shutil.copyfile(file, folder / file.name)
        _describe(source, folder)
        folder.rename(out)


def _describe(source: Path, folder: Path) -> None:
    """Write what the files are now."""
    description = json.loads((source / MANIFEST).read_text(encoding="utf-8"))
    digests = {file.name: file_digest(file) for file in sorted(folder.iterdir())}
    description |= {"name": f"{description['name']}-int8", "quantized": True, "sha256": digests}
    (folder / MANIFEST).write_text(json.dumps(description, indent=2) + "\n", encoding="utf-8")


def _weight_files(graph: Path) -> set[str]:
    """Return the names of the files beside a graph that hold its weights."""
    import onnx

    model = onnx.load(graph, load_external_data=False)
    constants = [attribute.t for node in model.graph.node for attribute in node.attribute if node.op_type == "Constant"]
    tensors = [*model.graph.initializer, *constants]
    return {entry.value for tensor in tensors for entry in tensor.external_data if entry.key == "location"}


def _quantize(graph: Path, target: Path) -> None:
    """Write a graph with 8-bit weights."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(graph)
    _write_as_products(model)
    logging.disable(logging.WARNING)  # it recommends to prepare the graph, which has just been done
    try:
        quantize_dynamic(
            model, target, op_types_to_quantize=["MatMul"], nodes_to_quantize=_layers(model), per_channel=True,
            weight_type=QuantType.QInt8,
        )  # fmt: skip
    finally:
        logging.disable(logging.NOTSET)


def _layers(model: Any) -> list[str]:
    """Return the names of the products by a matrix of weights."""
    matrices = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == MATRIX}
    return [node.name for node in model.graph.node if node.op_type == "MatMul" and node.input[1] in matrices]


def _write_as_products(model: Any) -> None:
    """Write linear layers, and convolutions of width 1, which are some, as products: those are quantized."""
    import onnx

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        weight = weights.get(node.input[1]) if len(node.input) > 1 else None
        nodes += (_product(node, weight, model.graph.initializer) if weight is not None else None) or [node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    onnx.checker.check_model(model)


def _product(node: Any, weight: Any, weights: Any) -> list[Any] | None:
    """Return the nodes that compute what a linear layer does, its matrix among `weights`; None for any other node."""
    from onnx import helper, numpy_helper

    if not _is_linear(node, weight):
        return None
    name, rows, by_frames = node.output[0], node.input[0], node.op_type == "Conv"
    matrix = numpy_helper.to_array(weight)
    matrix = matrix[:, :, 0].T if by_frames else matrix.T if _attribute(node, "transB", 0) else matrix
    weights.append(numpy_helper.from_array(matrix.copy(), f"{name}/weight"))
    nodes = []
    if by_frames:
        nodes.append(helper.make_node("Transpose", [rows], [f"{name}/rows"], perm=[0, 2, 1]))
        rows = f"{name}/rows"
    last = f"{name}/biased" if by_frames else name
    nodes.append(helper.make_node("MatMul", [rows, f"{name}/weight"], [f"{name}/product"], name=f"{name}/product"))
    bias = [*node.input[2:3]] or [f"{name}/bias"]
    if not node.input[2:3]:
        weights.append(numpy_helper.from_array(np.zeros(matrix.shape[1], matrix.dtype), bias[0]))
    nodes.append(helper.make_node("Add", [f"{name}/product", *bias], [last]))
    if by_frames:
        nodes.append(helper.make_node("Transpose", [last], [name], perm=[0, 2, 1]))
    return nodes


def _is_linear(node: Any, weight: Any) -> bool:
    if node.op_type == "Conv":
        return list(weight.dims)[2:] == [1] and _attribute(node, "group", 1) == 1
    return node.op_type == "Gemm" and not _attribute(node, "transA", 0)


def _attribute(node: Any, name: str, usual: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), usual)
