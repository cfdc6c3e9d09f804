"""measurements may hold the energy of one run

Revision: 0007, after 0006.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_TABLES = ("latency_rows", "network_measurements")


def upgrade() -> None:
    for table in _TABLES:
        op.add_column(table, sa.Column("energy_mj", sa.Float(precision=53), nullable=True))


def downgrade() -> None:
    for table in _TABLES:
        op.drop_column(table, "energy_mj")
