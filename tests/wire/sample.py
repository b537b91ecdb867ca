"""One transcript that the tests of every format render."""

from nautilus.types import AudioFacts, Segment, Timings, Token, Transcript, Word

WORDS = (
    Word("hello", 0.24, 0.56, 0.9, (Token(" hel", -0.1), Token("lo", -0.2))),
    Word("world.", 0.64, 1.04, 0.8, (Token(" world", -0.2), Token(".", -0.1))),
    Word("fish", 2.4, 2.8, 0.7, (Token(" fish", -0.3),)),
    Word("&", 2.88, 2.96, 0.5, (Token(" &", -0.7),)),
    Word("chips", 3.04, 3.5, 0.6, (Token(" chips", -0.5),)),
)
SEGMENTS = (Segment(0.24, 1.04, WORDS[:2]), Segment(2.4, 3.5, WORDS[2:]))
AUDIO = AudioFacts(3.71, 44_100, 2, "wav", "pcm_s16le", 3.71, 31.5)
TRANSCRIPT = Transcript(
    "hello world. fish & chips", SEGMENTS, "nautilus-en", "en", AUDIO, Timings(0.001, 0, 0.002, 0.02, 0.0251)
)
