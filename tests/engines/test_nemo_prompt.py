import pytest

from nautilus.engines.nemo_prompt import LanguagePrompt
from nautilus.errors import UnsupportedError

LOCALES = {"en-US": 0, "en-GB": 1, "de-DE": 2, "pt-BR": 3, "auto": 9}


@pytest.mark.parametrize(("language", "number"), [("de", 2), ("en", 0), ("pt", 3), (None, 9)])
def test_a_language_stands_for_its_own_locale_or_its_first_one(language: str | None, number: int) -> None:
    assert LanguagePrompt(LOCALES).number(language) == number


def test_without_detection_nothing_said_means_english_or_what_there_is() -> None:
    assert LanguagePrompt({"de": 4, "en": 5}).number(None) == 5
    assert LanguagePrompt({"de": 4, "fr": 6}).number(None) == 4


def test_a_language_is_its_own_key_where_there_is_one() -> None:
    assert LanguagePrompt({"de-DE": 1, "de": 2}).number("de") == 2


def test_an_unknown_language_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match="'fi'; it knows: en, de, pt"):
        LanguagePrompt(LOCALES).number("fi")
