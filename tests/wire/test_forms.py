import pytest

from nautilus.errors import BadRequestError, UnsupportedError
from nautilus.wire.forms import TranscriptionForm, read_form


def test_an_empty_form_has_defaults() -> None:
    assert read_form([]) == TranscriptionForm()


def test_every_field_is_read() -> None:
    form = read_form(
        [
            ("model", "whisper-1"),
            ("language", "en-US"),
            ("response_format", "verbose_json"),
            ("timestamp_granularities[]", "word"),
            ("timestamp_granularities[]", "segment"),
            ("temperature", "0"),
            ("chunking_strategy", "auto"),
            ("preprocess", "high"),
            ("channel", "1"),
        ]
    )
    assert form == TranscriptionForm("whisper-1", "en", "verbose_json", ("word", "segment"), level="high", channel=1)


@pytest.mark.parametrize("name", ["timestamp_granularities[]", "timestamp_granularities", "timestamp_granularities[0]"])
def test_lists_are_taken_however_clients_spell_them(name: str) -> None:
    assert read_form([(name, "word"), ("response_format", "verbose_json")]).granularities == ("word",)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("english", "en"), ("EN", "en"), ("de_DE", "de"), ("auto", None), ("multi", None), ("", None), ("yue", "yue")],
)
def test_languages_are_understood_in_many_spellings(given: str, expected: str | None) -> None:
    assert read_form([("language", given)]).language == expected


def test_one_of_several_languages_is_the_model_s_choice() -> None:
    assert read_form([("languages[]", "en"), ("languages[]", "de")]).language is None
    assert read_form([("languages[]", "de")]).language == "de"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("response_format", "docx"),
        ("response_format", "diarized_json"),
        ("timestamp_granularities[]", "letter"),
        ("include[]", "everything"),
        ("language", "klingon"),
        ("temperature", "hot"),
        ("temperature", "1.5"),
        ("temperature", "nan"),
        ("stream", "maybe"),
        ("preprocess", "extreme"),
        ("channel", "left"),
        ("channel", "-1"),
        ("channel", "1000"),
        ("chunking_strategy", "[1]"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadRequestError) as refusal:
        read_form([(name, value)])
    assert refusal.value.param == name
    assert name in str(refusal.value)


@pytest.mark.parametrize("name", ["known_speaker_names[]", "known_speaker_references[]"])
def test_speakers_are_refused_clearly(name: str) -> None:
    with pytest.raises(UnsupportedError, match="speakers"):
        read_form([(name, "agent")])


@pytest.mark.parametrize("response_format", ["srt", "vtt", "verbose_json"])
def test_streams_are_json_or_text(response_format: str) -> None:
    with pytest.raises(BadRequestError, match="stream"):
        read_form([("stream", "true"), ("response_format", response_format)])


def test_log_probabilities_go_with_json_only() -> None:
    with pytest.raises(BadRequestError, match="json"):
        read_form([("include[]", "logprobs"), ("response_format", "text")])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prompt", "Names: Ada"),
        ("temperature", "0.4"),
        ("timestamp_granularities[]", "word"),
        ("chunking_strategy[threshold]", "0.5"),
        ("chunking_strategy", '{"type": "server_vad", "threshold": 0.5}'),
        ("vad_filter", "true"),
    ],
)
def test_what_has_no_effect_is_told(name: str, value: str) -> None:
    (warning,) = read_form([(name, value)]).warnings
    assert "no effect" in warning or name in warning


def test_a_plain_chunking_strategy_warns_of_nothing() -> None:
    assert read_form([("chunking_strategy[type]", "server_vad")]).warnings == ()


def test_keywords_are_a_set() -> None:
    fields = [("keywords[]", "Nautilus"), ("keywords[]", " Ada "), ("keywords", "Ada"), ("keywords[]", "")]
    assert read_form(fields).keywords == ("Ada", "Nautilus")


@pytest.mark.parametrize("keywords", [["x" * 65], [str(number) for number in range(501)]])
def test_keywords_are_bounded(keywords: list[str]) -> None:
    with pytest.raises(BadRequestError, match="keywords"):
        read_form([("keywords[]", keyword) for keyword in keywords])
