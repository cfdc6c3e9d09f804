"""Models may be made for limits on size, memory and macs alone, without a device.

Revision: 0009, after 0008.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = '0009'
down_revision = '0008'
branch_labels = None
depends_on = None

_COLUMNS: dict[str, sa.types.TypeEngine[Any]] = {'device_id': sa.String(length=40), 'table_id': sa.String(length=40), 'budget_ms': sa.Float(precision=53)}


def upgrade() -> None:
    with op.batch_alter_table('models', schema=None) as batch_op:
        for column, kind in _COLUMNS.items():
            batch_op.alter_column(column, existing_type=kind, nullable=True)


def downgrade() -> None:
    op.execute('DELETE FROM models WHERE device_id IS NULL')
    with op.batch_alter_table('models', schema=None) as batch_op:
        for column, kind in _COLUMNS.items():
            batch_op.alter_column(column, existing_type=kind, nullable=False)
