"""A `.nemo` archive fit for others: no traces of the machine that trained it, all that `transcribe()` looks for."""

import io
import tarfile
from pathlib import Path

import yaml
from sentencepiece import sentencepiece_model_pb2


def publish(source: Path, target: Path) -> None:
    """Copy a `.nemo` file for others to use."""
    with tarfile.open(source) as given, tarfile.open(target, "w") as made:
        for member in given.getmembers():
            file = given.extractfile(member)
            if file is None:
                continue
            data = file.read()
            if member.name.endswith("tokenizer.model"):
                data = without_paths(data)
            if member.name.endswith("model_config.yaml"):
                data = with_validation(data)
            member.size = len(data)
            member.uname = member.gname = ""
            made.addfile(member, io.BytesIO(data))


def with_validation(config: bytes) -> bytes:
    """Return a configuration with the section that NeMo's `transcribe()` cannot do without."""
    sections = yaml.safe_load(config)
    sections["validation_ds"] = sections.get("validation_ds") or {"use_start_end_token": False}
    return yaml.safe_dump(sections, sort_keys=False).encode()


def without_paths(model: bytes) -> bytes:
    """Return a SentencePiece model that encodes the same and names no files."""
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(model)
    proto.trainer_spec.ClearField("input")
    proto.trainer_spec.ClearField("model_prefix")
    return bytes(proto.SerializeToString())
