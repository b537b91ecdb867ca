"""Nautilus: a speech-to-text server for NVIDIA NeMo models."""


def __getattr__(name: str) -> str:
    """Look the version up only when asked: it takes longer to find than most of the package to import."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import version

    return version("nautilus")
