"""One weight file for several ONNX graphs."""

import hashlib
from pathlib import Path

import onnx
from onnx import TensorProto

SMALLEST = 256
"""Bytes; smaller constants stay inside the graph, where shape inference needs some of them."""
ALIGNMENT = 64
"""Bytes."""


class WeightFile:
    """Collects tensors by content: what two graphs have in common is stored once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._data = bytearray()
        self._places: dict[bytes, tuple[int, int]] = {}

    def __repr__(self) -> str:
        return f"<WeightFile {self._path.name} tensors={len(self._places)} bytes={len(self._data)}>"

    def take(self, graph: onnx.ModelProto) -> None:
        """Move the graph's large tensors into this file."""
        for tensor in graph.graph.initializer:
            self._move(tensor)
        for node in graph.graph.node:
            for attribute in node.attribute:
                if node.op_type == "Constant" and attribute.name == "value":
                    self._move(attribute.t)

    def _move(self, tensor: TensorProto) -> None:
        raw = onnx.numpy_helper.to_array(tensor).tobytes()
        if len(raw) < SMALLEST:
            return
        key = hashlib.sha256(raw).digest()
        if key not in self._places:
            self._data.extend(b"\0" * (-len(self._data) % ALIGNMENT))
            self._places[key] = (len(self._data), len(raw))
            self._data.extend(raw)
        offset, length = self._places[key]
        for field in ("float_data", "int32_data", "int64_data", "double_data", "raw_data"):
            tensor.ClearField(field)
        del tensor.external_data[:]
        for name, value in (("location", self._path.name), ("offset", offset), ("length", length)):
            entry = tensor.external_data.add()
            entry.key, entry.value = name, str(value)
        tensor.data_location = TensorProto.EXTERNAL

    def save(self) -> int:
        """Write the file; returns its size in bytes."""
        self._path.write_bytes(self._data)
        return len(self._data)
