import os

import numpy as np

from nautilus.runtime.arena import Arena, new_memory


def pair() -> tuple[Arena, Arena]:
    """Two ends of one memory, as two processes have them."""
    memory = new_memory()
    return Arena(memory), Arena(os.dup(memory))


def test_what_one_end_puts_the_other_end_finds() -> None:
    ours, theirs = pair()
    clips = [np.arange(5, dtype=np.float32), np.empty(0, np.float32), -np.arange(3, dtype=np.float32)]
    samples = ours.put(clips, b"options")
    assert [clip.tolist() for clip in theirs.waveforms([5, 0, 3])] == [clip.tolist() for clip in clips]
    assert theirs.data(samples, len(b"options")) == b"options"


def test_it_grows_from_either_end_and_keeps_what_is_still_looked_at() -> None:
    ours, theirs = pair()
    ours.put([np.ones(10, np.float32)], b"")
    (small,) = theirs.waveforms([10])
    large = np.full(1_000_000, 0.5, np.float32)
    samples = ours.put([large], b"end")
    assert theirs.waveforms([len(large)])[0].sum() == large.sum()
    assert theirs.data(samples, 3) == b"end"
    assert small.tolist() == [0.5] * 10, "an older view sees the memory as it is now"
    reply = bytes(range(256)) * 40_000
    theirs.put([], reply)
    assert ours.data(0, len(reply)) == reply
