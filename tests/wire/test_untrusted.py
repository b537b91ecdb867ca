import json
import sys

import pytest

from nautilus.wire.untrusted import read_json


@pytest.mark.parametrize("given", [{"a": [1, {"b": None}]}, [], "ä\\u0000", 1.5, {"a": "\U0001f600"}])
def test_json_is_read_as_json(given: object) -> None:
    assert read_json(json.dumps(given)) == read_json(json.dumps(given).encode()) == given


@pytest.mark.parametrize(
    "given",
    [
        "[" * sys.getrecursionlimit() * 100,
        "[" * 40 + "]" * 40,
        '{"a":' * 40 + "1" + "}" * 40,
        '"\\ud800"',
        '{"\\udfff": 1}',
        '"a\\u0000b"',
        '"a\\\\\\u0000b"',
        "NaN",
        "[Infinity]",
        b'"\xff"',
        '{"a": 1}'.encode("utf-16"),
        "9" * 5000,
        "",
    ],
    ids=lambda given: repr(given[:20]),
)
def test_what_later_steps_can_t_take_is_refused(given: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - of whatever kind
        read_json(given)
