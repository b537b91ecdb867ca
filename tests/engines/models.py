"""Tiny NeMo models of every family. Their weights are random, but loud: they hear many words in any sound."""

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.random_model import PIECES, config, train_tokenizer

from nautilus.engines.base import Engine
from nautilus.engines.bundle import is_bundle, read_bundle
from nautilus.engines.export import export_model
from nautilus.engines.nemo_streaming import NemoStreamingEngine
from nautilus.engines.onnx import OnnxEngine
from nautilus.engines.onnx_transducer import OnnxTransducerEngine

WIDTH = 64
LAYERS = 2
LOUDNESS = 12.0
"""How much larger the output layer's weights are than NeMo makes them: what wins then changes from frame to frame."""


def build(family: str, out: Path, **preprocessor: object) -> Path:
    """Write a model of the family to `out`; `preprocessor` changes its settings."""
    import torch
    from nemo.utils import logging as nemo_logging
    from omegaconf import OmegaConf

    nemo_logging.setLevel(logging.ERROR)
    torch.manual_seed(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        train_tokenizer(folder)
        settings = config(folder, WIDTH, LAYERS)
        settings["preprocessor"].update(preprocessor)
        settings["encoder"]["feat_in"] = settings["preprocessor"]["features"]
        model = BUILDERS[family](settings, OmegaConf.create)
        model.save_to(str(out))
    return out


def _ctc(settings: dict[str, Any], create: Callable[[Any], Any]) -> Any:
    from nemo.collections.asr.models import EncDecCTCModelBPE

    model = EncDecCTCModelBPE(cfg=create(settings))
    _listen(model, model.decoder.decoder_layers[0])
    model.decoder.decoder_layers[0].bias.data[PIECES] += 5.0
    return model


def _rnnt(settings: dict[str, Any], create: Callable[[Any], Any]) -> Any:
    from nemo.collections.asr.models import EncDecRNNTBPEModel

    model = EncDecRNNTBPEModel(cfg=create(settings | transducer()))
    _listen(model, model.joint.enc)
    _converse(model.joint)
    return model


def _tdt(settings: dict[str, Any], create: Callable[[Any], Any]) -> Any:
    from nemo.collections.asr.models import EncDecRNNTBPEModel

    model = EncDecRNNTBPEModel(cfg=create(settings | transducer((0, 1, 2, 3, 4))))
    _listen(model, model.joint.enc)
    _converse(model.joint)
    return model


def _quartz(settings: dict[str, Any], create: Callable[[Any], Any]) -> Any:
    """Build what a QuartzNet is: convolutions all the way, and characters instead of sub-words."""
    from nemo.collections.asr.models import EncDecCTCModel

    block = {"repeat": 1, "kernel": [11], "dilation": [1], "dropout": 0.0, "residual": False, "separable": True}
    encoder = {
        "_target_": "nemo.collections.asr.modules.ConvASREncoder",
        "feat_in": settings["encoder"]["feat_in"],
        "activation": "relu",
        "conv_mask": True,
        "jasper": [block | {"filters": WIDTH, "stride": [stride]} for stride in (2, 1, 1)],
    }
    characters = [" ", *"abcdefghijklmnopqrstuvwxyz"]  # NeMo's text joins an apostrophe to the word before it
    decoder = settings["decoder"] | {"vocabulary": characters, "num_classes": len(characters)}
    kept = {key: settings[key] for key in ("sample_rate", "preprocessor", "decoding", "optim")}
    model = EncDecCTCModel(cfg=create(kept | {"encoder": encoder, "decoder": decoder, "labels": characters}))
    _listen(model, model.decoder.decoder_layers[0])
    return model


def _hybrid_tdt(settings: dict[str, Any], create: Callable[[Any], Any]) -> Any:
    return _hybrid(settings, create, (0, 1, 2, 3, 4))


def _hybrid(settings: dict[str, Any], create: Callable[[Any], Any], durations: tuple[int, ...] = ()) -> Any:
    from nemo.collections.asr.models import EncDecHybridRNNTCTCBPEModel

    ctc = {"ctc_loss_weight": 0.3, "decoder": settings["decoder"], "decoding": settings["decoding"]}
    model = EncDecHybridRNNTCTCBPEModel(cfg=create(settings | transducer(durations) | {"aux_ctc": ctc}))
    _listen(model, model.joint.enc)
    _converse(model.joint)
    return model


def _streaming(family: str) -> Callable[[dict[str, Any], Callable[[Any], Any]], Any]:
    """Return what builds a model that hears streams: cache-aware, with features that need no whole recording."""

    def build(settings: dict[str, Any], create: Callable[[Any], Any]) -> Any:
        settings["preprocessor"]["normalize"] = "NA"
        return BUILDERS[family](_chunked(settings), create)

    return build


def _cache_aware(settings: dict[str, Any], create: Callable[[Any], Any]) -> Any:
    return _rnnt(_chunked(settings), create)


def _chunked(settings: dict[str, Any]) -> dict[str, Any]:
    """Let nothing look ahead further than its chunk."""
    settings["encoder"] |= {
        "att_context_style": "chunked_limited",
        "att_context_size": [[28, 6], [28, 0]],
        "causal_downsampling": True,
        "conv_context_size": "causal",
        "conv_norm_type": "layer_norm",
    }
    return settings


def _prompted(settings: dict[str, Any], create: Callable[[Any], Any]) -> Any:
    from nemo.collections.asr.models import EncDecRNNTBPEModelWithPrompt

    model = EncDecRNNTBPEModelWithPrompt(cfg=create(_with_languages(settings | transducer())))
    return _speaking_in_tongues(model)


def _prompted_hybrid(settings: dict[str, Any], create: Callable[[Any], Any]) -> Any:
    from nemo.collections.asr.models import EncDecHybridRNNTCTCBPEModelWithPrompt

    ctc = {"ctc_loss_weight": 0.3, "decoder": settings["decoder"], "decoding": settings["decoding"]}
    whole = settings | transducer((0, 1, 2, 3, 4)) | {"aux_ctc": ctc}
    return _speaking_in_tongues(EncDecHybridRNNTCTCBPEModelWithPrompt(cfg=create(_with_languages(whole))))


def _with_languages(settings: dict[str, Any]) -> dict[str, Any]:
    languages = {"en-US": 0, "en-GB": 1, "de-DE": 2, "auto": 3}
    prompted = {"initialize_prompt_feature": True, "num_prompts": 8, "prompt_dictionary": languages}
    return settings | {"model_defaults": settings["model_defaults"] | prompted}


def _speaking_in_tongues(model: Any) -> Any:
    """Let the language change what is heard: the prompt's columns are as loud as the sound's."""
    import torch

    _listen(model, model.joint.enc)
    _converse(model.joint)
    first, last = model.prompt_kernel[0], model.prompt_kernel[2]
    torch.nn.init.orthogonal_(last.weight)
    first.weight.data[:, :WIDTH] = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)])
    last.weight.data = torch.cat([torch.eye(WIDTH), -torch.eye(WIDTH)], dim=1)
    return model


def _aed(settings: dict[str, Any], create: Callable[[Any], Any]) -> Any:
    """Build what a Canary is: one tokenizer for the prompt, one for each language."""
    from nemo.collections.asr.models import EncDecMultiTaskModel
    from nemo.collections.common.tokenizers.canary_tokenizer import CanaryTokenizer

    pieces = Path(settings["tokenizer"]["dir"])
    prompt = ["startofcontext", "emo:undefined", "itn", "noitn", "timestamp", "notimestamp", "diarize", "nodiarize"]
    CanaryTokenizer.build_special_tokenizer([*prompt, "en", "de"], pieces / "prompt")
    aed = {
        "prompt_format": "canary2",
        "restore_timestamps_model": False,  # NeMo would look for it in the file it read last
        "model_defaults": {"asr_enc_hidden": WIDTH, "lm_enc_hidden": WIDTH, "lm_dec_hidden": WIDTH},
        "tokenizer": {
            "type": "agg",
            "dir": None,
            "custom_tokenizer": {"_target_": "nemo.collections.common.tokenizers.canary_tokenizer.CanaryTokenizer"},
            "langs": {
                "spl_tokens": {"dir": str(pieces / "prompt"), "type": "bpe"},
                "en": {"dir": str(pieces), "type": "bpe"},
                "de": {"dir": str(pieces), "type": "bpe"},
            },
        },
    }
    kept = {key: settings[key] for key in ("sample_rate", "preprocessor", "encoder", "optim")}
    model = EncDecMultiTaskModel(cfg=create(kept | aed | attention()))
    for parameter in model.transf_decoder.decoder.parameters():
        if parameter.dim() > 1:
            parameter.data *= LOUDNESS
    special = model.tokenizer.special_tokens
    bias = model.log_softmax.mlp.layer0.bias.data
    bias[list(special.values())] = -100.0
    bias[model.tokenizer.vocab_size :] = -100.0
    bias[special["<|endoftext|>"]] = 1.5
    return model


def attention() -> dict[str, Any]:
    """Return the settings of an attention decoder, as in NeMo's examples."""
    transformer = {"hidden_size": WIDTH, "inner_size": WIDTH, "num_layers": 1, "num_attention_heads": 4}
    dropouts = dict.fromkeys(("embedding_dropout", "ffn_dropout", "attn_score_dropout", "attn_layer_dropout"), 0.0)
    return {
        "transf_decoder": {
            "_target_": "nemo.collections.asr.modules.transformer.get_nemo_transformer",
            "encoder": False,
            "pre_ln_final_layer_norm": True,
            "config_dict": transformer | dropouts | {"max_sequence_length": 30, "num_token_types": 0, "pre_ln": True},
        },
        "head": {
            "_target_": "nemo.collections.asr.parts.submodules.token_classifier.TokenClassifier",
            "num_layers": 1,
            "activation": "relu",
            "log_softmax": True,
            "hidden_size": WIDTH,
            "dropout": 0.0,
        },
        "decoding": {"strategy": "beam", "beam": {"beam_size": 1, "max_generation_delta": -1}},
        "loss": {"_target_": "nemo.collections.common.losses.smoothed_cross_entropy.SmoothedCrossEntropyLoss"},
    }


def transducer(durations: tuple[int, ...] = ()) -> dict[str, Any]:
    """Return the settings that make a transducer, as in NeMo's examples; with durations, a TDT."""
    hidden = {"enc_hidden": WIDTH, "pred_hidden": WIDTH, "joint_hidden": WIDTH}
    greedy = {"strategy": "greedy_batch", "greedy": {"max_symbols": 5}}
    return {
        "model_defaults": hidden | {"tdt_durations": list(durations), "num_tdt_durations": len(durations)},
        "decoder": {
            "_target_": "nemo.collections.asr.modules.RNNTDecoder",
            "normalization_mode": None,
            "random_state_sampling": False,
            "blank_as_pad": True,
            "prednet": {"pred_hidden": WIDTH, "pred_rnn_layers": 1, "t_max": None, "dropout": 0.0},
        },
        "joint": {
            "_target_": "nemo.collections.asr.modules.RNNTJoint",
            "log_softmax": None,
            "preserve_memory": False,
            "fuse_loss_wer": False,
            "num_extra_outputs": len(durations),
            "jointnet": {"joint_hidden": WIDTH, "activation": "relu", "dropout": 0.0},
        },
        "decoding": greedy | ({"model_type": "tdt", "durations": list(durations)} if durations else {}),
        "loss": {"loss_name": "tdt", "tdt_kwargs": {"durations": list(durations)}}
        if durations
        else {"loss_name": "default"},
    }


def _listen(model: Any, layer: Any) -> None:
    """Give a layer on top of the encoder weights that make the most of how the encoding differs from frame to frame."""
    import torch

    model.eval()
    sound = torch.from_numpy(np.random.default_rng(0).standard_normal((1, 160_000)).astype(np.float32))
    sound *= torch.linspace(0.0, 60.0, sound.shape[1]).sin() * 0.1
    with torch.inference_mode():
        features, frames = model.preprocessor(input_signal=sound, length=torch.tensor([sound.shape[1]]))
        encoded, _ = model.encoder(audio_signal=features, length=frames)
    mean, deviation = encoded[0].mean(dim=1), encoded[0].std(dim=1)
    weight = torch.randn(layer.weight.shape[0], WIDTH) / deviation
    layer.weight.data = weight.view_as(layer.weight)
    layer.bias.data = -weight @ mean


def _converse(joint: Any) -> None:
    """Let what was said change what comes next, and the blank win often, as it does in speech."""
    joint.pred.weight.data *= LOUDNESS
    joint.joint_net[-1].weight.data *= LOUDNESS / 2
    joint.joint_net[-1].bias.data[PIECES] += 22.0
    joint.joint_net[-1].bias.data[0] = -100.0  # what is unknown, NeMo's text spells as a word of its own


BUILDERS: dict[str, Callable[[dict[str, Any], Callable[[Any], Any]], Any]] = {
    "ctc": _ctc,
    "rnnt": _rnnt,
    "tdt": _tdt,
    "hybrid": _hybrid,
    "hybrid-tdt": _hybrid_tdt,
    "quartz": _quartz,
    "aed": _aed,
    "cache-aware": _cache_aware,
    "streaming-ctc": _streaming("ctc"),
    "streaming-rnnt": _streaming("rnnt"),
    "streaming-tdt": _streaming("tdt"),
    "streaming-hybrid": _streaming("hybrid"),
    "prompted": _prompted,
    "prompted-hybrid": _prompted_hybrid,
}


class TinyModels:
    """One model of each family, its export, and the engines that serve them; each made when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._engines: dict[tuple[str, str], Engine] = {}

    def nemo_file(self, family: str) -> Path:
        """A `.nemo` file."""
        path = self._folder / f"{family}.nemo"
        return path if path.exists() else build(family, path)

    def exported(self, family: str) -> Path:
        """What `nautilus export` makes of it."""
        folder = self._folder / f"{family}-exported"
        if not folder.exists():
            export_model(str(self.nemo_file(family)), folder)
        return folder

    def nemo(self, family: str) -> Engine:
        """NeMo's engine on the `.nemo` file."""
        return self._engine("nemo", family, lambda: NemoStreamingEngine(family, self.nemo_file(family)))

    def onnx(self, family: str) -> Engine:
        """The engine for what was exported."""
        return self._engine("onnx", family, lambda: self._open(family))

    def _open(self, family: str) -> Engine:
        return serve(self.exported(family), family)

    def _engine(self, runtime: str, family: str, load: Callable[[], Engine]) -> Engine:
        if (runtime, family) not in self._engines:
            self._engines[runtime, family] = load()
        return self._engines[runtime, family]


def serve(folder: Path, name: str) -> Engine:
    """Open what was exported."""
    return OnnxEngine(read_bundle(folder)) if is_bundle(folder) else OnnxTransducerEngine(folder, name, ())
