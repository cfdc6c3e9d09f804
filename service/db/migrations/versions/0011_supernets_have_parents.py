"""Supernets say which other one's weights they began with.

Revision: 0011, after 0010.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('supernets', sa.Column('parent_id', sa.String(length=40), nullable=True))


def downgrade() -> None:
    op.drop_column('supernets', 'parent_id')
