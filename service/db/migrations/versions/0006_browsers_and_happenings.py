"""browser sessions, login links, what happened in a tenant; names and notes of jobs and models

Revision: 0006, after 0005.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        'happenings',
        sa.Column('position', sa.BigInteger().with_variant(sa.Integer(), 'sqlite'), autoincrement=True, nullable=False),
        sa.Column('tenant_id', sa.String(length=40), nullable=False),
        sa.Column('at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('kind', sa.String(length=16), nullable=False),
        sa.Column('subject', sa.String(length=64), nullable=False),
        sa.Column('data', sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint('position'),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f('ix_happenings_at'), 'happenings', ['at'], unique=False)
    op.create_table(
        'login_links',
        sa.Column('digest', sa.LargeBinary(length=32), nullable=False),
        sa.Column('key_id', sa.String(length=40), nullable=False),
        sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('used_at', sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(['key_id'], ['api_keys.id']),
        sa.PrimaryKeyConstraint('digest'),
    )
    op.create_index(op.f('ix_login_links_key_id'), 'login_links', ['key_id'], unique=False)
    op.create_table(
        'browser_sessions',
        sa.Column('id', sa.String(length=40), nullable=False),
        sa.Column('key_id', sa.String(length=40), nullable=False),
        sa.Column('cookie_digest', sa.LargeBinary(length=32), nullable=False),
        sa.Column('proof_digest', sa.LargeBinary(length=32), nullable=False),
        sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
        sa.Column('ended_at', sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(['key_id'], ['api_keys.id']),
        sa.PrimaryKeyConstraint('id'),
        sa.UniqueConstraint('cookie_digest'),
    )
    op.create_index(op.f('ix_browser_sessions_key_id'), 'browser_sessions', ['key_id'], unique=False)
    for table in ('jobs', 'models'):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.add_column(sa.Column('name', sa.String(length=128), nullable=True))
            batch_op.add_column(sa.Column('note', sa.Text(), nullable=True))


def downgrade() -> None:
    for table in ('models', 'jobs'):
        with op.batch_alter_table(table, schema=None) as batch_op:
            batch_op.drop_column('note')
            batch_op.drop_column('name')
    op.drop_index(op.f('ix_browser_sessions_key_id'), table_name='browser_sessions')
    op.drop_table('browser_sessions')
    op.drop_index(op.f('ix_login_links_key_id'), table_name='login_links')
    op.drop_table('login_links')
    op.drop_index(op.f('ix_happenings_at'), table_name='happenings')
    op.drop_table('happenings')
