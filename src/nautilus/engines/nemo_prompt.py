"""What a prompt-conditioned model is told beside the sound: the language, as a number from its own dictionary."""

from collections.abc import Mapping
from typing import Any, Final

from nautilus.errors import UnsupportedError

DETECT: Final = "auto"
"""The entry that leaves the language to the model."""
USUAL: Final = ("en-US", "en")
"""What is meant where nothing is said and the model does not detect."""


class LanguagePrompt:
    """The dictionary of one model: its keys are languages (`de`) or locales (`en-GB`), and perhaps `auto`."""

    def __init__(self, numbers: Mapping[str, int]) -> None:
        self.numbers = {str(key): int(number) for key, number in numbers.items()}
        self.languages = tuple(dict.fromkeys(key[:2].lower() for key in self.numbers if key != DETECT))
        """ISO-639-1 codes."""

    @classmethod
    def of(cls, model: Any) -> "LanguagePrompt | None":
        """Return the prompt of a NeMo model; None for a model that takes none."""
        if not getattr(model, "concat", False):
            return None
        return cls(model.cfg.model_defaults.get("prompt_dictionary") or {})

    def number(self, language: str | None) -> int:
        """Return what stands for a language: itself, else its own locale (`de-DE`), else its first one.

        Raises UnsupportedError for one that the model does not know.
        """
        wanted = (
            (language, f"{language}-{language.upper()}") if language else (DETECT, *USUAL, next(iter(self.numbers)))
        )
        regional = (key for key in self.numbers if language and key.startswith(f"{language}-"))
        for key in (*wanted, *regional):
            if key in self.numbers:
                return self.numbers[key]
        raise UnsupportedError(
            f"The model does not know the language '{language}'; it knows: {', '.join(self.languages)}.", "language"
        )
