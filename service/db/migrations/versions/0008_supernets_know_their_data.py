"""Supernets know the fingerprint of the data set that they were trained on.

Revision: 0008, after 0007.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table('supernets') as table:
        table.add_column(sa.Column('dataset_fingerprint', sa.String(length=64), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table('supernets') as table:
        table.drop_column('dataset_fingerprint')
