"""What the tests of access stand on."""

from tests.storage.conftest import database, database_url

__all__ = ["database", "database_url"]
