"""Recordings into waveforms: decode, resample, enhance, find speech, plan windows.

Pure functions on arrays, but for `sandbox`, which runs the decoder in processes that may die without harm.
Knows nothing of models, requests or settings beyond its own limits.
"""
