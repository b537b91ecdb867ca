from contextlib import ExitStack

import pytest

from nautilus.errors import OverloadedError
from nautilus.runtime.places import SERVER_SHARE, Places, room

LARGE, SMALL = 1.0, 0.0
SHARES = {LARGE: 0.1 - SERVER_SHARE, SMALL: 0.4 - SERVER_SHARE}


def places(most: int = 0, load: float = 0.5) -> Places:
    return Places(room(SHARES, 2, load, most, on_cpu=True))


def fill(places: Places, look_ahead: float, stack: ExitStack) -> int:
    """Open streams until one is refused; how many that were."""
    count = 0
    while True:
        try:
            stack.enter_context(places.taken(look_ahead))
        except OverloadedError:
            return count
        count += 1


@pytest.mark.parametrize(("look_ahead", "fit"), [(LARGE, 10), (SMALL, 2)])
def test_as_many_are_let_in_as_the_workers_can_do_less_a_reserve(look_ahead: float, fit: int) -> None:
    full = places(load=0.501)  # a little more, as tenths do not add up to one
    with ExitStack() as stack:
        assert fill(full, look_ahead, stack) == fit == full.capacity(look_ahead)
    assert full.refused == 1


def test_a_refusal_says_when_to_come_back() -> None:
    full = places(most=1)
    reason = r"live streams are taken; retry in 5 s"
    with full.taken(LARGE), pytest.raises(OverloadedError, match=reason) as refusal, full.taken(LARGE):
        pass
    assert refusal.value.retry_after == 5.0


def test_who_leaves_gives_the_place_back() -> None:
    one = places(most=1)
    for _ in range(3):
        with one.taken(LARGE):
            assert one.open.total() == 1
    assert (one.open.total(), one.busy, one.refused) == (0, 0.0, 0)


def test_a_smaller_look_ahead_weighs_more() -> None:
    mixed = places(load=0.501)
    with ExitStack() as stack:
        stack.enter_context(mixed.taken(SMALL))
        assert fill(mixed, LARGE, stack) == 6
        assert fill(mixed, SMALL, stack) == 0


def test_one_stream_is_heard_by_the_slowest_of_models() -> None:
    slow = Places(room({LARGE: 3.0}, 1, 0.7, 0, on_cpu=True))
    with ExitStack() as stack:
        assert fill(slow, LARGE, stack) == slow.capacity(LARGE) == 1


def test_the_operator_s_bound_holds_whatever_real_time_allows() -> None:
    with ExitStack() as stack:
        assert fill(places(most=3), LARGE, stack) == 3


def test_the_event_loop_has_a_bound_of_its_own() -> None:
    many = Places(room({LARGE: 1e-6}, 64, 0.5, 0, on_cpu=False))
    assert many.capacity(LARGE) == round(0.5 / SERVER_SHARE)
