"""What the user reads of a training that cannot be: the error of the job names the fault and what to do."""

import json

import numpy as np
import pytest
from PIL import Image

from service.db.models import Supernet

pytestmark = pytest.mark.slow


def write_pets(folder):
    for title in ("cat", "dog"):
        (folder / title).mkdir(parents=True)
        for number in range(12):
            pixels = np.random.default_rng(number).integers(0, 256, size=(24, 24, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / title / f"{number}.png")


def test_faults_of_a_data_set_are_the_error_of_its_job(small_installation, tmp_path, monkeypatch):
    installation, jobs = small_installation, {}
    places = {name: tmp_path / "sets" / name for name in ("unreadable", "lacking")}
    for place in places.values():
        write_pets(place)
    (places["unreadable"] / "cat" / "3.png").write_bytes(b"not an image")
    for image in sorted((places["lacking"] / "dog").glob("*.png"))[1:]:
        image.unlink()  # one dog cannot be in three splits
    monkeypatch.setenv("BESPOKE_DATASETS", json.dumps({name: str(place) for name, place in places.items()}))
    for number, name in enumerate(places):
        supernet_id = installation.supernet(digest=str(number) * 64)
        with installation.sessions.begin() as session:
            row = session.get(Supernet, supernet_id)
            row.dataset, row.space, row.classes = name, "cifar-mbv3", 2
        jobs[name] = installation.submit("supernet", {"supernet_id": supernet_id})
    installation.start_worker()
    for name, says in (
        ("unreadable", "image cat/3.png cannot be read"),
        ("lacking", "lacks 1 class(es): dog; add samples"),
    ):
        job = installation.wait(jobs[name])
        assert job.state == "failed"
        assert job.error["type"] == "urn:bespoke:problem:invalid_dataset", job.error
        assert says in job.error["detail"] and str(tmp_path) not in json.dumps(job.error)
        assert installation.events(jobs[name], "retrying") == [], "the same files give the same error"
