"""`python -m worker.health`: exit status 0 when a worker of this host beats (the health check of a
container)."""

from __future__ import annotations

import sys

from service.db import workers
from service.db.session import Engine, create_db_engine, session_factory
from service.settings import Settings
from worker.liveness import host_name


def healthy(database: Engine, settings: Settings) -> bool:
    """Whether a living worker of this host was heard of within `dead_after_s`."""
    with session_factory(database)() as session:
        return workers.heard_of(session, host_name(), settings.dead_after_s)


def main() -> int:
    settings = Settings()
    database = create_db_engine(settings.resolved_database_url)
    try:
        return 0 if healthy(database, settings) else 1
    finally:
        database.dispose()


if __name__ == "__main__":
    sys.exit(main())
