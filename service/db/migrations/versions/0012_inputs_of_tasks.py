"""A measuring task says every input of its network: name, shape, element type.

Revision: 0012, after 0011. Tasks of before have one float32 input of their `input_shape`.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0012'
down_revision = '0011'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column('measurement_tasks', sa.Column('inputs', sa.JSON(), nullable=True))


def downgrade() -> None:
    op.drop_column('measurement_tasks', 'inputs')
