"""A `.nemo` archive without traces of the machine that trained it."""

import io
import tarfile
from pathlib import Path

from sentencepiece import sentencepiece_model_pb2


def copy_without_paths(source: Path, target: Path) -> None:
    """Copy a `.nemo` file; its SentencePiece model forgets where its training text and itself lay."""
    with tarfile.open(source) as given, tarfile.open(target, "w") as made:
        for member in given.getmembers():
            file = given.extractfile(member)
            if file is None:
                continue
            data = file.read()
            if member.name.endswith("tokenizer.model"):
                data = without_paths(data)
            member.size = len(data)
            member.uname = member.gname = ""
            made.addfile(member, io.BytesIO(data))


def without_paths(model: bytes) -> bytes:
    """Return a SentencePiece model that encodes the same and names no files."""
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model)
    proto.trainer_spec.ClearField("input")
    proto.trainer_spec.ClearField("model_prefix")
    return bytes(proto.SerializeToString())
