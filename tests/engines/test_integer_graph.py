"""Which layers of a graph become integers, and that the graph computes nearly the same."""

from collections import Counter
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest

from nautilus.engines.integer_graph import Range, write_with_integers
from nautilus.engines.onnx import open_session
from nautilus.errors import UnsupportedError

pytestmark = pytest.mark.nemo  # `onnx` comes with it

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.standard_normal((5, 8)).astype(np.float32)


Node: TypeAlias = tuple[str, list[str], str, dict[str, Any]]
"""Kind, inputs, output, attributes."""


def graph(folder: Path, *nodes: Node, frames: bool = False) -> Path:
    """Nodes from `x` to `y`, with a matrix `m`, its like as a convolution `c`, and what may be added: `b`, `row`."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    matrix = RANDOM.standard_normal((8, 8)).astype(np.float32)
    weights = {"m": matrix, "c": matrix[:, :, None], "b": matrix[0], "row": matrix[:1]}
    shape = [1, 8, None] if frames else [None, 8]
    made = helper.make_graph(
        [helper.make_node(kind, inputs, [output], **attributes) for kind, inputs, output, attributes in nodes],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "exact.onnx")
    return folder / "exact.onnx"


def quantized(source: Path, x: np.ndarray) -> Counter[str]:
    """Write the graph with integers, compare what both compute, and count the nodes."""
    import onnx

    target = source.with_name("integers.onnx")
    write_with_integers(source, target, [{"x": x}])
    exact, ours = (open_session(file).run(["y"], {"x": x})[0] for file in (source, target))
    assert np.abs(ours - exact).max() < 0.05 * np.abs(exact).max()
    return Counter(node.op_type for node in onnx.load(target).graph.node)


def test_a_product_takes_in_what_is_added(tmp_path: Path) -> None:
    source = graph(tmp_path, ("MatMul", ["x", "m"], "p", {}), ("Add", ["b", "p"], "y", {}))
    assert quantized(source, ROWS) == {"QuantizeLinear": 1, "MatMulIntegerToFloat": 1}


def test_a_product_that_is_wanted_elsewhere_keeps_to_itself(tmp_path: Path) -> None:
    nodes: list[Node] = [("MatMul", ["x", "m"], "p", {}), ("Add", ["p", "b"], "q", {}), ("Mul", ["p", "q"], "y", {})]
    kinds = quantized(graph(tmp_path, *nodes), ROWS)
    assert kinds == {"QuantizeLinear": 1, "MatMulIntegerToFloat": 1, "Add": 1, "Mul": 1}


def test_layers_that_are_given_the_same_make_integers_of_it_once(tmp_path: Path) -> None:
    nodes: list[Node] = [
        ("MatMul", ["x", "m"], "p", {}),
        ("Gemm", ["x", "m", "b"], "q", {"transB": 1}),
        ("Add", ["p", "q"], "y", {}),
    ]
    kinds = quantized(graph(tmp_path, *nodes), ROWS)
    assert kinds == {"QuantizeLinear": 1, "MatMulIntegerToFloat": 2, "Add": 1}


def test_a_convolution_of_width_1_is_a_product(tmp_path: Path) -> None:
    source = graph(tmp_path, ("Conv", ["x", "c", "b"], "y", {}), frames=True)
    assert quantized(source, ROWS.T[None]) == {"Transpose": 2, "QuantizeLinear": 1, "MatMulIntegerToFloat": 1}


@pytest.mark.parametrize(
    "node",
    [
        ("Gemm", ["x", "m", "b"], "y", {"alpha": 2.0}),
        ("Gemm", ["x", "m", "b"], "y", {"beta": 0.5}),
        ("Gemm", ["x", "m", "row"], "y", {}),
    ],
)
def test_what_is_more_than_a_product_stays_exact(tmp_path: Path, node: Node) -> None:
    with pytest.raises(UnsupportedError, match="has no linear layer"):
        quantized(graph(tmp_path, node), ROWS)


@pytest.mark.parametrize("attributes", [{"strides": [2]}, {"pads": [1, 1]}])
def test_a_convolution_that_skips_frames_or_adds_some_stays_exact(tmp_path: Path, attributes: dict[str, Any]) -> None:
    source = graph(tmp_path, ("Conv", ["x", "c", "b"], "y", attributes), frames=True)
    with pytest.raises(UnsupportedError, match="has no linear layer"):
        quantized(source, ROWS.T[None])


def test_a_range_has_zero_on_a_step() -> None:
    for ends in ((-0.28, 9.0), (0.0, 3.0), (1.0, 3.0), (-4.0, -1.0)):
        step, zero = Range(*ends).fitted()
        assert -int(zero) * step <= min(ends[0], 0) + step / 2
        assert (255 - int(zero)) * step >= max(ends[1], 0) - step / 2
    step, zero = Range(0.0, 0.0).fitted()  # as of a layer that nothing reaches
    assert (float(step), int(zero)) == (1.0, 0)
