"""Nautilus: a speech-to-text server for NVIDIA NeMo models."""

from importlib.metadata import version

__version__ = version("nautilus")
