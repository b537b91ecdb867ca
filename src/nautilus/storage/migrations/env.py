"""What Alembic runs: our revisions, on the connection that it was given."""

from alembic import context

from nautilus.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite changes a table by copying it
)
context.run_migrations()
