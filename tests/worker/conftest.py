from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.worker.installation import Installation


@pytest.fixture
def installation(tmp_path: Path, database_url: str) -> Iterator[Installation]:
    """On SQLite and on PostgreSQL."""
    with Installation(tmp_path, database_url) as made:
        yield made


@pytest.fixture
def small_installation(tmp_path: Path, migrated_sqlite: str) -> Iterator[Installation]:
    """On SQLite only, for what has nothing to do with the database."""
    with Installation(tmp_path, migrated_sqlite) as made:
        yield made
