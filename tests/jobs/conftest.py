"""Jobs are kept in a database of each kind."""

from tests.storage.conftest import database, database_url

__all__ = ["database", "database_url"]
