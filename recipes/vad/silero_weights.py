"""The weights of Silero VAD, from its ONNX graph to what `nautilus.audio.silero` reads.

    python -m recipes.vad.silero_weights --silero GRAPH --out src/nautilus/resources/silero.npz

Needs `onnx`; GRAPH is `silero_vad_16k_sequence.onnx` of the package `silero-vad` 6.2.3.
"""

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[np.float32]]
GATES = ("onnx::LSTM_209", "onnx::LSTM_210", "onnx::LSTM_211")
"""What the graph calls the LSTM's weights for its input, those for its output, and both biases, one after the other."""


def weights(graph: Path) -> Arrays:
    """Return matrices as [in, out], of a convolution [width * in, out]."""
    import onnx
    from onnx import numpy_helper

    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(graph).graph.initializer}
    found = {}
    for index in range(4):
        kernel = stored[f"encoder.{index}.weight"]  # [out, in, width]
        if index == 3:  # sees one frame between two of zeros
            kernel = kernel[:, :, 1:2]
        found[f"conv{index}"] = kernel.transpose(2, 1, 0).reshape(-1, kernel.shape[0])
        found[f"conv{index}_bias"] = stored[f"encoder.{index}.bias"]
    gates, recurrent, biases = (stored[name][0] for name in GATES)
    found |= {"gates": gates.T, "recurrent": recurrent.T, "gates_bias": biases.reshape(2, -1).sum(axis=0)}
    return found | {"out": stored["output.weight"][0, :, 0], "out_bias": stored["output.bias"]}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--silero", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    np.savez_compressed(options.out, **weights(options.silero))


if __name__ == "__main__":
    main()
