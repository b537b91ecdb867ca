import pytest

from nautilus.wire.prompt import expected_words


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("ZyntriQix, Digique Plus, CynapseFive", ["ZyntriQix", "Digique Plus", "CynapseFive"]),
        ("Glossary: Aimee, Shawn", ["Glossary", "Aimee", "Shawn"]),
        ("kubernetes\nhelm chart", ["kubernetes", "helm chart"]),
        ("metformin", ["metformin"]),
        ("The following talk is about GPT-4 and New York, by Jane Doe.", ["GPT-4", "New York", "by Jane Doe"]),
        ("We were on the way home when it rained and I fell asleep.", []),
        ("NASA said that the iPhone was in orbit for the whole day.", ["NASA", "iPhone"]),
        ("", []),
        (" ,,; ", []),
    ],
)
def test_names_and_terms_are_expected(prompt: str, words: list[str]) -> None:
    assert list(expected_words(prompt)) == words


def test_each_is_expected_once_and_none_is_endless() -> None:
    assert expected_words("Bob, bob, Bob") == ("Bob", "bob")
    assert expected_words("x" * 100 + ", fine") == ("fine",)
    assert len(expected_words(", ".join(f"word {number}" for number in range(2000)))) == 500
