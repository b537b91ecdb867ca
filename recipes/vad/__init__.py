"""Trains the tiny speech detector of `nautilus.audio.vad`.

The room takes the shards of `recipes.embedded`, has Silero VAD label clean speech, mixes noise,
rooms and levels into it and writes `src/nautilus/resources/vad.npz`. Features come from
`nautilus.audio.vad` itself, so training and running cannot drift apart.
"""
