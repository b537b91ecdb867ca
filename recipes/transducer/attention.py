"""A small Canary: an attention decoder, told the language by a prompt, on the embedded model's encoder."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf
from recipes.transducer.model import HIDDEN, restored, tokenizer_of
from torch import Tensor

PARTS = ("encoder_decoder_proj", "transf_decoder", "log_softmax")
"""What is trained."""
LONGEST = 64
"""Tokens of prompt and answer."""
TIMESTAMPS = ("<|notimestamp|>", "<|timestamp|>")
SLOTS = {
    "decodercontext": "",
    "emotion": "<|emo:undefined|>",
    "source_lang": "<|en|>",
    "target_lang": "<|en|>",
    "pnc": "<|pnc|>",
    "itn": "<|noitn|>",
    "diarize": "<|nodiarize|>",
}


def create_attention() -> Any:  # NeMo is untyped
    """Return the model with the embedded encoder and everything else at random."""
    from nemo.collections.asr.models import EncDecMultiTaskModel
    from nemo.collections.common.tokenizers.canary_tokenizer import CanaryTokenizer

    teacher = restored()
    kept = OmegaConf.to_container(teacher.cfg, resolve=True)
    config = {key: kept[key] for key in ("sample_rate", "preprocessor", "encoder")}
    prompt = ["startofcontext", "emo:undefined", "itn", "noitn", "timestamp", "notimestamp", "diarize", "nodiarize"]
    special = Path(tempfile.mkdtemp())
    CanaryTokenizer.build_special_tokenizer([*prompt, "en"], special)
    languages = {
        "spl_tokens": {"dir": str(special), "type": "bpe"},
        "en": {"dir": str(tokenizer_of(teacher)), "type": "bpe"},
    }
    width = config["encoder"]["d_model"]
    config |= settings() | {
        "prompt_format": "canary2",
        "restore_timestamps_model": False,  # NeMo would look for it in the file it read last
        "model_defaults": {"asr_enc_hidden": width, "lm_enc_hidden": HIDDEN, "lm_dec_hidden": HIDDEN},
        "tokenizer": {
            "type": "agg",
            "dir": None,
            "custom_tokenizer": {"_target_": "nemo.collections.common.tokenizers.canary_tokenizer.CanaryTokenizer"},
            "langs": languages,
        },
    }
    model = EncDecMultiTaskModel(cfg=OmegaConf.create(config))
    model.encoder.load_state_dict(teacher.encoder.state_dict())
    return model.eval()


def settings() -> dict[str, Any]:
    """Return the settings of the decoder, as in NeMo's examples."""
    transformer = {"hidden_size": HIDDEN, "inner_size": 2 * HIDDEN, "num_layers": 2, "num_attention_heads": 4}
    dropouts = dict.fromkeys(("embedding_dropout", "ffn_dropout", "attn_score_dropout", "attn_layer_dropout"), 0.1)
    return {
        "transf_decoder": {
            "_target_": "nemo.collections.asr.modules.transformer.get_nemo_transformer",
            "encoder": False,
            "pre_ln_final_layer_norm": True,
            "config_dict": transformer
            | dropouts
            | {"max_sequence_length": LONGEST, "num_token_types": 0, "pre_ln": True},
        },
        "head": {
            "_target_": "nemo.collections.asr.parts.submodules.token_classifier.TokenClassifier",
            "num_layers": 1,
            "activation": "relu",
            "log_softmax": True,
            "hidden_size": HIDDEN,
            "dropout": 0.0,
        },
        "decoding": {"strategy": "beam", "beam": {"beam_size": 1, "max_generation_delta": LONGEST // 2}},
        "loss": {"_target_": "nemo.collections.common.losses.smoothed_cross_entropy.SmoothedCrossEntropyLoss"},
    }


def answer(model: Any, text: str, timestamp: str) -> tuple[list[int], int]:
    """Return the tokens of prompt and answer, and how many of them are the prompt's."""
    dialog = model.prompt.encode_dialog(
        [
            {"role": "user", "slots": SLOTS | {"timestamp": timestamp, "prompt_language": "spl_tokens"}},
            {"role": "assistant", "slots": {"text": text, "prompt_language": "en"}},
        ]
    )
    return dialog["input_ids"].tolist(), len(dialog["context_ids"])


def attention_loss(model: Any, batch: list[tuple[Tensor, str]]) -> Tensor:
    """Return the mean cross-entropy of the answers' tokens; half of them are asked for times, and know none."""
    encoding = torch.nn.utils.rnn.pad_sequence([sound for sound, _ in batch], batch_first=True)
    frames = torch.tensor([len(sound) for sound, _ in batch])
    answers = [answer(model, text, TIMESTAMPS[place % 2]) for place, (_, text) in enumerate(batch)]
    tokens = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids, _ in answers], batch_first=True)
    lengths = torch.tensor([[len(ids)] for ids, _ in answers])
    prompts = torch.tensor([[count] for _, count in answers])
    places = torch.arange(tokens.shape[1])
    states = model.encoder_decoder_proj(encoding)
    decoded = model.transf_decoder(
        input_ids=tokens[:, :-1],
        decoder_mask=(places[:-1] < lengths - 1).to(states.dtype),
        encoder_embeddings=states,
        encoder_mask=(torch.arange(encoding.shape[1]) < frames[:, None]).to(states.dtype),
    )
    scores = model.log_softmax(hidden_states=decoded)
    wanted = (places[1:] >= prompts) & (places[1:] < lengths)
    return -scores.gather(2, tokens[:, 1:, None])[..., 0][wanted].mean()


def transcripts(model: Any, data: list[tuple[Tensor, str]]) -> list[str]:
    """Say what the model hears in encodings."""
    tokens, count = answer(model, "", TIMESTAMPS[0])
    said = []
    with torch.inference_mode():
        for encoding, _ in data:
            states, mask = model.encoder_decoder_proj(encoding[None]), torch.ones(1, len(encoding))
            (result,) = model.decoding.decode_predictions_tensor(states, mask, torch.tensor([tokens[:count]]))
            said.append(result if isinstance(result, str) else result.text)
    return said
