"""Checked networks have their own classes.

Check jobs kept what they measured under the default classes of the space. A check measures only networks that were
measured before, so a row that has no earlier one of its own digest is of the earlier row with the same choices.

Revision: 0005, after 0004.
"""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None

_JOBS = sa.table('jobs', sa.column('id'), sa.column('kind'))
_NETWORKS = sa.table(
    'network_measurements',
    *(sa.column(name) for name in ('id', 'device_id', 'space', 'classes', 'architecture_digest', 'session', 'created_at')),
    sa.column('architecture', sa.JSON),
)


def upgrade() -> None:
    connection = op.get_bind()
    columns, checks = _NETWORKS.c, sa.select(_JOBS.c.id).where(_JOBS.c.kind == 'check')
    checked = connection.execute(sa.select(_NETWORKS).where(columns.session.in_(checks))).all()
    if not checked:
        return
    devices = {row.device_id for row in checked}
    others = sa.select(_NETWORKS).where(columns.device_id.in_(devices), columns.session.is_(None) | columns.session.not_in(checks))
    named, alike = set(), {}
    for row in connection.execute(others.order_by(columns.created_at)):
        named.add((row.device_id, row.space, row.architecture_digest))
        alike[row.device_id, row.space, json.dumps(row.architecture, sort_keys=True)] = row
    for row in checked:
        known = alike.get((row.device_id, row.space, json.dumps(row.architecture, sort_keys=True)))
        if known is not None and (row.device_id, row.space, row.architecture_digest) not in named:
            mended = {'classes': known.classes, 'architecture_digest': known.architecture_digest}
            connection.execute(sa.update(_NETWORKS).where(columns.id == row.id).values(**mended))


def downgrade() -> None:
    """Nothing to undo: the rows are right."""
