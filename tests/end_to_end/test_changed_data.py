"""A data set that is replaced while jobs on it wait: said, and nothing of the mixture leaves the house."""

import json

import numpy as np
import pytest
from sqlalchemy import select

from service.db.models import Model, Supernet, now
from supernets.data.fingerprint import facts_of
from tests.worker.installation import Installation

pytestmark = pytest.mark.slow


def write(path, seed):
    """Pictures of ten classes, each a shade of its own; other seeds put other classes under the names."""
    generator = np.random.default_rng(seed)
    labels = np.arange(300) % 10
    shades = generator.permutation(10)[labels] * 25
    images = np.clip(shades[:, None, None] + generator.normal(0, 5, (300, 8, 8)), 0, 255).astype(np.uint8)
    np.savez(path, images=images, labels=labels)


def supernet(installation, path, digest):
    facts = facts_of("parts", path, installation.settings.data_dir)
    with installation.sessions.begin() as session:
        row = Supernet(
            id=f"sup_{digest * 8}", tenant_id="ten_1", digest=digest * 64, space="digits-mbv3", dataset="parts",
            recipe="trial", seed=0, classes=10, created_at=now(), dataset_fingerprint=facts.fingerprint,
        )  # fmt: skip
        session.add(row)
        return row.id


def search(installation, supernet_id):
    targets = [{"budget": {"size_bytes": 10**7}}]
    asked = {
        "supernet_id": supernet_id,
        "strategy": "exact",
        "candidates": 2,
        "verify": False,
        "targets": targets,
    }
    return installation.submit("search", asked)


def test_data_that_changes_under_a_queued_job_is_refused_and_nothing_is_delivered(
    tmp_path, migrated_sqlite, monkeypatch
):
    data = tmp_path / "parts.npz"
    monkeypatch.setenv("BESPOKE_DATASETS", json.dumps({"parts": str(data)}))
    write(data, 0)
    with Installation(tmp_path, migrated_sqlite) as installation:
        trained, untrained = (supernet(installation, data, digest) for digest in "ab")
        worker = installation.start_worker()
        before = installation.wait(search(installation, trained), 300)
        assert before.state == "succeeded", before.error
        worker.kill()
        worker.wait()

        jobs = [search(installation, one) for one in (trained, untrained)]
        write(data, 1)  # other classes under the same names, while nobody looks
        installation.start_worker()
        for job in [installation.wait(one, 300) for one in jobs]:
            assert job.state == "failed", job.result
            assert job.error["type"] == "urn:bespoke:problem:invalid_dataset"
            assert "'parts' has changed since" in job.error["detail"]
            assert str(tmp_path) not in json.dumps(job.error)
        with installation.sessions() as session:
            delivered = session.scalars(select(Model)).all()
            assert {m.job_id for m in delivered} == {before.id}, "nothing of the mixture was delivered"
            assert session.get(Supernet, untrained).ready_at is None

        write(data, 0)  # the files are put back: the same job again is what it was
        again = installation.wait(search(installation, trained), 300)
        assert again.state == "succeeded", again.error
