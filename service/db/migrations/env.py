"""Alembic's entry: migrates over the connection that `service.db.migrate` hands it."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context

from service.db.migrate import ours
from service.db.models import Base, UtcDateTime


def render(kind: str, item: Any, _autogenerate_context: Any) -> str | Literal[False]:
    """Our own column type as the type it stores, so that a migration needs no code of ours."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    include_name=ours,
    compare_type=True,
    render_as_batch=connection.dialect.name == "sqlite",
    render_item=render,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
