"""Keywords for transducers in NeMo: its phrase-boosting tree takes part in greedy decoding.

Source: Andrusenko et al., TurboBias: Universal ASR Context-Biasing powered by GPU-accelerated Phrase-Boosting Tree
(2025); nemo/collections/asr/parts/context_biasing. The tree only decides between sub-words: where the model hears
silence, nothing is said.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

from nautilus.engines.ctc import CtcVocabulary
from nautilus.engines.spelling import written
from nautilus.engines.words import WORD_START

WEIGHT: Final = 0.5
"""Of the tree's scores beside the model's own log-probabilities; NeMo's documentation has 0.5 to 1."""
KEPT_TREES: Final = 64
"""Lists of keywords that stay prepared."""


class TransducerKeywords:
    """The keywords of one loaded transducer. Used from the thread that owns the model."""

    def __init__(self, model: Any, vocabulary: CtcVocabulary) -> None:
        self._model = model
        self._vocabulary = vocabulary
        self._tree = lru_cache(KEPT_TREES)(self._grown)

    @contextmanager
    def expected(self, keywords: Sequence[str]) -> Iterator[None]:
        """Have the decoder expect keywords for the length of the block."""
        tree = self._tree(tuple(keywords)) if keywords else None
        if tree is None:
            yield
            return
        decoder = self._model.decoding.decoding.decoding_computer
        # All of a batch have the same keywords, so that NeMo's slower decoding with a tree for each is not needed.
        decoder.fusion_models, decoder.fusion_models_alpha = [tree], [WEIGHT]
        decoder.reset_cuda_graphs_state()
        try:
            yield
        finally:
            decoder.fusion_models, decoder.fusion_models_alpha = [], []
            decoder.reset_cuda_graphs_state()

    def _grown(self, keywords: tuple[str, ...]) -> Any:
        """Build the tree of all keywords that the vocabulary can write; None if there are none."""
        from nemo.collections.asr.parts.context_biasing import BoostingTreeModelConfig, GPUBoostingTreeModel

        texts = (written(keyword, self._vocabulary).replace(WORD_START, " ").strip() for keyword in keywords)
        phrases = [text for text in texts if text]
        if not phrases:
            return None
        wanted = BoostingTreeModelConfig(key_phrases_list=phrases, use_triton=self._model.device.type == "cuda")
        return GPUBoostingTreeModel.from_config(wanted, tokenizer=self._model.tokenizer).to(self._model.device)
