"""`python -m worker.health`: exit status 0 when a worker of this host beats (the health check of a
container)."""

from __future__ import annotations

import sys
from datetime import timedelta

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from service.db.models import Worker, now
from service.db.session import create_db_engine
from service.settings import Settings
from worker.liveness import host_name


def healthy(database: Engine, settings: Settings) -> bool:
    """Whether a living worker of this host was heard of within `dead_after_s`."""
    recent = now() - timedelta(seconds=settings.dead_after_s)
    mine = select(func.count()).where(
        Worker.host == host_name(), Worker.dead_at.is_(None), Worker.seen_at > recent
    )
    with Session(database) as session:
        return bool(session.scalar(mine))


def main() -> int:
    settings = Settings()
    database = create_db_engine(settings.resolved_database_url)
    try:
        return 0 if healthy(database, settings) else 1
    finally:
        database.dispose()


if __name__ == "__main__":
    sys.exit(main())
