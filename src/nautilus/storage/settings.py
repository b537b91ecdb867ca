"""What an operator can change about where things lie and for how long. Imports no library of databases or stores."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, SecretStr

UNSET: Final = SecretStr("")
NotNegative = Annotated[float, Field(ge=0)]


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Where jobs, audio, transcripts and usage lie, and for how long."""

    data_dir: Path = Path("~/.local/share/nautilus")
    """The folder of the database and of the blobs, unless these lie elsewhere."""
    database_url: SecretStr = UNSET
    """`postgresql://user:password@host/name` or `sqlite:////path/to/file`; empty: SQLite in the data folder."""
    blobs_url: str = ""
    """A folder or `s3://bucket/prefix` for audio and transcripts; empty: a folder in the data folder."""
    s3_endpoint: str = ""
    """Address of an S3-compatible store that is not AWS, `https://…`."""
    s3_region: str = ""
    """Region of the bucket; empty: from `AWS_REGION`, or us-east-1."""
    s3_access_key_id: SecretStr = UNSET
    """Who asks the store; empty: from `AWS_ACCESS_KEY_ID` or the machine's role."""
    s3_secret_access_key: SecretStr = UNSET
    """Proves it; empty: from `AWS_SECRET_ACCESS_KEY` or the machine's role."""
    encryption_keys: SecretStr = UNSET
    """Master keys of 32 bytes, `name:base64,…`: the first seals, all of them open. Empty: no encryption."""
    encryption_keys_file: Path | None = None
    """A file of such keys, one on a line, instead."""
    cache_bytes: Annotated[int, Field(ge=0)] = 1024**3
    """Room for transcripts that answer the same audio again; 0: none."""
    cache_seconds: NotNegative = 7 * 86400.0
    """How long such a transcript is used."""
    keep_jobs: NotNegative = 90 * 86400.0
    """Seconds that a job is listed, without its transcripts, after these have expired; its webhooks as long."""
    keep_events: NotNegative = 7 * 86400.0
    """Seconds that the events of jobs are kept for clients that come back."""
    keep_requests: NotNegative = 400 * 86400.0
    """Seconds that usage can be asked for."""
    keep_orphans: Annotated[float, Field(ge=3600)] = 86400.0
    """Seconds after which a blob that belongs to nothing is deleted. Longer than any upload takes."""
