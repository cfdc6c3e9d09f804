"""Data that changes under its name is another set: with a supernet of its own, listed, never mixed with what
was scored."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from service.datasets import check_trained_on
from service.db.models import Supernet, now
from supernets.errors import InvalidDataset
from tests.service.api import is_problem


def write(path, seed=0):
    images = np.random.default_rng(seed).integers(0, 256, size=(60, 8, 8)).astype(np.uint8)
    np.savez(path, images=images, labels=np.arange(60) % 10)


@pytest.fixture
def parts(make_api, tmp_path):
    write(tmp_path / "parts.npz")
    return make_api(datasets={"parts": tmp_path / "parts.npz"}), tmp_path / "parts.npz"


def train(api):
    answer = api.post("/v1/supernets", {"space": "digits-mbv3", "dataset": "parts", "recipe": "trial"})
    assert answer.status_code == 202
    return answer.json()


def test_other_samples_under_the_same_name_get_a_supernet_of_their_own(parts):
    api, path = parts
    first, again = train(api), train(api)
    assert first["id"] == again["id"] and first["remarks"] == []
    write(path, seed=1)
    second = train(api)
    assert second["id"] != first["id"]
    assert "another set than the one that 1 earlier supernet(s) were trained on" in second["remarks"][0]
    nets = api.get("/v1/supernets").json()["items"]
    assert len({net["dataset_fingerprint"] for net in nets}) == 2
    write(path)  # the old samples again: the old supernet again
    assert train(api)["id"] == first["id"]


def test_the_list_shows_what_had_the_name_before(parts):
    api, path = parts
    train(api)
    write(path, seed=1)
    (listed,) = [d for d in api.get("/v1/datasets").json()["items"] if d["name"] == "parts"]
    assert listed["class_names"] == list("0123456789") and listed["fault"] is None
    current, before = listed["versions"]
    assert current["fingerprint"] == listed["fingerprint"] != before["fingerprint"]
    assert (current["current"], current["supernets"], before["current"], before["supernets"]) == (
        True,
        0,
        False,
        1,
    )


def test_a_supernet_of_other_samples_is_not_searched(parts):
    api, path = parts
    train(api)
    (supernet,) = api.get("/v1/supernets").json()["items"]
    write(path, seed=1)
    body = {"supernet": supernet["id"], "targets": [{"device": "none", "budget": {"latency_ms": 1}}]}
    answer = api.post("/v1/searches", body)
    is_problem(answer, 422)
    assert "has changed since this supernet was trained on it" in answer.json()["detail"]
    assert str(path.parent) not in answer.text


def test_supernets_of_built_in_sets_have_the_key_they_always_had(parts):
    """Made before there were fingerprints: found again."""
    from service.db import supernets as rows
    from supernets.training.catalog import recipe_named

    api, _ = parts
    recipe = {**recipe_named("trial").of_weights(), "description": ""}
    inputs = {"space": "digits-mbv3", "dataset": "digits", "classes": 10, "recipe": recipe, "seed": 0}
    answer = api.post("/v1/supernets", {"space": "digits-mbv3", "dataset": "digits", "recipe": "trial"})
    assert answer.status_code == 202 and answer.json()["remarks"] == []
    with api.services.sessions() as session:
        (row,) = [r for r in session.query(Supernet).all() if r.dataset == "digits"]
        assert row.digest == rows.digest_of(inputs) and row.dataset_fingerprint is None


def test_a_supernet_older_than_fingerprints_is_searched_but_for_folders(make_api, tmp_path):
    write(tmp_path / "parts.npz")
    for title in ("left", "top"):
        (tmp_path / "pictures" / title).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (9, 9), (number, 0, 0)).save(tmp_path / "pictures" / title / f"{number}.png")
    settings = make_api(
        datasets={"parts": tmp_path / "parts.npz", "pictures": tmp_path / "pictures"}
    ).services.settings
    check_trained_on(settings, Supernet(dataset="parts", recipe="quick", created_at=now()))
    check_trained_on(settings, Supernet(dataset="pictures", recipe="imported", created_at=now()))
    with pytest.raises(InvalidDataset, match="kept at 64 pixels"):
        check_trained_on(settings, Supernet(dataset="pictures", recipe="quick", created_at=now()))
