from nautilus.hubs.progress import EVERY, MEGABYTE, in_words


def test_progress_is_told_in_megabytes() -> None:
    told: list[str] = []
    in_words("owner/model", told.append)(312_400_000, 640 * MEGABYTE)
    assert told == ["fetching owner/model: 312 of 640 MB"]


def test_not_every_change_is_told_but_the_end_is() -> None:
    told: list[str] = []
    clock = [0.0]
    progress = in_words("m", told.append, lambda: clock[0])
    for megabytes in range(80):
        progress(megabytes * MEGABYTE, 80 * MEGABYTE)
        clock[0] += EVERY / 8
    progress(80 * MEGABYTE, 80 * MEGABYTE)
    progress(80 * MEGABYTE, 80 * MEGABYTE)
    assert told == [f"fetching m: {done} of 80 MB" for done in range(0, 81, 8)]
