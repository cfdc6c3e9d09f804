"""Compressing a delivered network over HTTP: what is queued, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from service.db.devices import all_named
from service.db.models import Artifact, Job, Model
from service.db.transitions import create_job
from service.jobs.requests import SearchRequest, SearchTarget, read, stored
from supernets.delivery.precision import ASKED, FLOAT32, space_in
from supernets.search.restriction import mask_of
from tests.service.api import SPACE, Api, is_problem, table_rows

MODEL = "model_" + "1" * 32
MIXED = SPACE.with_precisions(("float32", "int8"))


@pytest.fixture
def delivered(api: Api) -> Api:
    """A device with rows in int8, and a network that was fine-tuned and delivered for it."""
    api.add_device("phone")
    api.add_table("phone", table_rows(MIXED))
    supernet = api.add_supernet()
    device = api.get("/v1/devices/phone").json()
    request = SearchRequest(supernet, (SearchTarget(),), tune_epochs=3, train="bias", batch="dynamic")
    with api.services.sessions.begin() as session:
        job = create_job(session, tenant_id=api.tenant_id, kind="search", request=stored(request))
        session.add(Artifact(sha256="a" * 64, size_bytes=1, kind="onnx_model"))
        session.flush()
        row = all_named(session, api.tenant_id, ["phone"])["phone"]
        session.add(
            Model(
                id=MODEL,
                tenant_id=api.tenant_id,
                job_id=job.id,
                device_id=row.id,
                supernet_id=supernet,
                table_id=device["table_id"],
                budget_ms=2.0,
                onnx_sha256="a" * 64,
                card={"id": MODEL, "architecture": SPACE.to_json(SPACE.largest(12))},
            )
        )
    return api


def compress(api: Api, **body: Any) -> Any:
    return api.post(f"/v1/models/{MODEL}/compress", {"budget": {"latency_ms": 50.0}, **body})


def test_the_network_is_queued_with_its_weights_its_device_and_its_origin(delivered: Api) -> None:
    answer = compress(delivered)
    assert answer.status_code == 202, answer.text
    assert answer.json()["kind"] == "compress"
    with delivered.services.sessions() as session:
        row = session.get(Job, answer.json()["id"])
        assert row is not None
        request = read(SearchRequest, row.request)
    (target,) = request.targets
    assert (target.device, target.precision, target.resolutions) == ("phone", "mixed", (12,))
    assert target.network == SPACE.to_json(SPACE.largest(12)) and request.origin == MODEL
    assert (request.tune_epochs, request.train, request.batch) == (3, "bias", "dynamic")
    assert delivered.call("DELETE", f"/v1/devices/phone/tables/{target.table_id}").status_code == 409
    limits = delivered.post(f"/v1/models/{MODEL}/compress", {"budget": {"size_bytes": 10**7}})
    assert limits.status_code == 202, limits.text
    assert compress(delivered, precision="int8").status_code == 202


def test_what_the_network_cannot_reach_in_any_precision_is_refused_with_its_own_range(delivered: Api) -> None:
    refused = is_problem(compress(delivered, budget={"latency_ms": 1e-6}), 422, code="infeasible_budget")
    assert refused["errors"][0]["pointer"] == "/targets/0/budget/latency_ms"
    least, most = (refused["reachable_ms"][end] for end in ("min", "max"))
    whole = {row["operator"]: row["lower_quartile_ms"] for row in table_rows(MIXED)}
    assert 0 < least < most < sum(whole.values())
    smaller = is_problem(
        delivered.post(
            "/v1/searches",
            {
                "supernet": delivered.get("/v1/supernets").json()["items"][0]["id"],
                "targets": [
                    {
                        "device": "phone",
                        "budget": {"latency_ms": 1e-6},
                        "precision": "mixed",
                        "resolutions": [12],
                    }
                ],
            },
        ),
        422,
    )
    assert smaller["reachable_ms"]["min"] < least, "of the largest network, not of the space"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"budget": {}}, "validation"),
        ({"precision": "float32"}, "validation"),
        ({"prune": "yes"}, "validation"),
        ({"precision": "half"}, "validation"),
        ({"device": "nowhere"}, "unknown_device"),
        ({"exclude": {"precision": "int8", "stem.precision": "float32"}}, "infeasible_budget"),
        ({"exclude": {"colour": 1}}, "invalid_search"),
        ({"targets": []}, "validation"),
    ],
)
def test_odd_wishes_are_refused(delivered: Api, body: dict[str, Any], code: str) -> None:
    is_problem(compress(delivered, **body), 422, code=code)


def test_passes_keep_the_network_in_float32_and_the_budget_of_the_model(delivered: Api) -> None:
    body = {"passes": ["shared-weights", "low-rank"]}
    answer = delivered.post(f"/v1/models/{MODEL}/compress", body)
    assert answer.status_code == 202, answer.text
    with delivered.services.sessions() as session:
        row = session.get(Job, answer.json()["id"])
        assert row is not None
        request = read(SearchRequest, row.request)
    (target,) = request.targets
    assert request.passes == ("low-rank", "shared-weights"), "in the order in which they are applied"
    assert (target.device, target.precision) == ("phone", None) and target.budget["latency_ms"] == 2.0
    assert target.network == SPACE.to_json(SPACE.largest(12)) and request.tune_epochs == 3
    own = delivered.post(f"/v1/models/{MODEL}/compress", {**body, "budget": {"size_bytes": 10**7}})
    assert own.status_code == 202, own.text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"passes": ["low-rank", "magic"]}, "there are low-rank, shared-weights"),
        ({"passes": ["low-rank", "low-rank"]}, "named once"),
        ({"passes": []}, ""),
        ({"passes": ["low-rank"], "precision": "int8"}, "float32"),
        ({"passes": ["low-rank"], "exclude": {"kernel": 5}}, "float32"),
        ({"passes": ["low-rank"], "prune": True}, "all channels"),
        ({}, "name the budget"),
    ],
)
def test_passes_that_cannot_be_are_refused(delivered: Api, body: dict[str, Any], said: str) -> None:
    answer = delivered.post(f"/v1/models/{MODEL}/compress", body)
    refused = is_problem(answer, 422)
    assert said in refused["detail"] + "".join(one["detail"] for one in refused["errors"])
    assert "magic" not in answer.text


def test_another_tenants_model_and_one_that_is_not_there_are_not_found(delivered: Api) -> None:
    other = delivered.new_tenant()
    body = {"budget": {"latency_ms": 50.0}}
    is_problem(delivered.post(f"/v1/models/{MODEL}/compress", body, key=other), 404)
    is_problem(delivered.post("/v1/models/model_none/compress", body), 404)


def test_a_table_without_rows_in_int8_is_refused(delivered: Api) -> None:
    delivered.add_device("plain")
    delivered.add_table("plain")
    refused = is_problem(compress(delivered, device="plain"), 422, code="no_table")
    assert "--precision mixed" in refused["detail"]


@pytest.mark.parametrize("precision", [None, "mixed"])
def test_channels_are_cut_out_of_the_one_network(delivered: Api, precision: str | None) -> None:
    wish = {"prune": True, **({} if precision is None else {"precision": precision})}
    refused = is_problem(compress(delivered, **wish), 422, code="no_table")
    assert "--prune" in refused["detail"]
    delivered.add_table("phone", table_rows(MIXED.with_pruning()))
    answer = compress(delivered, **wish)
    assert answer.status_code == 202, answer.text
    with delivered.services.sessions() as session:
        row = session.get(Job, answer.json()["id"])
        assert row is not None
        (target,) = read(SearchRequest, row.request).targets
    assert (target.prune, target.precision) == (True, precision)
    whole = SPACE.largest(12)
    assert target.network == SPACE.to_json(whole)
    space = space_in(SPACE, ASKED[precision or FLOAT32], prune=True).at([12])
    mask = mask_of(space, target.exclude, SPACE.from_json(target.network))
    assert mask is not None
    widths = [np.isfinite(options).any(axis=(0, 1, 2)).sum() for options in mask.blocks]
    assert max(widths) > 2 * len(ASKED[precision or FLOAT32]), "its widths are open"


@pytest.mark.parametrize("wish", [{"precision": "mixed"}, {"prune": True}, {"budget": {"size_bytes": 10**7}}])
def test_lite_residuals_are_not_rounded_nor_stand_beside_pruned_blocks(
    delivered: Api, wish: dict[str, Any]
) -> None:
    with delivered.services.sessions.begin() as session:
        model = session.get(Model, MODEL)
        assert model is not None
        job = session.get(Job, model.job_id)
        assert job is not None
        job.request = stored(replace(read(SearchRequest, job.request), train="lite"))
    refused = is_problem(compress(delivered, **wish), 422, code="validation")
    assert "fine-tuned with train lite" in refused["detail"]


def test_a_network_that_was_never_fine_tuned_is_compressed_too(delivered: Api) -> None:
    with delivered.services.sessions.begin() as session:
        model = session.get(Model, MODEL)
        assert model is not None
        job = session.get(Job, model.job_id)
        assert job is not None
        job.request = stored(replace(read(SearchRequest, job.request), train=None, tune_epochs=None))
    assert compress(delivered).status_code == 202


def test_a_network_that_was_pruned_is_not_pruned_again_and_keeps_its_channels(delivered: Api) -> None:
    delivered.add_table("phone", table_rows(MIXED.with_pruning()))
    pruned = SPACE.with_pruning().at([12])
    network = next(one for one in pruned.sample(np.random.default_rng(0), 50) if pruned.unpruned(one) != one)
    with delivered.services.sessions.begin() as session:
        model = session.get(Model, MODEL)
        assert model is not None
        model.card = {**model.card, "architecture": SPACE.to_json(network)}
    refused = is_problem(compress(delivered, prune=True), 422, code="invalid_pruning")
    assert MODEL in refused["detail"]
    answer = compress(delivered)
    assert answer.status_code == 202, answer.text
    mask = mask_of(MIXED.with_pruning().at([12]), {}, network)
    assert mask is not None
    for options in mask.blocks:
        open_choices = np.isfinite(options).any(axis=(0, 1, 2)).sum(axis=-1)
        assert open_choices.max() <= 2, "no width but its own, in either precision"
