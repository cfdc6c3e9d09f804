"""What a page or a notebook reads: fronts in columns, pictures, histories, lists by device, names; short and
long."""

from __future__ import annotations

from typing import Any

import pytest

from service.db import transitions as job_states
from service.db.models import Artifact, Model, now
from service.schemas.front_columns import ALPHABET, architecture_of, gene_text
from supernets.spaces.catalog import SPACES
from tests.service.api import SPACE, Api, is_problem, table_rows


@pytest.fixture
def priced(api: Api) -> tuple[Api, str]:
    api.add_device()
    api.add_table()
    return api, api.add_supernet()


def add_model(api: Api, supernet_id: str, sha256: str = "a" * 64, model_id: str = "mod_" + "1" * 32) -> str:
    with api.services.sessions.begin() as session:
        job = job_states.create_job(
            session, tenant_id=api.tenant_id, kind="search", request={"targets": [{"device": "phone"}]}
        )
        if session.get(Artifact, sha256) is None:
            session.add(Artifact(sha256=sha256, size_bytes=1, kind="onnx_model"))
            session.flush()
        device = api.get("/v1/devices/phone").json()
        from service.db.devices import all_named

        card = {
            "architecture": SPACE.to_json(SPACE.smallest()),
            "latency": {"predicted_ms": 1.0, "measured_ms": 1.1, "verified": True},
            "accuracy": {"measured": 0.9},
        }
        row = all_named(session, api.tenant_id, ["phone"])["phone"]
        session.add(
            Model(
                id=model_id, tenant_id=api.tenant_id, job_id=job.id, device_id=row.id, supernet_id=supernet_id,
                table_id=device["table_id"], budget_ms=2.0, onnx_sha256=sha256, card=card,
            )
        )  # fmt: skip
    return model_id


def test_front_in_columns_is_the_same_front(priced: tuple[Api, str]) -> None:
    api, supernet = priced
    points = api.get(f"/v1/supernets/{supernet}/front?device=phone").json()["points"]
    columns = api.get(f"/v1/supernets/{supernet}/front?device=phone&form=columns").json()
    assert len(points) == len(columns["genes"]) == len(columns["latency_ms"]) == len(columns["accuracy"])
    space = SPACE.at(columns["legend"]["resolutions"])
    for point, latency_ms, accuracy, genes in zip(
        points, columns["latency_ms"], columns["accuracy"], columns["genes"], strict=True
    ):
        assert latency_ms == pytest.approx(point["latency_ms"], rel=1e-4)
        assert accuracy == pytest.approx(point["accuracy"], abs=1e-6)
        assert space.to_json(architecture_of(space, genes)) == point["architecture"]


def test_front_in_columns_is_a_fraction_of_the_size(priced: tuple[Api, str]) -> None:
    api, supernet = priced
    whole, columns = (
        api.get(f"/v1/supernets/{supernet}/front?device=phone&form={form}") for form in ("points", "columns")
    )
    assert len(columns.content) < len(whole.content) / 5


@pytest.mark.parametrize("name", sorted(SPACES))
def test_every_space_can_be_written_as_genes(name: str) -> None:
    space = SPACES[name]
    assert max(space.chain.gene_sizes) <= len(ALPHABET)
    for architecture in (space.smallest(), space.largest()):
        assert architecture_of(space, gene_text(space.genes(architecture).tolist())) == architecture


def test_picture_adds_up_to_the_sum_of_the_rows(priced: tuple[Api, str]) -> None:
    api, supernet = priced
    columns = api.get(f"/v1/supernets/{supernet}/front?device=phone&form=columns").json()
    picture = api.get(f"/v1/supernets/{supernet}/network?device=phone&genes={columns['genes'][0]}").json()
    assert sum(block["ms"] for block in picture["blocks"]) == pytest.approx(picture["rows_ms"])
    assert sum(block["share"] for block in picture["blocks"]) == pytest.approx(1)
    assert picture["predicted_ms"] == pytest.approx(columns["latency_ms"][0], rel=1e-4)
    assert {"kernel", "expand", "width", "operators"} <= set(picture["blocks"][0])


@pytest.mark.parametrize("genes", ["", "0", "zzzzzzzzzz", "é", "0" * 600])
def test_genes_that_are_no_network_are_refused(priced: tuple[Api, str], genes: str) -> None:
    api, supernet = priced
    is_problem(api.get(f"/v1/supernets/{supernet}/network", params={"device": "phone", "genes": genes}), 422)


def test_form_of_a_front_is_one_of_two(priced: tuple[Api, str]) -> None:
    api, supernet = priced
    is_problem(api.get(f"/v1/supernets/{supernet}/front?device=phone&form=rows"), 422, code="validation")


def test_picture_of_a_model_without_milliseconds_on_a_device_without_a_table(priced: tuple[Api, str]) -> None:
    api, supernet = priced
    model = add_model(api, supernet)
    api.add_device("bare")
    here = api.get(f"/v1/models/{model}/network").json()
    there = api.get(f"/v1/models/{model}/network?device=bare").json()
    assert here["rows_ms"] > 0
    assert there["rows_ms"] is None
    assert there["table_id"] is None
    assert [b["operators"] for b in here["blocks"]] == [b["operators"] for b in there["blocks"]]


def test_history_is_what_the_training_reported(both: Api) -> None:
    supernet = both.add_supernet()
    with both.services.sessions.begin() as session:
        job = job_states.create_job(
            session, tenant_id=both.tenant_id, kind="supernet", request={"supernet_id": supernet}
        )
        job_states.move(
            session, job.id, job_states.JobState.RUNNING, from_states=(job_states.JobState.QUEUED,)
        )
        job_states.record_progress(session, job.id, "train_supernet", 0.0, "waiting")
        for epoch in (1, 2):
            metrics = {"phase": "full", "epoch": epoch, "epochs": 2, "loss": 1.0 / epoch}
            job_states.record_progress(session, job.id, "train_supernet", epoch / 2, "", metrics=metrics)
    items = both.get(f"/v1/supernets/{supernet}/history").json()["items"]
    assert [(i["epoch"], i["loss"], i["fraction"]) for i in items] == [(1, 1.0, 0.5), (2, 0.5, 1.0)]
    assert both.get(f"/v1/supernets/{both.add_supernet(seed=1)}/history").json()["items"] == []


def test_pairs_of_the_predictor_are_held_out(api: Api) -> None:
    supernet = api.add_supernet()
    pairs = api.get(f"/v1/supernets/{supernet}/predictor").json()
    assert len(pairs["predicted"]) == len(pairs["measured"]) == 60
    assert 0 < pairs["rmse"] < 0.01
    is_problem(
        api.get(f"/v1/supernets/{api.add_supernet(trained=False, seed=1)}/predictor"), 422, code="not_ready"
    )


def test_jobs_are_found_by_device_supernet_and_text(both: Api) -> None:
    def add(**request: Any) -> str:
        with both.services.sessions.begin() as session:
            return job_states.create_job(session, tenant_id=both.tenant_id, kind="search", request=request).id

    phone = add(targets=[{"device": "pixel_7"}], supernet_id="sup_" + "a" * 32)
    board = add(targets=[{"device": "pixelx7"}], supernet_id="sup_" + "b" * 32)
    assert (
        both.call("PATCH", f"/v1/jobs/{board}", {"name": "Night run", "note": "100 % sure"}).json()["name"]
        == "Night run"
    )

    def found(**params: str) -> list[str]:
        return [job["id"] for job in both.get("/v1/jobs", params=params).json()["items"]]

    assert found(device="pixel_7") == [phone], "an underscore is no wildcard"
    assert found(supernet="sup_" + "b" * 32) == [board]
    assert found(text="night") == [board]
    assert found(text="100 %") == [board]
    assert found(text="%%") == []
    assert found(device="nobody") == []
    assert found(text=phone[:12]) == [phone]


def test_names_and_notes_come_and_go(both: Api) -> None:
    with both.services.sessions.begin() as session:
        job = job_states.create_job(session, tenant_id=both.tenant_id, kind="search", request={"a": 1}).id
    path = f"/v1/jobs/{job}"
    assert both.call("PATCH", path, {"name": "one", "note": "two"}).status_code == 200
    assert both.call("PATCH", path, {"name": None}).json()["note"] == "two"
    shown = both.get(path).json()
    assert (shown["name"], shown["note"]) == (None, "two")
    assert both.get(f"{path}/request").json() == {"kind": "search", "request": {"a": 1}}
    for bad in ({"name": ""}, {"name": "x" * 129}, {"note": "a\nb"}, {"name": 3}, {"title": "x"}):
        is_problem(both.call("PATCH", path, bad), 422)


def test_model_is_deleted_and_its_file_only_with_the_last_of_it(both: Api) -> None:
    both.add_device()
    both.add_table()
    supernet = both.add_supernet()
    first, second = add_model(both, supernet), add_model(both, supernet, model_id="mod_" + "2" * 32)
    (listed, _) = both.get("/v1/models?device=phone").json()["items"]
    assert (listed["measured_ms"], listed["verified"], listed["accuracy"]) == (1.1, True, 0.9)
    assert both.get("/v1/models?device=other").json()["items"] == []
    assert len(both.get(f"/v1/models?supernet={supernet}").json()["items"]) == 2
    for model, left in ((first, 1), (second, 0)):
        assert both.call("DELETE", f"/v1/models/{model}").status_code == 204
        is_problem(both.get(f"/v1/models/{model}"), 404)
        with both.services.sessions() as session:
            assert session.query(Artifact).count() == left
    is_problem(both.call("DELETE", f"/v1/models/{first}"), 404)


def test_long_reads_are_compressed_and_writes_and_files_never(priced: tuple[Api, str]) -> None:
    api, supernet = priced
    path = f"/v1/supernets/{supernet}/front?device=phone"
    zipped = api.get(path, headers={"Accept-Encoding": "gzip"})
    plain = api.get(path, headers={"Accept-Encoding": "identity"})
    assert zipped.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    assert {k: v for k, v in zipped.json().items() if k != "solved_in_ms"} == {
        k: v for k, v in plain.json().items() if k != "solved_in_ms"
    }
    table = api.get("/v1/devices/phone").json()["table_id"]
    assert "content-encoding" not in api.get(f"/v1/devices/phone/tables/{table}").headers
    secret = api.post("/v1/keys", {"name": "x" * 100, "scopes": ["jobs:read"] * 16})
    assert secret.status_code == 201
    assert "content-encoding" not in secret.headers
    assert now()


def test_cells_of_a_table_are_what_its_rows_say(priced: tuple[Api, str]) -> None:
    api, _ = priced
    table = api.get("/v1/devices/phone").json()["table_id"]
    path = f"/v1/devices/phone/tables/{table}/cells"
    found = api.get(f"{path}?space={SPACE.name}&resolution=8").json()
    assert len(found["rows"]) == len(found["cells"]) == sum(len(s.choices) for s in SPACE.stages)
    rows = {row["operator"]: row["median_ms"] for row in table_rows()}
    known = [cell for line in found["cells"] for cell in line if cell is not None]
    assert known and all(cell["ms"] is not None for cell in known)
    assert all(
        min(abs(cell["ms"] - ms) for ms in rows.values()) < 1e-9
        for cell in known
        if cell["ms"] < max(rows.values())
    )
    assert api.get(f"{path}?space={SPACE.name}").json()["resolution"] == max(SPACE.resolutions)
    elsewhere = api.get(f"{path}?space=ofa-mbv3").json()
    assert all(cell["ms"] is None for line in elsewhere["cells"] for cell in line if cell is not None)
    is_problem(api.get(f"{path}?space=nowhere"), 404)
    is_problem(api.get(f"{path}?space={SPACE.name}&resolution=9"), 422)
