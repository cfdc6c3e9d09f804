from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from service.artifacts import ArtifactStore
from service.db.models import Tenant
from service.db.session import create_db_engine, session_factory
from service.jobs.queue import JobQueue
from service.settings import Settings
from supernets.network import Supernet
from supernets.spaces.catalog import space_named
from tests.worker.installation import Installation
from worker.context import WorkerContext
from worker.pipelines.ready_supernet import ReadySupernet


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


@pytest.fixture
def context(tmp_path: Path, migrated_sqlite: str) -> Iterator[WorkerContext]:
    """What the runs of a worker share, on SQLite."""
    engine, queue = create_db_engine(migrated_sqlite), JobQueue(migrated_sqlite)
    made = WorkerContext(
        Settings(data_dir=tmp_path),
        "w1",
        session_factory(engine),
        ArtifactStore(tmp_path / "artifacts"),
        queue._client,
    )
    with made.sessions.begin() as session:
        session.add(Tenant(id="ten_1", name="one"))
    yield made
    queue.close()
    engine.dispose()


@pytest.fixture
def ready(context: WorkerContext) -> ReadySupernet:
    """A supernet with random weights."""
    space = space_named("digits-mbv3")
    weights, _ = context.store.put(
        save(Supernet(space, generator=torch.Generator().manual_seed(0)).state_dict())
    )
    return ReadySupernet("sup_1", space, "digits", "trial", 0, weights, {})
