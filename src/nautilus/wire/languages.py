"""Names of languages as OpenAI's clients know them: ISO-639-1 code ↔ lower-case English name."""

from typing import Final

NAMES: Final = {
    "af": "afrikaans", "ar": "arabic", "az": "azerbaijani", "be": "belarusian", "bg": "bulgarian", "bn": "bengali",
    "bs": "bosnian", "ca": "catalan", "cs": "czech", "cy": "welsh", "da": "danish", "de": "german", "el": "greek",
    "en": "english", "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish",
    "fr": "french", "ga": "irish", "gl": "galician", "gu": "gujarati", "he": "hebrew", "hi": "hindi",
    "hr": "croatian", "hu": "hungarian", "hy": "armenian", "id": "indonesian", "is": "icelandic", "it": "italian",
    "ja": "japanese", "ka": "georgian", "kk": "kazakh", "kn": "kannada", "ko": "korean", "lt": "lithuanian",
    "lv": "latvian", "mk": "macedonian", "ml": "malayalam", "mr": "marathi", "ms": "malay", "mt": "maltese",
    "nb": "norwegian", "ne": "nepali", "nl": "dutch", "nn": "nynorsk", "no": "norwegian", "pa": "punjabi",
    "pl": "polish", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sk": "slovak", "sl": "slovenian",
    "sq": "albanian", "sr": "serbian", "sv": "swedish", "sw": "swahili", "ta": "tamil", "te": "telugu",
    "th": "thai", "tl": "tagalog", "tr": "turkish", "uk": "ukrainian", "ur": "urdu", "vi": "vietnamese",
    "yue": "cantonese", "zh": "chinese",
}  # fmt: skip
CODES: Final = {name: code for code, name in reversed(NAMES.items())}


def language_name(code: str | None) -> str:
    """Return the English name of a language; `unknown` where the model did not say."""
    return NAMES.get(code, code) if code else "unknown"


def language_code(given: str) -> str | None:
    """Return the code that `en`, `en-US`, `EN_us` or `english` means; None where it means none."""
    text = given.strip().lower().replace("_", "-")
    if text in CODES:
        return CODES[text]
    code = text.split("-")[0]
    return code if code in NAMES else None
