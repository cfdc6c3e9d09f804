"""latency tables know which version is in use, who imported it and who accepted it

Revision: 0004, after 0003. Until now the newest version was the one in use, so its number becomes its precedence.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_INDEX = "uq_latency_tables_precedence"
_NEW: dict[str, Any] = {
    "created_by": sa.String(length=64),
    "used_by": sa.String(length=64),
    "accepted_by": sa.String(length=64),
    "used_at": sa.DateTime(timezone=True),
    "accepted_at": sa.DateTime(timezone=True),
    "accepted_note": sa.Text(),
}


def upgrade() -> None:
    # Columns are added in place: on SQLite a table that is copied and dropped takes its rows' children along.
    op.add_column("latency_tables", sa.Column("precedence", sa.Integer(), nullable=False, server_default="0"))
    for name, kind in _NEW.items():
        op.add_column("latency_tables", sa.Column(name, kind, nullable=True))
    op.execute("UPDATE latency_tables SET precedence = version, used_at = created_at")
    op.create_index(_INDEX, "latency_tables", ["device_id", "precedence"], unique=True)


def downgrade() -> None:
    op.drop_index(_INDEX, table_name="latency_tables")
    for name in ("precedence", *_NEW):
        op.drop_column("latency_tables", name)
