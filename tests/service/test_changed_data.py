"""Data that changes under its name is another set: with a supernet of its own, listed, never mixed with what
was scored."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from service.datasets import check_trained_on
from service.db import supernets as rows
from service.db.models import Supernet, Tenant, now
from supernets.data.catalog import DATASETS
from supernets.errors import InvalidDataset
from supernets.training.catalog import recipe_named
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


def digits_inputs():
    """What went into the key of a supernet of a built-in set before these had fingerprints."""
    recipe = {**recipe_named("trial").of_weights(), "description": ""}
    return {"space": "digits-mbv3", "dataset": "digits", "classes": 10, "recipe": recipe, "seed": 0}


def train_digits(api):
    answer = api.post("/v1/supernets", {"space": "digits-mbv3", "dataset": "digits", "recipe": "trial"})
    assert answer.status_code == 202
    return answer.json()


def test_supernets_of_built_in_sets_have_the_fingerprint_in_their_key(parts):
    api, _ = parts
    assert train_digits(api)["remarks"] == []
    fingerprint = DATASETS["digits"].before
    with api.services.sessions() as session:
        (row,) = [r for r in session.query(Supernet).all() if r.dataset == "digits"]
        assert row.digest == rows.digest_of({**digits_inputs(), "fingerprint": fingerprint})
        assert row.dataset_fingerprint == fingerprint
    (listed,) = [d for d in api.get("/v1/datasets").json()["items"] if d["name"] == "digits"]
    assert listed["fingerprint"] == fingerprint and listed["class_names"] == list("0123456789")
    assert [(v["current"], v["supernets"]) for v in listed["versions"]] == [(True, 1)]


def test_a_supernet_of_a_built_in_set_that_is_older_than_fingerprints_is_found_again(parts, monkeypatch):
    api, _ = parts
    with api.services.sessions.begin() as session:
        about = {"space": "digits-mbv3", "dataset": "digits", "recipe": "trial", "seed": 0, "classes": 10}
        tenant = session.query(Tenant).one().id
        older = rows.find_or_add(session, tenant, rows.digest_of(digits_inputs()), **about)
        older_id = older.id
    assert train_digits(api)["remarks"] == []
    assert [one["id"] for one in api.get("/v1/supernets").json()["items"]] == [older_id]
    (listed,) = [d for d in api.get("/v1/datasets").json()["items"] if d["name"] == "digits"]
    assert [(v["current"], v["supernets"]) for v in listed["versions"]] == [(True, 1)]

    monkeypatch.setitem(
        DATASETS, "digits", replace(DATASETS["digits"], version="2")
    )  # other digits from here on
    assert "another set than the one that 1 earlier" in train_digits(api)["remarks"][0]
    assert len(api.get("/v1/supernets").json()["items"]) == 2
    with pytest.raises(InvalidDataset, match="has changed since this supernet was trained"):
        check_trained_on(api.services.settings, Supernet(dataset="digits", recipe="trial", created_at=now()))


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
