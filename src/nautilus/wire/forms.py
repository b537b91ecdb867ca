"""The fields of a transcription request → what is to be done.

Both official OpenAI clients send arrays as repeated `name[]` and objects as `name[key]`; repeated plain names and JSON
in a string are taken as well. Fields that cannot be honoured raise, or are named in `warnings`: nothing is ignored
silently.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeVar, get_args

from nautilus.errors import BadRequestError, UnsupportedError
from nautilus.types import LEVELS, MAX_KEYWORD_CHARACTERS, MAX_KEYWORDS, Level
from nautilus.wire.languages import language_code
from nautilus.wire.prompt import expected_words
from nautilus.wire.untrusted import read_json

Format = Literal["json", "text", "srt", "verbose_json", "vtt"]
Granularity = Literal["word", "segment"]
FORMATS: Final = get_args(Format)
GRANULARITIES: Final = get_args(Granularity)
SINGLE: Final = frozenset(
    {"model", "language", "prompt", "response_format", "temperature", "stream", "preprocess", "channel", "cache"}
)
REPEATED: Final = frozenset({"languages", "keywords", "timestamp_granularities", "include"})
SPEAKERS: Final = frozenset({"known_speaker_names", "known_speaker_references"})
MAX_CHANNEL: Final = 64
MOST_DIGITS: Final = 9

Choice = TypeVar("Choice", bound=str)


@dataclass(frozen=True, slots=True)
class TranscriptionForm:
    """A transcription request without its file."""

    model: str | None = None
    language: str | None = None
    """ISO-639-1 code."""
    response_format: Format = "json"
    granularities: tuple[Granularity, ...] = ("segment",)
    stream: bool = False
    logprobs: bool = False
    keywords: tuple[str, ...] = ()
    level: Level | None = None
    """None: the server's default."""
    channel: int | None = None
    cache: bool = True
    """Whether a transcript of the same audio may be kept and used again."""
    warnings: tuple[str, ...] = ()
    """What was asked for and cannot be done, in sentences."""


def read_form(fields: Iterable[tuple[str, str]]) -> TranscriptionForm:
    """Read a form's text fields. Raises BadRequestError or UnsupportedError that names the field and the fix."""
    single, repeated, chunking, unknown = _sort(fields)
    response_format = _choice(single.get("response_format", "json"), "response_format", FORMATS)
    stream = _boolean(single.get("stream"), "stream")
    if stream and response_format not in ("json", "text"):
        raise BadRequestError(
            f"stream=true goes with response_format json or text, not {response_format}.", "response_format"
        )
    granularities = repeated.get("timestamp_granularities", [])
    include = [_choice(item, "include[]", ("logprobs",)) for item in repeated.get("include", [])]
    if include and response_format != "json":
        raise BadRequestError("include[]=logprobs goes with response_format json only.", "include[]")
    return TranscriptionForm(
        model=single.get("model") or None,
        language=_language(single.get("language"), repeated.get("languages", [])),
        response_format=response_format,
        granularities=tuple(_choice(item, "timestamp_granularities[]", GRANULARITIES) for item in granularities)
        or ("segment",),
        stream=stream,
        logprobs=bool(include),
        keywords=_keywords(repeated.get("keywords", []), expected_words(single.get("prompt", ""))),
        level=_choice(single["preprocess"], "preprocess", LEVELS) if single.get("preprocess") else None,
        channel=_channel(single.get("channel")),
        cache=_boolean(single.get("cache") or "true", "cache"),
        warnings=tuple(_warnings(single, repeated, chunking, unknown, response_format)),
    )


def _sort(
    fields: Iterable[tuple[str, str]],
) -> tuple[dict[str, str], dict[str, list[str]], dict[str, str], list[str]]:
    """Sort fields into single ones, lists, the parts of chunking_strategy, and unknown ones."""
    single: dict[str, str] = {}
    repeated: dict[str, list[str]] = {}
    chunking: dict[str, str] = {}
    unknown: list[str] = []
    for name, value in fields:
        base, bracket, key = name.partition("[")
        if base in SPEAKERS:
            raise UnsupportedError("This server does not tell speakers apart yet; leave the field out.", name)
        if base == "chunking_strategy":
            chunking |= {key.rstrip("]"): value} if bracket and key != "]" else _chunking(value)
        elif base in REPEATED:
            repeated.setdefault(base, []).append(value)
        elif name in SINGLE:
            single[name] = value
        else:
            unknown.append(name)
    return single, repeated, chunking, unknown


def _chunking(value: str) -> dict[str, str]:
    if value in ("auto", ""):
        return {}
    try:
        return {str(key): str(item) for key, item in read_json(value).items()}
    except (ValueError, AttributeError):
        raise BadRequestError(
            'chunking_strategy is "auto" or an object such as {"type": "server_vad"}.', "chunking_strategy"
        ) from None


def _warnings(
    single: dict[str, str],
    repeated: dict[str, list[str]],
    chunking: dict[str, str],
    unknown: list[str],
    response_format: Format,
) -> Iterable[str]:
    if _temperature(single.get("temperature")):
        yield "temperature has no effect: decoding always takes the most likely words."
    if single.get("prompt"):
        words = ", ".join(expected_words(single["prompt"]))
        yield f"Of the prompt, names and terms are expected as keywords: {words or 'there are none in it'}."[:500]
    if repeated.get("timestamp_granularities") and response_format != "verbose_json":
        yield "timestamp_granularities has no effect without response_format=verbose_json."
    if chunking.keys() - {"type"}:
        yield "chunking_strategy has no effect beyond its type: long audio is always cut in silence."
    if unknown:
        yield f"Unknown fields were ignored: {', '.join(sorted(set(unknown)))[:200]}."


def _choice(value: str, name: str, choices: tuple[Choice, ...]) -> Choice:
    if value not in choices:
        hint = " This server does not tell speakers apart yet." if value == "diarized_json" else ""
        raise BadRequestError(f"{name} must be one of {', '.join(choices)}, not '{value[:50]}'.{hint}", name)
    return value


def _boolean(value: str | None, name: str) -> bool:
    if value is None or value.lower() in ("", "false", "0", "no", "null"):
        return False
    if value.lower() in ("true", "1", "yes"):
        return True
    raise BadRequestError(f"{name} must be true or false, not '{value[:50]}'.", name)


def _temperature(value: str | None) -> float:
    try:
        temperature = float(value) if value else 0.0
    except ValueError:
        temperature = -1.0
    if not 0.0 <= temperature <= 1.0:
        raise BadRequestError(f"temperature must be a number from 0 to 1, not '{str(value)[:50]}'.", "temperature")
    return temperature


def _channel(value: str | None) -> int | None:
    if value is None or value in ("", "mix"):
        return None
    if not value.isascii() or not value.isdigit() or int(value[:MOST_DIGITS]) >= MAX_CHANNEL:
        raise BadRequestError(f"channel must be a number from 0, or mix, not '{value[:50]}'.", "channel")
    return int(value)


def _keywords(given: list[str], prompted: tuple[str, ...]) -> tuple[str, ...]:
    """Return keywords in an order of their own, so that equal lists may share a batch; of a prompt's, what fits in."""
    keywords = tuple(sorted({keyword.strip() for keyword in given if keyword.strip()}))
    if len(keywords) > MAX_KEYWORDS:
        raise BadRequestError(f"{len(keywords)} keywords are too many; send at most {MAX_KEYWORDS}.", "keywords[]")
    if max(map(len, keywords), default=0) > MAX_KEYWORD_CHARACTERS:
        raise BadRequestError(
            f"keywords[] may have {MAX_KEYWORD_CHARACTERS} characters each; shorten the longest.", "keywords[]"
        )
    return tuple(sorted({*keywords, *prompted[: MAX_KEYWORDS - len(keywords)]}))


def _language(single: str | None, several: list[str]) -> str | None:
    """Return the one language asked for; of several candidates the model chooses."""
    codes = []
    for name, given in [("language", single), *(("languages[]", item) for item in several)]:
        if not given or given.lower() in ("auto", "multi"):
            continue
        code = language_code(given)
        if code is None:
            raise BadRequestError(f"{name} must be an ISO-639-1 code such as en, not '{given[:50]}'.", name)
        codes.append(code)
    return codes[0] if len(set(codes)) == 1 else None
