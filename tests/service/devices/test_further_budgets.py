"""Budgets besides the undisturbed latency, over HTTP: p95, energy, memory in the device's precision; who decides what is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select

from service.db import agents as agent_rows
from service.db import devices as device_rows
from service.db.models import AgentSession, Device, Job, now
from service.devices.costs import COSTS, ENERGY, LEAST_TAILS, TAIL
from service.devices.price_book import PriceBook
from service.schemas.searches import ON_DEVICE
from supernets.search.exact.bounds import bounds
from supernets.search.limits import MEMORY, reachable
from tests.service.api import CONTEXT, SPACE, Api, is_problem, table_rows
from tests.service.devices.test_measuring import measured, random_networks, samples

TAIL_OVER_LATENCY = 1.4


def with_tails(count: int, noise: float = 0.02) -> dict[str, Any]:
    """Whole networks whose p95 is 1.4 times their latency, give or take."""
    body = samples(table_rows(), random_networks(count), noise=0.002)
    factors = np.exp(np.random.default_rng(1).normal(0, noise, count))
    for sample, factor in zip(body["samples"], factors, strict=True):
        sample["p95_ms"] = sample["latency_ms"] * max(1.0, TAIL_OVER_LATENCY * factor)
    return body


@pytest.fixture
def phone(api: Api) -> Api:
    api.add_device("phone")
    api.add_table("phone", [{**row, "energy_mj": 0.01 + row["median_ms"]} for row in table_rows()])
    return api


def ask(api: Api, budget: dict[str, float], supernet: str | None = None, **more: Any) -> Any:
    body = {
        "supernet": supernet or api.add_supernet(),
        "targets": [{"device": "phone", "budget": budget}],
        **more,
    }
    return api.post("/v1/searches", body)


def stored(api: Api, answer: Any) -> dict[str, float]:
    assert answer.status_code == 202, answer.text
    with api.services.sessions() as session:
        row = session.get(Job, answer.json()["id"])
        assert row is not None
        budget: dict[str, float] = row.request["targets"][0]["budget"]
        return budget


def test_every_limit_of_a_device_has_its_cost() -> None:
    assert set(ON_DEVICE) == {"latency_ms", *COSTS}


def test_a_p95_is_asked_for_only_where_whole_networks_were_measured_with_theirs(phone: Api) -> None:
    document = is_problem(ask(phone, {"latency_ms": 50.0, TAIL: 60.0}), 422, code="too_few_networks")
    assert document["missing_networks"] == LEAST_TAILS and "bespoke profile" in document["detail"]
    assert document["errors"][0]["pointer"] == f"/targets/0/budget/{TAIL}"
    plain = samples(table_rows(), random_networks(24))
    assert phone.post("/v1/devices/phone/probes", plain).status_code == 201
    is_problem(ask(phone, {"latency_ms": 50.0, TAIL: 60.0}), 422, code="too_few_networks")
    assert phone.post("/v1/devices/phone/probes", with_tails(24)).status_code == 201
    assert stored(phone, ask(phone, {"latency_ms": 50.0, TAIL: 60.0})) == {"latency_ms": 50.0, TAIL: 60.0}
    shown = phone.get("/v1/devices/phone/networks").json()["items"]
    assert (
        sum(one["p95_ms"] is not None for one in shown) == sum(one["p95_ms"] is None for one in shown) == 24
    )


def test_a_p95_that_nothing_keeps_is_refused_with_what_measured_networks_say(phone: Api) -> None:
    assert phone.post("/v1/devices/phone/probes", with_tails(24)).status_code == 201
    document = is_problem(ask(phone, {"latency_ms": 50.0, TAIL: 1e-4}), 422, code="infeasible_budget")
    assert document["constraint"] == TAIL
    fastest = measured(table_rows(), SPACE.smallest(8))
    assert 1.35 * fastest < document["reachable"]["min"] < 1.65 * fastest, (
        "a bound, not far above 1.4 times the latency"
    )
    too_sure = ask(phone, {"latency_ms": 50.0, TAIL: 60.0}, confidence=0.99)
    assert is_problem(too_sure, 422, code="too_few_networks")


def test_a_p95_alone_limits_the_latency_too(phone: Api) -> None:
    assert phone.post("/v1/devices/phone/probes", with_tails(24)).status_code == 201
    assert stored(phone, ask(phone, {TAIL: 60.0})) == {"latency_ms": 60.0, TAIL: 60.0}


def test_a_p95_below_the_latency_of_its_own_probe_is_refused(phone: Api) -> None:
    body = with_tails(6)
    body["samples"][2]["p95_ms"] = body["samples"][2]["latency_ms"] / 2
    document = is_problem(phone.post("/v1/devices/phone/probes", body), 422)
    assert document["errors"][0]["pointer"] == "/samples/2/p95_ms"


def test_energy_adds_up_over_the_rows_and_a_row_without_it_is_named(phone: Api) -> None:
    assert stored(phone, ask(phone, {"latency_ms": 50.0, ENERGY: 100.0}))[ENERGY] == 100.0
    document = is_problem(ask(phone, {"latency_ms": 50.0, ENERGY: 1e-3}), 422, code="infeasible_budget")
    assert document["constraint"] == ENERGY
    with phone.services.sessions() as session:
        device = session.scalars(select(Device)).one()
        whole = PriceBook().load(session, device, SPACE)
        priced = PriceBook().with_costs(session, device, whole, whole, [ENERGY]).costs[ENERGY]
    assert document["reachable"]["min"] == pytest.approx(bounds(priced.predicted)[0]) and priced.upper is None
    *rows, last = table_rows()
    phone.add_table("phone", [*({**row, "energy_mj": 0.1} for row in rows), last])
    document = is_problem(ask(phone, {"latency_ms": 50.0, ENERGY: 100.0}), 422, code="no_table")
    assert document["missing_count"] == 1 and document["missing"] == [last["operator"]]
    assert document["errors"][0]["pointer"] == f"/targets/0/budget/{ENERGY}"


def test_what_lacks_its_energy_may_be_left_out_but_is_never_free(phone: Api) -> None:
    rows = [row if "kernel=7" in row["operator"] else {**row, "energy_mj": 0.1} for row in table_rows()]
    made = phone.add_table("phone", rows)
    target = {"device": "phone", "budget": {"latency_ms": 50.0, ENERGY: 100.0}, "missing": "exclude"}
    answer = phone.post("/v1/searches", {"supernet": phone.add_supernet(), "targets": [target]})
    assert answer.status_code == 202, answer.text
    with phone.services.sessions() as session:
        device = session.scalars(select(Device)).one()
        whole = PriceBook().load(session, device, SPACE, table_id=made["id"], partial=True)
        priced = PriceBook().with_costs(session, device, whole, whole, [ENERGY], partial=True)
    assert priced.lacking and all("kernel=7" in text for text in priced.lacking)
    assert np.isinf(priced.costs[ENERGY].predicted.price(SPACE.genes(SPACE.largest())[None])).all()
    phone.add_table("phone", table_rows())
    is_problem(
        phone.post("/v1/searches", {"supernet": phone.add_supernet(), "targets": [target]}),
        422,
        code="no_table",
    )


def test_limits_of_a_device_need_one_and_a_group_has_them_for_each_of_its_devices(phone: Api) -> None:
    supernet = phone.add_supernet()
    phone.add_device("board")
    phone.add_table("board", [{**row, "energy_mj": 1.0} for row in table_rows()])
    for target in (
        {"budget": {ENERGY: 5.0}},
        {"budget": {ENERGY: 5.0, "size_bytes": 400_000}},
        {"device": "phone", "budget": {ENERGY: 5.0}},
        {
            "group": [{"device": n, "budget": {"latency_ms": 5.0}} for n in ("phone", "board")],
            "budget": {TAIL: 5.0},
        },
        {"device": "phone", "budget": {"latency_ms": 5.0, ENERGY: 0.0}},
    ):
        is_problem(
            phone.post("/v1/searches", {"supernet": supernet, "targets": [target]}), 422, code="validation"
        )
    group = [
        {"device": n, "budget": {"latency_ms": 50.0, ENERGY: e}}
        for n, e in (("phone", 100.0), ("board", 1.0))
    ]
    document = is_problem(
        phone.post("/v1/searches", {"supernet": supernet, "targets": [{"group": group}]}), 422
    )
    assert document["constraint"] == ENERGY and "board" in document["detail"]
    group[1]["budget"][ENERGY] = 1000.0
    assert (
        phone.post("/v1/searches", {"supernet": supernet, "targets": [{"group": group}]}).status_code == 202
    )


def open_agent(api: Api, name: str = "phone") -> None:
    """An agent that was heard of just now."""
    with api.services.sessions.begin() as session:
        device = device_rows.named(session, api.tenant_id, name)
        assert device is not None
        token = agent_rows.add_enrolment(session, api.tenant_id, device.id, b"t" * 32, now())
        agent_rows.open_session(session, token, b"k" * 32, {}, "f" * 64, now().replace(year=now().year + 1))


def test_between_prediction_and_bound_a_budget_is_taken_where_an_agent_decides_by_measuring(
    phone: Api,
) -> None:
    noisy = samples(table_rows(), random_networks(24), noise=0.08)
    assert phone.post("/v1/devices/phone/probes", noisy).status_code == 201
    supernet = phone.add_supernet()
    with phone.services.sessions() as session:
        priced = PriceBook().load(session, session.scalars(select(Device)).one(), SPACE)
    assert priced.upper is not None
    predicted, bound = bounds(priced.predicted)[0], bounds(priced.upper)[0]
    between = {"latency_ms": (predicted + bound) / 2}
    document = is_problem(ask(phone, between, supernet), 422, code="infeasible_budget")
    assert f"{bound:.4g}" in document["detail"] and f"{predicted:.4g}" in document["detail"], (
        "both numbers are named"
    )
    open_agent(phone)
    assert ask(phone, between, supernet).status_code == 202
    is_problem(ask(phone, {"latency_ms": 0.99 * predicted}, supernet), 422, code="infeasible_budget")
    is_problem(ask(phone, between, supernet, confidence=0.95), 422, code="infeasible_budget")
    is_problem(ask(phone, between, supernet, verify=False), 422, code="infeasible_budget")
    with phone.services.sessions.begin() as session:
        row = session.scalars(select(AgentSession)).one()
        row.seen_at = row.seen_at.replace(year=row.seen_at.year - 1)
    is_problem(ask(phone, between, supernet), 422, code="infeasible_budget")


def test_memory_is_counted_in_the_precision_that_is_delivered(phone: Api) -> None:
    half = {**CONTEXT, "precision": "float16"}
    assert phone.post("/v1/devices", {"name": "half", "description": "", "context": half}).status_code == 201
    answer = phone.post("/v1/devices/half/tables", {"context": half, "rows": table_rows()})
    assert answer.status_code == 201, answer.text
    low, _ = reachable(SPACE, MEMORY)
    assert reachable(SPACE, MEMORY, 2)[0] == low / 2
    supernet = phone.add_supernet()
    for limit, device, status in (
        (low / 2, "half", 202),
        (low / 2, "phone", 422),
        (low / 2 - 1, "half", 422),
        (low, "phone", 202),
    ):
        target = {"device": device, "budget": {"latency_ms": 50.0, MEMORY: int(limit)}}
        answer = phone.post("/v1/searches", {"supernet": supernet, "targets": [target]})
        assert answer.status_code == status, (limit, device, answer.text)
        if status == 422:
            assert answer.json()["constraint"] == MEMORY


def test_tails_of_several_sessions_widen_their_bound(phone: Api) -> None:
    assert phone.post("/v1/devices/phone/probes", with_tails(24)).status_code == 201
    with phone.services.sessions() as session:
        device = session.scalars(select(Device)).one()
        whole = PriceBook().load(session, device, SPACE)
        calm = PriceBook().with_costs(session, device, whole, whole, [TAIL]).costs[TAIL]
    busy = with_tails(24)
    for sample in busy["samples"]:
        sample["p95_ms"] *= 1.2
    assert phone.post("/v1/devices/phone/probes", busy).status_code == 201
    with phone.services.sessions() as session:
        device = session.scalars(select(Device)).one()
        both = PriceBook().with_costs(session, device, whole, whole, [TAIL]).costs[TAIL]
    margins = [bounds(c.held)[0] / bounds(c.predicted)[0] for c in (calm, both)]
    assert 1.0 < margins[0] < 1.1 < margins[1]
    assert replace(both, upper=None).held is both.predicted
