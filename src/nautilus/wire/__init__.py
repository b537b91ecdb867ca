"""The words of the outside world: pure translation between its formats and our values.

No I/O, no FastAPI, no model; golden files pin every byte.
"""
