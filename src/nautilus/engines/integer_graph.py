"""An ONNX graph → the same graph with integers: linear layers multiply 7-bit weights by 8-bit values.

Each output of a layer has a scale for its weights, each layer one for what it is given, which is fitted to what some
recordings make of the graph once ("static quantization", Jacob et al. 2018, arXiv:1712.05877). So no neighbour in a
batch changes anything, and nothing has to be looked through for its largest value.
"""

import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from nautilus.errors import UnsupportedError

Feed = dict[str, NDArray[Any]]
"""What a graph is given, by name."""

MATRIX: Final = 2
"""Axes."""
SINGLE: Final = 1
"""Single precision, `onnx.TensorProto.FLOAT`."""
LARGEST: Final = 63
"""Weights have 7 bits: with 8, processors without VNNI add up two products in 16 bits, and overflow."""
STEPS: Final = 255
"""What is heard has 8 bits: the distance of its smallest from its largest value, in steps."""
CONTRIB: Final = "com.microsoft"
"""Where ONNX Runtime defines `MatMulIntegerToFloat` (its ContribOperators.md)."""


@dataclass(frozen=True, slots=True)
class Linear:
    """A product by a matrix of weights, with what is added to it."""

    node: Any
    rows: str
    """What is multiplied: [..., in]; of a convolution [batch, in, frames]."""
    matrix: NDArray[np.float32]
    """[in, out]."""
    bias: str | None
    out: str
    by_frames: bool = False
    """Whether it is written as a convolution of width 1."""


@dataclass(frozen=True, slots=True)
class Range:
    """What a layer was given to multiply."""

    smallest: float
    largest: float

    def fitted(self) -> tuple[np.float32, np.uint8]:
        """Return the length of a step and which step is zero, which is always one."""
        smallest, largest = min(self.smallest, 0.0), max(self.largest, 0.0)
        step = np.float32((largest - smallest) / STEPS or 1.0)
        return step, np.uint8(round(-smallest / step))


def write_with_integers(source: Path, target: Path, feeds: Iterable[Feed]) -> None:
    """Write the graph `source` anew, its scales fitted to what `feeds` make of it. Blocking; needs `onnx`.

    Raises UnsupportedError where there is nothing to fit them to or for, and what going through `feeds` raises.
    """
    import onnx
    from onnx import helper

    ranges = _ranges(source, feeds)
    model = onnx.load(source)
    layers = list(_linear_layers(model.graph))
    writer = _Writer(model.graph, ranges)
    by_node = {layer.node.output[0]: layer for layer in layers}
    added = {layer.out for layer in layers} - by_node.keys()  # by a node of its own, which the layer takes the place of
    for node in model.graph.node:
        if layer := by_node.get(node.output[0]):
            writer.write(layer)
        elif node.output[0] not in added:
            writer.nodes.append(node)
    writer.finish()
    if all(opset.domain != CONTRIB for opset in model.opset_import):
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))
    onnx.save(model, target)


def _ranges(source: Path, feeds: Iterable[Feed]) -> dict[str, Range]:
    """Run the exact graph, and return between what lies that its linear layers are given."""
    import onnx
    import onnxruntime as rt
    from onnx import helper

    model = onnx.load(source)
    names = sorted({layer.rows for layer in _linear_layers(model.graph)})
    if not names:
        raise UnsupportedError(f"{source.name} has no linear layer that could have 8-bit weights.", "model")
    del model.graph.output[:]
    for name, kind in [(name, kind) for kind in ("ReduceMin", "ReduceMax") for name in names]:
        model.graph.node.append(helper.make_node(kind, [name], [f"{name}/{kind}"], keepdims=0))
        model.graph.output.append(helper.make_tensor_value_info(f"{name}/{kind}", onnx.TensorProto.FLOAT, []))
    with tempfile.TemporaryDirectory() as scratch:  # a file, as what is larger than 2 GB has no other form
        graph = Path(scratch) / "watched.onnx"
        onnx.save(model, graph, save_as_external_data=True)  # which also takes the weights from memory
        session = rt.InferenceSession(graph, providers=["CPUExecutionProvider"])
    found = [session.run(None, feed) for feed in feeds]
    if not found:
        raise UnsupportedError("There is no recording to fit the scales to; name some speech.", "recordings")
    extremes = np.array(found, np.float64)
    smallest, largest = extremes[:, : len(names)].min(axis=0), extremes[:, len(names) :].max(axis=0)
    return {name: Range(*ends) for name, *ends in zip(names, smallest.tolist(), largest.tolist(), strict=True)}


def _linear_layers(graph: Any) -> Iterator[Linear]:
    """Yield the products by matrices of weights, and convolutions of width 1, which are some, too."""
    from onnx import numpy_helper

    weights = {tensor.name: tensor for tensor in graph.initializer}
    uses = Counter(name for node in graph.node for name in node.input)
    additions = {name: node for node in graph.node if node.op_type == "Add" for name in node.input}
    for node in graph.node:
        weight = weights.get(node.input[1]) if len(node.input) > 1 else None
        if weight is None or not _is_linear(node, weights):
            continue
        matrix, bias, out = numpy_helper.to_array(weight), next(iter(node.input[2:3]), None), node.output[0]
        if node.op_type == "Conv":
            matrix = matrix[:, :, 0].T
        elif _attribute(node, "transB", 0):
            matrix = matrix.T
        addition = additions.get(out)
        if bias is None and addition is not None and uses[out] == 1:
            other = next(name for name in addition.input if name != out)
            if other in weights and list(weights[other].dims) == [matrix.shape[1]]:
                bias, out = other, addition.output[0]
        yield Linear(node, node.input[0], matrix, bias, out, node.op_type == "Conv")


def _is_linear(node: Any, weights: dict[str, Any]) -> bool:
    weight = weights[node.input[1]]
    if weight.data_type != SINGLE:
        return False
    if node.op_type == "Conv":
        return list(weight.dims)[2:] == [1] and _attribute(node, "group", 1) == 1 and not any(_strides_and_pads(node))
    if node.op_type == "Gemm":
        return not _attribute(node, "transA", 0) and not any(_factors(node)) and _is_vector(weights, node.input[2:3])
    return node.op_type == "MatMul" and len(weight.dims) == MATRIX


def _is_vector(weights: dict[str, Any], bias: Sequence[str]) -> bool:
    """Whether what is added is one number for each output, or nothing."""
    return all(name in weights and len(weights[name].dims) == 1 for name in bias)


def _factors(node: Any) -> Iterator[bool]:
    """Yield what makes more or less of a layer's product or of what it adds."""
    for attribute in node.attribute:
        if attribute.name in ("alpha", "beta"):
            yield attribute.f != 1.0


def _attribute(node: Any, name: str, usual: int) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == name), usual)


def _strides_and_pads(node: Any) -> Iterator[bool]:
    """Yield what of a convolution's steps and edges is unlike a product's."""
    for attribute in node.attribute:
        if attribute.name == "strides":
            yield any(step != 1 for step in attribute.ints)
        if attribute.name == "pads":
            yield any(attribute.ints)


class _Writer:
    """The nodes of a graph, written anew."""

    def __init__(self, graph: Any, ranges: dict[str, Range]) -> None:
        self.nodes: list[Any] = []
        self._graph = graph
        self._ranges = ranges
        self._there: set[str] = set()
        self._replaced: set[str] = set()

    def write(self, layer: Linear) -> None:
        """Write a layer with integers."""
        self._replaced.add(layer.node.input[1])
        name = f"{layer.out}/quantized"
        scales = np.maximum(np.abs(layer.matrix).max(axis=0), np.finfo(np.float32).tiny) / LARGEST
        matrix = [
            self._weight(f"{name}/weight", np.rint(layer.matrix / scales).astype(np.int8)),
            self._weight(f"{name}/scales", scales.astype(np.float32)),
            self._weight(f"{name}/zeros", np.zeros(len(scales), np.int8)),
        ]
        rows = self._integers(layer)
        inputs = [rows[0], matrix[0], rows[1], matrix[1], rows[2], matrix[2], *([layer.bias] if layer.bias else [])]
        product = f"{name}/product" if layer.by_frames else layer.out
        self._node("MatMulIntegerToFloat", inputs, product, domain=CONTRIB)
        if layer.by_frames:
            self._node("Transpose", [product], layer.out, perm=[0, 2, 1])

    def finish(self) -> None:
        """Leave the graph with what was written, and without the weights that it took the place of."""
        unused = self._replaced - {name for node in self.nodes for name in node.input}
        weights = [tensor for tensor in self._graph.initializer if tensor.name not in unused]
        for things, kept in ((self._graph.node, self.nodes), (self._graph.initializer, weights)):
            del things[:]
            things.extend(kept)

    def _integers(self, layer: Linear) -> tuple[str, str, str]:
        """Write what makes integers of a layer's rows, once for all layers that share them; with step and zero."""
        rows, name = layer.rows, f"{layer.rows}/rows" if layer.by_frames else layer.rows
        whole, step, zero = f"{name}/integers", f"{rows}/step", f"{rows}/zero"
        if whole not in self._there:
            self._there.add(whole)
            if layer.by_frames:
                self._node("Transpose", [rows], name, perm=[0, 2, 1])
            fitted = self._ranges[rows].fitted()
            inputs = [name, self._weight(step, fitted[0]), self._weight(zero, fitted[1])]
            self._node("QuantizeLinear", inputs, whole)
        return whole, step, zero

    def _weight(self, name: str, value: Any) -> str:
        from onnx import numpy_helper

        if name not in self._there:
            self._there.add(name)
            self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
