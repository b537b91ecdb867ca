"""Fetching models from the Hugging Face hub into the models folder."""

from pathlib import Path

from nautilus.errors import ModelLoadError

SKIP = ["*int8*", "*.int8.*", "*fp16*", "*.md", ".gitattributes", "*.png"]
"""Files of a repository that no engine here reads."""


def fetch(repository: str, folder: Path, *, offline: bool) -> Path:
    """Download a repository into `folder`, going on where a broken download stopped, and return `folder`.

    Blocking. Raises ModelLoadError if the hub cannot be reached or must not be asked.
    """
    if offline:
        raise ModelLoadError(
            f"{repository} is not installed and NAUTILUS_OFFLINE forbids to fetch it. "
            f"Fetch it on another machine and copy it to {folder}."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    partial = folder.with_name(f".{folder.name}.partial")
    try:
        snapshot_download(repository, local_dir=partial, ignore_patterns=SKIP)
    except (HfHubHTTPError, OSError, ValueError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ModelLoadError(
            f"{repository} could not be fetched ({reason}). Check the name and the network."
        ) from error
    partial.rename(folder)
    return folder
