"""Settings become an open database and an open store."""

import base64
from pathlib import Path

import pytest
from pydantic import SecretStr

from nautilus.errors import ConfigurationError
from nautilus.settings import load_settings
from nautilus.storage.blobs import S3Options, StoredBlobs
from nautilus.storage.database import open_database
from nautilus.storage.place import open_place
from nautilus.storage.sealed import SealedBlobs
from nautilus.storage.settings import StorageSettings
from tests.storage.postgres import Postgres
from tests.storage.s3 import new_bucket
from tests.storage.test_blobs import files

KEY = "k:" + base64.b64encode(bytes(32)).decode()


async def test_everything_lies_in_the_data_folder_by_default(tmp_path: Path) -> None:
    async with open_place(StorageSettings(data_dir=tmp_path / "data")) as place:
        assert (place.database.is_sqlite, type(place.blobs)) == (True, StoredBlobs)
        await place.blobs.put_bytes("t/audio/1", b"x")
    found = {path.relative_to(tmp_path).as_posix() for path in files(tmp_path)}
    assert found == {"data/nautilus.db", "data/blobs/t/audio/1"}


@pytest.mark.parametrize("how", ["variable", "file"])
async def test_keys_seal_what_is_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    (tmp_path / "keys").write_text(KEY + "\n")
    monkeypatch.setenv("NAUTILUS_STORAGE__DATA_DIR", str(tmp_path / "data"))
    if how == "file":
        monkeypatch.setenv("NAUTILUS_STORAGE__ENCRYPTION_KEYS_FILE", str(tmp_path / "keys"))
    else:
        monkeypatch.setenv("NAUTILUS_STORAGE__ENCRYPTION_KEYS", KEY)
    async with open_place(load_settings().storage) as place:
        assert isinstance(place.blobs, SealedBlobs)
        await place.blobs.put_bytes("t/audio/1", b"secret words")
        assert await place.blobs.read_bytes("t/audio/1") == b"secret words"
    assert b"secret" not in (tmp_path / "data" / "blobs" / "t" / "audio" / "1").read_bytes()


async def test_another_database_and_another_store_are_one_setting_each(
    postgres: Postgres, s3: S3Options, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NAUTILUS_STORAGE__DATABASE_URL", postgres.new_database())
    monkeypatch.setenv("NAUTILUS_STORAGE__BLOBS_URL", f"s3://{new_bucket(s3)}/nautilus")
    monkeypatch.setenv("NAUTILUS_STORAGE__DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("NAUTILUS_STORAGE__S3_ENDPOINT", s3.endpoint)
    monkeypatch.setenv("NAUTILUS_STORAGE__S3_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("NAUTILUS_STORAGE__S3_SECRET_ACCESS_KEY", "b")
    settings = load_settings().storage
    with pytest.raises(ConfigurationError, match="nautilus db upgrade"):
        async with open_place(settings):
            pass
    async with open_database(settings.database_url.get_secret_value(), check=False) as database:
        await database.upgrade()
    async with open_place(settings) as place:
        await place.blobs.put_bytes("t/audio/1", b"x")
        assert (place.database.is_sqlite, await place.blobs.read_bytes("t/audio/1")) == (False, b"x")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("keys", "file", "told"),
    [
        (KEY, "keys", "not both"),
        ("", "none", "cannot be read"),
        ("", "empty", "no encryption key"),
        ("x", "", "name:base64"),
    ],
)
async def test_keys_that_cannot_be_used_end_the_start(tmp_path: Path, keys: str, file: str, told: str) -> None:
    (tmp_path / "keys").write_text(KEY)
    (tmp_path / "empty").touch()
    settings = StorageSettings(
        data_dir=tmp_path, encryption_keys=SecretStr(keys), encryption_keys_file=tmp_path / file if file else None
    )
    with pytest.raises(ConfigurationError, match=told):
        async with open_place(settings):
            pass
