"""Jobs and webhooks know the trace that they belong to."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns."""
    for table in ("jobs", "deliveries"):
        op.add_column(table, sa.Column("trace", sa.JSON()))
