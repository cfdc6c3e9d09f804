"""Supernets keep what else was asked of their training.

Revision: 0013, after 0012.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0013'
down_revision = '0012'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('supernets', sa.Column('options', sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column('supernets', 'options')
