"""Owns the accelerator: which models are loaded, who waits for them, and what goes into the next batch.

Knows engines only by their Protocol, and nothing of recordings, formats or HTTP.
"""
