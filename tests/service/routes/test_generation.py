"""`generation`: the sentence that a latency is of, in every request that has one, and who may not have one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.db import supernets as supernet_rows
from service.db.models import Job, now
from service.settings import Settings
from supernets.accuracy.predictor import QualityPredictor
from supernets.spaces.catalog import space_named
from supernets.tasks.text_metrics import PHONEME_ERROR
from tests.service.api import CONTEXT, Api, open_api, table_rows

SHORT = {"source_tokens": 9, "target_tokens": 8, "beam": 2}
WORDS = 43
SPACE = space_named("hat-small", WORDS)


@pytest.fixture
def api(tmp_path: Path, migrated_sqlite: str) -> Iterator[Api]:
    with open_api(Settings(data_dir=tmp_path, database_url=migrated_sqlite)) as found:
        yield found


def add_supernet(api: Api) -> str:
    """A trained super transformer, as a worker leaves it."""
    generator = np.random.default_rng(0)
    genes = SPACE.chain.sample(generator, 60)
    values = -0.2 + 0.02 * generator.random(60)
    fitted = QualityPredictor.fit(SPACE, genes, values, drawn=60, metric=PHONEME_ERROR)
    with api.services.sessions.begin() as session:
        row = supernet_rows.find_or_add(
            session,
            api.tenant_id,
            "e" * 64,
            space=SPACE.name,
            dataset="pronunciations",
            recipe="quick",
            seed=0,
            classes=WORDS,
        )
        row.predictor, row.weights_sha256, row.ready_at = fitted.to_json(), "0" * 64, now()
        row.dataset_fingerprint = api.services and _fingerprint(api)
        return row.id


def _fingerprint(api: Api) -> str | None:
    from service.datasets import known  # noqa: PLC0415

    return known(api.settings, "pronunciations").fingerprint


def request_of(api: Api, answer: Any) -> dict[str, Any]:
    with api.services.sessions() as session:
        job = session.get(Job, answer.json()["id"])
        assert job is not None
        return dict(job.request)


def test_a_profile_names_the_space_of_the_sentence(api: Api) -> None:
    api.add_device()
    body = {"space": "hat-small", "dataset": "pronunciations", "generation": SHORT}
    answer = api.post("/v1/devices/phone/profiles", body)
    assert answer.status_code == 202, answer.text
    request = request_of(api, answer)
    assert (request["space"], request["classes"]) == ("hat-small.s9.t8.b2", WORDS)
    usual = api.post("/v1/devices/phone/profiles", {**body, "generation": {"beam": 5}})
    assert request_of(api, usual)["space"] == "hat-small"


@pytest.mark.parametrize(
    ("generation", "pointer"),
    [
        ({"source_tokens": 0}, "/generation/source_tokens"),
        ({"target_tokens": 1025}, "/generation/target_tokens"),
        ({"beam": 65}, "/generation/beam"),
        ({"beam": 2.5}, "/generation/beam"),
        ({"words": 3}, "/generation"),
    ],
)
def test_a_sentence_that_cannot_be_is_named(api: Api, generation: dict[str, Any], pointer: str) -> None:
    api.add_device()
    body = {"space": "hat-small", "dataset": "pronunciations", "generation": generation}
    answer = api.post("/v1/devices/phone/profiles", body)
    assert answer.status_code == 422 and answer.json()["errors"][0]["pointer"] == pointer


def test_spaces_of_pictures_have_no_sentence(api: Api) -> None:
    api.add_device()
    answer = api.post("/v1/devices/phone/profiles", {"space": "digits-mbv3", "generation": SHORT})
    assert answer.status_code == 422 and "leave `generation` out" in answer.json()["detail"]
    api.add_table()
    api.add_supernet()
    found = api.get("/v1/supernets").json()["items"][0]["id"]
    front = api.get(f"/v1/supernets/{found}/front?device=phone&beam=2")
    assert front.status_code == 422 and front.json()["errors"][0]["pointer"] == "query/beam"


@pytest.mark.parametrize(
    "change",
    [
        {"runtime": "openvino", "provider": "CPU", "runtime_version": "2026.1"},
        {"precision": "float16"},
        {"batch_size": 4},
        {"runtime_version": "1.16"},
    ],
)
def test_devices_that_cannot_run_a_sentence_are_refused(api: Api, change: dict[str, Any]) -> None:
    made = api.post("/v1/devices", {"name": "odd", "description": "", "context": {**CONTEXT, **change}})
    assert made.status_code == 201, made.text
    answer = api.post("/v1/devices/odd/profiles", {"space": "hat-small", "dataset": "pronunciations"})
    assert answer.status_code == 422 and answer.json()["code"] == "unservable_context", answer.text


def test_a_runtime_that_agents_do_not_have_is_searched_by_its_table_alone(api: Api) -> None:
    context = {**CONTEXT, "runtime": "pytorch", "runtime_version": "1.1"}
    assert api.post("/v1/devices", {"name": "phone", "context": context}).status_code == 201
    rows = {"context": context, "rows": table_rows(SPACE.generating(SHORT))}
    assert api.post("/v1/devices/phone/tables", rows).status_code == 201
    budget = {"latency_ms": 1e5}
    body = {"supernet": add_supernet(api), "targets": [{"device": "phone", "budget": budget}]}
    answer = api.post("/v1/searches", {**body, "generation": SHORT})
    assert answer.status_code == 202, answer.text


def test_a_search_is_held_against_the_table_of_its_sentence_alone(api: Api) -> None:
    api.add_device()
    short = SPACE.generating(SHORT)
    api.add_table(rows=table_rows(short))
    supernet = add_supernet(api)
    front = api.get(f"/v1/supernets/{supernet}/front?device=phone&source_tokens=9&target_tokens=8&beam=2")
    assert front.status_code == 200, front.text
    points = front.json()["points"]
    assert front.json()["generation"] == SHORT
    assert points[0]["architecture"]["space"] == short.name and points[0]["architecture"]["resolution"] == 9
    assert [p["accuracy"] for p in points] == sorted((p["accuracy"] for p in points), reverse=True)
    budget = {"latency_ms": points[-1]["latency_ms"]}
    body = {"supernet": supernet, "targets": [{"device": "phone", "budget": budget}]}
    answer = api.post("/v1/searches", {**body, "generation": SHORT})
    assert answer.status_code == 202, answer.text
    assert request_of(api, answer)["generation"] == SHORT
    for other in (None, {**SHORT, "beam": 3}, {**SHORT, "target_tokens": 9}):
        refused = api.post("/v1/searches", {**body, **({} if other is None else {"generation": other})})
        assert refused.status_code in (409, 422), refused.text
        assert "steps=" in refused.text or "table" in refused.json()["detail"]


@pytest.mark.parametrize(
    ("option", "pointer"),
    [
        ({"strategy": "gradient"}, "/strategy"),
        ({"batch": "dynamic"}, "/batch"),
        ({"preprocessing": "embedded"}, "/preprocessing"),
    ],
)
def test_what_networks_that_write_do_not_have_is_refused(
    api: Api, option: dict[str, Any], pointer: str
) -> None:
    supernet = add_supernet(api)
    body = {"supernet": supernet, "targets": [{"budget": {"macs": 10**12}}], **option}
    answer = api.post("/v1/searches", body)
    assert answer.status_code == 422 and answer.json()["errors"][0]["pointer"] == pointer, answer.text


def test_pictures_and_sentences_do_not_mix(api: Api) -> None:
    pictures = api.post("/v1/supernets", {"space": "hat-small", "dataset": "digits"})
    assert pictures.status_code == 422 and "take no pictures" in pictures.json()["detail"]
    sentences = api.post("/v1/supernets", {"space": "digits-mbv3", "dataset": "pronunciations"})
    assert sentences.status_code == 422 and "read no sentences" in sentences.json()["detail"]
    recipe = api.post(
        "/v1/supernets", {"space": "hat-small", "dataset": "pronunciations", "recipe": "progressive"}
    )
    assert recipe.status_code == 422 and "hat" in recipe.json()["detail"]
    asked = {"space": "hat-small", "dataset": "pronunciations", "recipe": "hat", "control": True}
    good = api.post("/v1/supernets", asked)
    assert good.status_code == 202, good.text
    (trained,) = api.get("/v1/supernets").json()["items"]
    assert trained["control"] is True
