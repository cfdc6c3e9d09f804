"""Profiles, probes and probe plans: what the API does with measured whole networks (issue 3, points 4 and
5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from latency_tables.formats.hat_csv import TransformerProbe
from latency_tables.prediction.transformers import fit_transformers
from service.db.models import Job
from service.devices.price_book import PriceBook
from service.devices.transformers import rows_of
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import lower
from supernets.spaces.transformer_space import HAT_WMT
from tests.latency_tables.test_transformer_tables import measured as transformers
from tests.service.api import CONTEXT, SPACE, Api, is_problem, search_request, table_rows

OVERHEAD_MS, SLOPE = 0.02, 0.8


def measured(rows: list[dict[str, Any]], architecture: Any, noise: float = 0.0, seed: int = 0) -> float:
    """What the made-up device takes for a whole network: affine in the sum of its rows, with noise."""
    medians = {row["operator"]: row["median_ms"] for row in rows}
    total = sum(medians[op.text] for op in lower(SPACE, architecture))
    factor = np.exp(np.random.default_rng(seed).normal(0, noise)) if noise else 1.0
    return float((OVERHEAD_MS + SLOPE * total) * factor)


def samples(rows: list[dict[str, Any]], networks: list[Any], noise: float = 0.01) -> dict[str, Any]:
    return {
        "samples": [
            {
                "space": SPACE.name,
                "architecture": SPACE.to_json(a),
                "latency_ms": measured(rows, a, noise, seed),
            }
            for seed, a in enumerate(networks)
        ]
    }


def random_networks(count: int, seed: int = 0) -> list[Any]:
    return SPACE.sample(np.random.default_rng(seed), count)


@pytest.fixture
def phone(both: Api) -> Api:
    both.add_device("phone")
    both.add_table("phone")
    return both


def test_probes_calibrate_the_devices_own_table(phone: Api) -> None:
    rows = table_rows()
    answer = phone.post("/v1/devices/phone/probes", samples(rows, random_networks(24), noise=0.002))
    assert answer.status_code == 201, answer.text
    created = answer.json()
    assert created["method"] == "calibration" and created["accepted"] == 24
    assert created["error"] < 0.03 and created["missing_networks"] == 0
    assert 1.0 <= created["interval"]["factor"] < 1.1
    view = phone.get("/v1/devices/phone").json()
    assert view["calibration"][0]["state"] == "fitted"
    assert view["prediction_error"] == created["error"]
    supernet = phone.add_supernet()
    front = phone.get(f"/v1/supernets/{supernet}/front?device=phone").json()
    assert front["confidence"] == 0.95
    for point in front["points"][:: max(1, len(front["points"]) // 20)]:
        truth = measured(rows, SPACE.from_json(point["architecture"]))
        assert point["latency_ms"] == pytest.approx(truth, rel=0.03)
        assert point["upper_ms"] >= point["latency_ms"]


def test_a_network_is_kept_under_the_classes_that_its_architecture_says(phone: Api) -> None:
    """`classes` beside it may be left out; where both are given they must agree."""
    other = SPACE.with_classes(62)
    sample = {"space": SPACE.name, "architecture": other.to_json(other.smallest()), "latency_ms": 0.5}
    phone.post("/v1/devices/phone/probes", {"samples": [sample]})
    phone.post("/v1/devices/phone/probes", {"samples": [{**sample, "classes": 62}]})
    old = {name: value for name, value in sample["architecture"].items() if name != "classes"}
    phone.post("/v1/devices/phone/probes", {"samples": [{**sample, "architecture": old, "classes": 62}]})
    kept = phone.get("/v1/devices/phone/networks").json()["items"]
    assert [item["classes"] for item in kept] == [62] * 3
    for wrong in ({"classes": 10}, {"architecture": {**sample["architecture"], "classes": "62"}}):
        answer = phone.post("/v1/devices/phone/probes", {"samples": [{**sample, **wrong}]})
        assert is_problem(answer, 422)["errors"][0]["pointer"] == "/samples/0/architecture"


def test_networks_of_another_session_widen_the_bound_where_it_was_slower(phone: Api) -> None:
    """Two simulated sessions: the same speed adds nothing, 4 % slower ones do."""
    rows, networks = table_rows(), random_networks(54)
    phone.post("/v1/devices/phone/probes", samples(rows, networks[:24], noise=0.002))
    same = phone.post("/v1/devices/phone/probes", samples(rows, networks[24:34], noise=0.002)).json()
    assert same["calibration"][0]["sessions"] == 2 and same["calibration"][0]["session_spread"] < 0.001
    for first, factor in ((34, 1.04), (44, 0.97)):
        body = samples(rows, networks[first : first + 10], noise=0.002)
        for sample in body["samples"]:
            sample["latency_ms"] *= factor
        apart = phone.post("/v1/devices/phone/probes", body).json()
    assert (
        apart["calibration"][0]["sessions"] == 4 and 0.015 < apart["calibration"][0]["session_spread"] < 0.06
    )
    assert apart["interval"]["factor"] > same["interval"]["factor"] + 0.03


def test_a_budget_is_held_against_the_bound(phone: Api) -> None:
    phone.post("/v1/devices/phone/probes", samples(table_rows(), random_networks(24), noise=0.03))
    supernet = phone.add_supernet()
    front = phone.get(f"/v1/supernets/{supernet}/front?device=phone").json()
    fastest = front["points"][0]
    assert fastest["upper_ms"] > fastest["latency_ms"]
    between = (fastest["upper_ms"] + fastest["latency_ms"]) / 2
    problem = is_problem(
        phone.post("/v1/searches", search_request(supernet, between)), 422, code="infeasible_budget"
    )
    assert problem["reachable_ms"]["min"] == pytest.approx(fastest["upper_ms"])
    assert (
        phone.post("/v1/searches", search_request(supernet, fastest["upper_ms"] * 1.0001)).status_code == 202
    )
    assert phone.post("/v1/searches", search_request(supernet, between, confidence=0.5)).status_code in (
        202,
        422,
    )
    missing = is_problem(phone.post("/v1/searches", search_request(supernet, 50.0, confidence=0.99)), 422)
    assert missing["missing_networks"] == 99 - 24


def test_few_probes_say_how_many_are_missing(phone: Api) -> None:
    created = phone.post("/v1/devices/phone/probes", samples(table_rows(), random_networks(6))).json()
    assert created["interval"] is None and created["missing_networks"] == 13


def test_f8_probes_in_another_unit_are_refused(phone: Api) -> None:
    body = samples(table_rows(), random_networks(10))
    for sample in body["samples"]:
        sample["latency_ms"] *= 1000
    problem = is_problem(phone.post("/v1/devices/phone/probes", body), 422, code="implausible")
    assert "slower than the slowest device known here" in problem["detail"]
    assert phone.get("/v1/devices/phone").json()["calibration"] == []


def not_additive(count: int = 20) -> dict[str, Any]:
    """Networks of a device on which their sum says nothing: the slowest block decides, and a queue is in the
    way."""
    body = samples(table_rows(), random_networks(count))
    generator = np.random.default_rng(1)
    for sample in body["samples"]:
        sample["latency_ms"] = float(generator.uniform(0.2, 3.0))
    return body


def test_measured_networks_that_do_not_fit_are_kept_and_the_table_is_not_used_as_if_nothing_happened(
    phone: Api,
) -> None:
    answer = phone.post("/v1/devices/phone/probes", not_additive())
    assert answer.status_code == 201, answer.text
    made = answer.json()
    assert made["method"] == "refused" and made["accepted"] == 20
    assert "whole networks held out" in made["warnings"][0] and "kept" in made["warnings"][0]
    (calibration,) = phone.get("/v1/devices/phone").json()["calibration"]
    assert calibration["networks"] == 20
    assert calibration["state"] == "refused" and "whole networks held out" in calibration["reason"]
    kept = phone.get("/v1/devices/phone/networks").json()["items"]
    assert len(kept) == 20 and {n["session"] for n in kept} == {made["session"]}
    asked = phone.post("/v1/searches", search_request(phone.add_supernet(), 1.0, confidence=0.9))
    is_problem(asked, 422, code="poor_calibration")


def test_networks_that_were_measured_wrongly_can_be_deleted(phone: Api) -> None:
    made = phone.post("/v1/devices/phone/probes", not_additive()).json()
    path = "/v1/devices/phone/networks"
    is_problem(phone.call("DELETE", f"{path}?session=post_{'0' * 32}"), 404)
    is_problem(phone.call("DELETE", path), 422)
    is_problem(
        phone.call("DELETE", f"{path}?session={made['session']}", key=phone.new_key("devices:read")), 403
    )
    assert phone.call("DELETE", f"{path}?session={made['session']}").status_code == 204
    assert phone.get(path).json()["items"] == []
    good = phone.post(
        "/v1/devices/phone/probes", samples(table_rows(), random_networks(24), noise=0.002)
    ).json()
    assert good["method"] == "calibration"


def test_networks_far_from_the_sum_of_a_doubtful_table_put_the_table_under_review(both: Api) -> None:
    """A table in microseconds that was accepted by mistake; the networks are like those of known devices."""
    both.add_device("phone")
    rows = [{"operator": r["operator"], "median_ms": r["median_ms"] * 1e3} for r in table_rows()]
    table = both.add_table("phone", rows)
    both.post(f"/v1/devices/phone/tables/{table['id']}/accept", {})
    made = both.post("/v1/devices/phone/probes", samples(table_rows(), random_networks(12))).json()
    assert made["method"] == "refused" and "--unit us" in made["warnings"][0]
    (shown,) = both.get("/v1/devices/phone/tables").json()["items"]
    assert shown["state"] == "needs_review" and not shown["in_use"]
    assert len(both.get("/v1/devices/phone/networks").json()["items"]) == 12
    right = both.add_table("phone")
    assert right["in_use"] and both.get("/v1/devices/phone").json()["calibration"][0]["state"] == "fitted"


def test_networks_a_few_times_off_the_sum_are_fitted_and_said(phone: Api) -> None:
    """A device that runs blocks beside each other takes less than their sum; a line explains it."""
    body = samples(table_rows(), random_networks(24), noise=0.002)
    for sample in body["samples"]:
        sample["latency_ms"] *= 0.25
    made = phone.post("/v1/devices/phone/probes", body).json()
    assert made["method"] == "calibration" and made["error"] < 0.05
    assert any("times the sum of their rows" in w for w in made["warnings"])


def scaled(seed: int) -> list[dict[str, Any]]:
    """Rows of another device of the same kind: faster or slower, and a little different by kernel size."""
    generator = np.random.default_rng(seed)
    speed = generator.uniform(0.5, 2.0)
    by_kernel = dict(zip((1, 3, 5, 7), generator.uniform(0.8, 1.25, 4), strict=True))
    found = []
    for row in table_rows():
        kernel = int(row["operator"].partition("kernel=")[2].partition("/")[0])
        found.append({"operator": row["operator"], "median_ms": row["median_ms"] * speed * by_kernel[kernel]})
    return found


def test_a_new_device_from_few_networks(both: Api) -> None:
    for seed in range(1, 5):
        both.add_device(f"known{seed}")
        both.add_table(f"known{seed}", scaled(seed))
    both.add_device("new")
    truth = scaled(9)
    plan = both.get(f"/v1/devices/new/probe-plan?space={SPACE.name}&count=15").json()["items"]
    assert len({item["architecture_digest"] for item in plan}) == 15
    networks = [SPACE.from_json(item["architecture"]) for item in plan]
    created = both.post("/v1/devices/new/probes", samples(truth, networks, noise=0.005))
    assert created.status_code == 201, created.text
    result = created.json()
    assert result["method"] == "transfer" and result["table_id"] is not None, result["warnings"]
    assert result["error"] < 0.1
    supernet = both.add_supernet()
    front = both.get(f"/v1/supernets/{supernet}/front?device=new").json()
    errors = []
    for point in front["points"]:
        latency_ms = measured(truth, SPACE.from_json(point["architecture"]))
        errors.append(abs(point["latency_ms"] / latency_ms - 1))
    assert np.mean(errors) < 0.1
    again = both.get(f"/v1/devices/new/probe-plan?space={SPACE.name}&count=15").json()["items"]
    assert not {i["architecture_digest"] for i in again} & {i["architecture_digest"] for i in plan}
    assert both.get("/v1/devices/new").json()["tables"][0]["source"] == "transfer"


def test_probes_without_known_devices_are_kept(both: Api) -> None:
    both.add_device("lonely")
    created = both.post("/v1/devices/lonely/probes", samples(table_rows(), random_networks(10))).json()
    assert created["method"] == "none" and created["table_id"] is None
    assert "bespoke profile" in created["warnings"][0]
    both.add_table("lonely")  # the networks then calibrate the table that comes later
    assert both.get("/v1/devices/lonely").json()["calibration"][0]["networks"] == 10


def test_probes_of_two_spaces_at_once(phone: Api) -> None:
    from supernets.spaces.catalog import SPACES

    other = SPACES["ofa-mbv3"]
    body = samples(table_rows(), random_networks(1))
    body["samples"].append(
        {"space": other.name, "architecture": other.to_json(other.smallest()), "latency_ms": 5.0}
    )
    is_problem(phone.post("/v1/devices/phone/probes", body), 422)


def test_a_profile_job(phone: Api) -> None:
    body = {"space": SPACE.name, "dataset": "digits", "resolutions": [16, 8], "networks": 5}
    answer = phone.post("/v1/devices/phone/profiles", body)
    assert answer.status_code == 202
    with phone.services.sessions() as session:
        job = session.get(Job, answer.json()["id"])
        assert job is not None
        device_id = job.request.pop("device_id")
        assert device_id.startswith("dev_")
        job.request.pop("remeasure")
        assert job.request == {
            "device": "phone",
            "space": SPACE.name,
            "classes": 10,
            "resolutions": [8, 16],
            "networks": 5,
        }
    is_problem(phone.post("/v1/devices/phone/profiles", {"space": SPACE.name, "resolutions": [9]}), 422)
    is_problem(phone.post("/v1/devices/phone/profiles", {"space": "nonsense"}), 422, code="unknown_space")
    is_problem(
        phone.post("/v1/devices/phone/profiles", {"space": SPACE.name, "dataset": "nonsense"}),
        422,
        code="unknown_dataset",
    )
    is_problem(phone.post("/v1/devices/nobody/profiles", {"space": SPACE.name}), 404)


def test_a_table_of_some_resolutions(both: Api) -> None:
    both.add_device("small")
    created = both.add_table("small", table_rows(SPACE, (8,)))
    assert created["coverage"][0]["resolutions"] == [8]
    supernet = both.add_supernet()
    front = both.get(f"/v1/supernets/{supernet}/front?device=small").json()
    assert front["resolutions"] == [8]
    assert {p["architecture"]["resolution"] for p in front["points"]} == {8}


def test_worker_and_api_price_alike(phone: Api) -> None:
    phone.post("/v1/devices/phone/probes", samples(table_rows(), random_networks(24)))
    from service.db import devices

    genes = SPACE.chain.sample(np.random.default_rng(3), 50)
    with phone.services.sessions() as session:
        device = devices.named(session, phone.tenant_id, "phone")
        assert device is not None
        theirs = PriceBook().load(session, device, space_named(SPACE.name, 10))
        ours = phone.services.prices.load(session, device, space_named(SPACE.name, 10))
        pinned = PriceBook().load(session, device, space_named(SPACE.name, 10), table_id=ours.table_id)
    for other in (theirs, pinned):
        assert np.array_equal(ours.held.price(genes), other.held.price(genes))
    assert ours.upper is not None and (ours.upper.price(genes) >= ours.predicted.price(genes)).all()
    assert CONTEXT["threads"] == 1


def test_a_job_may_leave_out_what_it_measured_itself(phone: Api) -> None:
    from latency_tables.measurement import Measurement
    from service.db import devices, measurements

    rows, genes = table_rows(), SPACE.chain.sample(np.random.default_rng(3), 50)
    phone.post("/v1/devices/phone/probes", samples(rows, random_networks(24)))
    book = PriceBook(ignored_session="job_own")

    def prices(of: PriceBook) -> Any:
        with phone.services.sessions() as session:
            device = devices.named(session, phone.tenant_id, "phone")
            assert device is not None
            return of.load(session, device, space_named(SPACE.name, 10)).predicted.price(genes)

    before = prices(PriceBook())
    with phone.services.sessions.begin() as session:
        device = devices.named(session, phone.tenant_id, "phone")
        assert device is not None
        for network in random_networks(24, seed=1):
            slow = Measurement(1.2 * measured(rows, network))
            measurements.add(session, device, SPACE, network, slow, "verify", "job_own")
    assert not np.allclose(prices(PriceBook()), before, rtol=0.02), "other jobs learn from it"
    assert np.array_equal(prices(book), before) and np.array_equal(prices(book), before)


def test_what_is_remembered_follows_new_rows(make_api: Callable[..., Api]) -> None:
    api = make_api()
    api.add_device("phone")
    api.add_table("phone")
    supernet = api.add_supernet()
    first = api.get(f"/v1/supernets/{supernet}/front?device=phone").json()
    api.post("/v1/devices/phone/probes", samples(table_rows(), random_networks(24)))
    calibrated = api.get(f"/v1/supernets/{supernet}/front?device=phone").json()
    assert calibrated["points"][0]["latency_ms"] != first["points"][0]["latency_ms"]
    api.add_table(
        "phone",
        [{**row, "median_ms": row["median_ms"] * 2, "lower_quartile_ms": None} for row in table_rows()],
    )
    newer = api.get(f"/v1/supernets/{supernet}/front?device=phone").json()
    assert newer["table_id"] != calibrated["table_id"]


def test_a_latency_data_set_of_hat_makes_a_device(api: Api) -> None:
    context = {**CONTEXT, "runtime": "pytorch", "runtime_version": "1.1"}
    assert api.post("/v1/devices", {"name": "xeon", "context": context}).status_code == 201
    networks = [
        {"features": list(p.features), "encoder_ms": p.encoder_ms, "decoder_ms": p.decoder_ms}
        for p in transformers(120, noise=0.03)
    ]
    made = api.post("/v1/devices/xeon/transformers", {"networks": networks, "fitted_to": 60})
    assert made.status_code == 201, made.text
    found = made.json()
    assert (found["method"], found["accepted"], found["held_out"]) == ("transfer", 120, 60)
    assert found["error"] < 0.05 and 1 < found["interval"]["factor"] < 1.2
    device = api.get("/v1/devices/xeon").json()
    assert device["prediction_error"] == found["error"]
    assert {"hat-wmt"} == {covered["space"] for covered in device["coverage"]}
    assert [c["space"] for c in device["calibration"]] == ["hat-wmt"]
    few = api.post("/v1/devices/xeon/transformers", {"networks": networks[:30], "fitted_to": 25})
    assert few.json()["held_out"] == 0 and few.json()["calibration"][0]["networks"] == 30
    for body, says in (
        ({"networks": networks[:19]}, "at least 20"),
        ({"networks": networks, "space": "digits-mbv3"}, "write no sentences"),
        ({"networks": networks, "space": "hat-small"}, "encoder layers"),
        ({"networks": [n for n in networks if n["features"][4] == 640]}, "no decoder of width 512"),
    ):
        refused = api.post("/v1/devices/xeon/transformers", body)
        assert refused.status_code == 422 and says in refused.text, refused.text


def test_rows_made_of_transformers_add_up_to_what_is_predicted_of_each_network() -> None:
    space = space_named("hat-wmt")
    table = fit_transformers(transformers(60, noise=0.02))
    rows = rows_of(table, space)
    networks = space.sample(np.random.default_rng(1), 20)
    sums = [sum(rows[op].latency_ms for op in lower(space, network)) for network in networks]
    probes = [TransformerProbe(HAT_WMT.of(network).features(), 1.0, 1.0) for network in networks]
    assert sums == pytest.approx(table.predict(probes), rel=2e-3)
    assert min(row.latency_ms for row in rows.values()) > 0
