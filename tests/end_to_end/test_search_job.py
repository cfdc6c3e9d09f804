"""From a profile to delivered networks through the real worker: one job, two devices, two budgets. The agent
is simulated."""

import numpy as np
import onnxruntime
import pytest
from sqlalchemy import select

from latency_tables.measurement import Measurement
from latency_tables.table import LatencyTable
from service.db import measurements
from service.db.models import Device, Model, NetworkMeasurement, Table
from service.db.tables import publish
from service.devices.price_book import PriceBook
from supernets.search.exact.bounds import bounds
from supernets.search.limits import reachable
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import dense_energy, lower, needed_operators
from tests.worker.installation import Installation
from tests.worker.simulated_agent import CONTEXT, SimulatedAgent, operator_ms, register

pytestmark = pytest.mark.slow
SPACE = space_named("digits-mbv3")


@pytest.fixture
def installation(tmp_path, database_url):
    with Installation(tmp_path, database_url) as made:
        yield made


def profile(installation, name, device_id, resolutions=(8, 12), networks=20, classes=10):
    request = {
        "device_id": device_id, "device": name, "space": "digits-mbv3", "classes": classes,
        "resolutions": list(resolutions), "networks": networks,
    }  # fmt: skip
    job_id = installation.submit("profile", request)
    return job_id, installation.wait(job_id, 600).result


def search(installation, supernet_id, targets, limits=None, **options):
    asked = {
        "supernet_id": supernet_id, "strategy": "exact", "confidence": None, "candidates": 3, "verify": True,
        "targets": [
            {"device": d, "device_id": i, "table_id": t, "budget": {"latency_ms": b, **(limits or {})}} for d, i, t, b in targets
        ], **options,
    }  # fmt: skip
    job_id = installation.submit("search", asked)
    return installation.wait(job_id, 600)


def test_one_job_many_targets(installation):
    supernet_id = installation.supernet("trial")
    ids = {name: register(installation, name) for name in ("first", "second")}
    installation.start_worker()
    with SimulatedAgent(installation, list(ids.values())) as agent:
        _, first = profile(installation, "first", ids["first"])
        assert first["rows"] == 96 and first["networks"] == 20 and first["state"] == "ready"
        second_job, second = profile(installation, "second", ids["second"])
        assert [e["step"] for e in installation.events(second_job, "step_reused")][0] == "export_operator"
        again_job, again = profile(installation, "first", ids["first"])
        assert again["table_id"] == first["table_id"], "nothing is measured twice"
        assert installation.events(again_job, "measuring") == []

        tables = {"first": first["table_id"], "second": second["table_id"]}
        targets = [(n, ids[n], tables[n], b) for n in ids for b in (0.09, 0.12)]
        agent.slower[ids["second"]] = 1.3  # what is delivered there runs slower than the table says
        job = search(installation, supernet_id, targets)
        assert job.state == "succeeded", job.error
        assert len(job.result["models"]) + len(job.result["failures"]) == 4
        assert installation.events(job.id, "budget_broken"), "a network that broke its budget was ruled out"
        check_models(installation, job)
        check_matrix(job, tables)

        lone = search(installation, supernet_id, targets[:1])
        # What was measured since corrects the table, so it may choose other networks; the rest was done
        # before.
        assert installation.events(lone.id, "step_reused"), "work that was done before is not done again"
        assert lone.result["models"][0]["id"] != job.result["models"][0]["id"]

        slow = search(installation, supernet_id, targets[1:2], strategy="evolution", verify=False)
        card = card_of(installation, slow.result["models"][0]["id"])
        assert card["search"]["strategy"] == "evolution" and card["latency"]["measured_ms"] is None
        assert card["latency"]["verified"] is False

        check_limits(installation, supernet_id, targets[1], slow.result["models"][0]["id"])

        impossible = search(installation, supernet_id, [(*targets[0][:3], 0.0001)])
        assert (
            impossible.state == "failed"
            and impossible.error["type"] == "urn:bespoke:problem:infeasible_budget"
        )
        assert 0 < impossible.error["reachable_ms"]["min"] < impossible.error["reachable_ms"]["max"]


def test_one_job_for_a_group_for_limits_alone_for_a_table_with_gaps_and_for_p95_and_energy(
    tmp_path, migrated_sqlite
):
    with Installation(tmp_path, migrated_sqlite) as installation:
        supernet_id = installation.supernet("trial")
        ids = {name: register(installation, name) for name in ("first", "second", "gaps")}
        context = CONTEXT
        needed = {op for r in (8, 12) for op in needed_operators(SPACE, r)}
        tables = {}
        with installation.sessions.begin() as session:
            for name, device_id in ids.items():
                kept = [op for op in needed if name != "gaps" or op.kernel != 7]
                table = LatencyTable(context, {op: Measurement(0.9 * operator_ms(op)) for op in kept})
                tables[name] = publish(
                    session, session.get(Device, device_id), table, source="upload", findings=[]
                ).id
        pinned = {
            n: {"device": n, "device_id": i, "table_id": tables[n], "budget": {"latency_ms": 0.1}}
            for n, i in ids.items()
        }
        pinned["second"]["budget"] = {"latency_ms": 0.12}
        low, high = reachable(SPACE, "size_bytes")
        limits = {"size_bytes": int((low + high) / 2), "memory_bytes": 30_000}
        targets = [
            {"group": [pinned["first"], pinned["second"]]},
            {"budget": limits},
            {**pinned["gaps"], "missing": "exclude"},
        ]
        watch = register(installation, "watch")
        wanted, energies = watch_with_tails_and_energy(installation, watch)
        targets.append(wanted)
        installation.start_worker()
        with SimulatedAgent(installation, [ids["first"], ids["second"], watch]):
            asked = {
                "supernet_id": supernet_id,
                "strategy": "exact",
                "candidates": 3,
                "verify": True,
                "targets": targets,
            }
            job = installation.wait(installation.submit("search", asked), 600)
        assert job.state == "succeeded", job.error
        assert job.result["failures"] == []
        *cards, further = (card_of(installation, entry["id"]) for entry in job.result["models"])
        together, alone, partial = cards
        unmeasured = {**asked, "verify": False, "targets": [wanted]}
        lone = installation.wait(installation.submit("search", unmeasured), 600)
        check_further(further, card_of(installation, lone.result["models"][0]["id"]), energies)

    assert [d["device"] for d in together["devices"]] == ["first", "second"] and together["latency"][
        "verified"
    ]
    assert all(d["measured_ms"] <= d["budget_ms"] for d in together["devices"])
    assert {line["device"] for line in together["search"]["measured"]} == {"first", "second"}

    assert (
        alone["device"] is None and alone["budget_ms"] is None and alone["latency"]["chosen_by"] == "limits"
    )
    assert [c["name"] for c in alone["constraints"]] == list(limits) and all(
        c["value"] <= c["limit"] for c in alone["constraints"]
    )
    assert alone["file"]["size_bytes"] <= limits["size_bytes"] and alone["search"]["optimal"]

    assert partial["latency"]["measured_ms"] is None and partial["latency"]["chosen_by"] == "prediction"
    assert partial["latency"]["bound"] is None and partial["latency"]["missing_networks"] == 19
    (missing,) = partial["left_out"]["missing"]
    assert missing["device"] == "gaps" and missing["operators"] == len(
        [op for op in needed if op.kernel == 7]
    )
    assert len(missing["first"]) == 5
    assert all(
        block.get("kernel") != 7 for stage in partial["architecture"]["stages"] for block in stage["blocks"]
    )


def watch_with_tails_and_energy(installation, device_id):
    """A target that limits latency, p95 and energy, on a device of which all three are known; and its table."""
    space = SPACE.at((8, 12))
    needed = {op for r in space.resolutions for op in needed_operators(SPACE, r)}
    energy = {op: 1e-3 + 1e-8 * op.parameters * op.in_height for op in needed}
    table = LatencyTable(CONTEXT, {op: Measurement(operator_ms(op), energy_mj=energy[op]) for op in needed})
    with installation.sessions.begin() as session:
        device = session.get(Device, device_id)
        table_id = publish(session, device, table, source="upload", findings=[]).id
        for architecture in space.sample(np.random.default_rng(0), 20):
            true_ms = 0.01 + 0.9 * table.latency_ms(lower(space, architecture))
            measured = Measurement(true_ms, p95_ms=1.25 * true_ms)
            measurements.add(session, device, space, architecture, measured, "probe", "post_1")
    least, most = bounds(dense_energy(space, table))
    budget = {"latency_ms": 0.2, "latency_p95_ms": 0.125, "energy_mj": least + 0.6 * (most - least)}
    return {"device": "watch", "device_id": device_id, "table_id": table_id, "budget": budget}, table


def check_further(card, by_bound, table):
    """p95 was measured and kept, energy is the sum of the rows; without an agent the bound of p95 is kept."""
    p95, energy = card["latency"]["further"]
    assert (p95["name"], p95["limit"], energy["name"]) == ("latency_p95_ms", 0.125, "energy_mj")
    assert 0 < p95["measured"] <= 0.125 and p95["confidence"] == 0.95 and card["latency"]["verified"]
    assert energy["predicted"] <= energy["limit"] and energy["measured"] is None and energy["upper"] is None
    space = SPACE.at((8, 12))
    own = dense_energy(space, table).price(space.genes(space.from_json(card["architecture"]))[None])[0]
    assert energy["predicted"] == pytest.approx(own)
    names, measured = [(c["name"], c["basis"]) for c in card["constraints"]], "measured on the device"
    assert names == [("latency_ms", measured), ("latency_p95_ms", measured), ("energy_mj", "predicted")]
    assert all(c["value"] <= c["limit"] for c in card["constraints"] + by_bound["constraints"])
    assert [c["basis"] for c in by_bound["constraints"]] == ["upper bound", "upper bound", "predicted"]


def test_a_check_measures_networks_again_and_the_calibration_knows_the_session(installation):
    """Of a data set with other classes than the space's own: they must not be kept as networks of ten
    classes."""
    device_id = register(installation, "board")
    installation.start_worker()
    with SimulatedAgent(installation, [device_id]):
        profiled, done = profile(installation, "board", device_id, resolutions=(8,), classes=62)
        checked = installation.submit("check", {"device_id": device_id, "device": "board", "operators": 6})
        found = installation.wait(checked, 600).result
    assert found["holds"] and found["operators"] == 6 and found["networks"] == 4
    with installation.sessions() as session:
        rows = session.scalars(
            select(NetworkMeasurement).where(NetworkMeasurement.device_id == device_id)
        ).all()
        assert sorted(row.session for row in rows) == sorted([profiled] * 20 + [checked] * 4)
        assert {row.classes for row in rows} == {62}
        provenance = session.get(Table, done["table_id"]).provenance
        assert provenance["groups"] and all(group["factor"] == 1 for group in provenance["groups"])
        space = space_named("digits-mbv3").with_classes(62).at((8,))
        pricing = PriceBook().load(session, session.get(Device, device_id), space, confidence=0.9)
    assert pricing.calibration.sessions.count == 2


def check_limits(installation, supernet_id, target, free_id):
    """Size, MACs and memory below those of the network that latency alone allowed; then limits that
    contradict each other."""
    free = card_of(installation, free_id)["file"]
    limits = {
        "size_bytes": int(free["size_bytes"] * 0.8),
        "macs": int(free["macs"] * 0.9),
        "memory_bytes": 10**6,
    }
    job = search(installation, supernet_id, [target], limits=limits, verify=False)
    assert job.state == "succeeded", job.error
    card = card_of(installation, job.result["models"][0]["id"])
    assert [c["name"] for c in card["constraints"]] == ["latency_ms", *limits]
    assert all(c["value"] <= c["limit"] for c in card["constraints"])
    assert card["file"]["size_bytes"] <= limits["size_bytes"] and card["file"]["macs"] <= limits["macs"]
    low, _ = reachable(space_named("digits-mbv3").at((8, 12)), "size_bytes")
    too_small = search(installation, supernet_id, [target], limits={"size_bytes": int(low) + 1}, verify=False)
    assert too_small.state == "failed" and too_small.error["type"] == "urn:bespoke:problem:infeasible_budget"
    assert too_small.error["constraint"] == "size_bytes", "weights alone would fit, the file does not"


def card_of(installation, model_id):
    with installation.sessions() as session:
        return session.get(Model, model_id).card


def check_models(installation, job):
    for entry in job.result["models"]:
        card = card_of(installation, entry["id"])
        assert card["latency"]["measured_ms"] <= entry["budget_ms"] and card["latency"]["verified"]
        assert card["latency"]["chosen_by"] == "measurement" and card["latency"]["uncertainty"] > 0
        assert card["latency"]["predicted_ms"] <= card["latency"]["upper_ms"]
        assert card["latency"]["confidence"] == 0.95 and card["search"]["optimal"]
        measured = card["search"]["measured"]
        assert len(measured) >= 2 and {line["device"] for line in measured} == {card["device"]}
        kept = [line for line in measured if line["verdict"] == "kept"]
        own = [line for line in measured if line["architecture"] == card["architecture"]]
        assert own and all(line["accuracy_validation"] <= own[0]["accuracy_validation"] for line in kept)
        used = card["search"]["predictor"]
        assert (
            used == job.result["predictor"]
            and used["held_out_networks"] >= 10
            and -1 <= used["kendall_tau"] <= 1
        )
        assert 0 <= card["accuracy"]["predicted"] <= 1 and card["accuracy"]["samples"] == 360
        data = installation.store.read(card["file"]["sha256"])
        assert len(data) == card["file"]["size_bytes"] and card["file"]["parity_max_abs_error"] <= 1e-4
        network = onnxruntime.InferenceSession(data)
        shape = card["file"]["input_shape"]
        (logits,) = network.run(None, {network.get_inputs()[0].name: np.zeros(shape, dtype=np.float32)})
        assert logits.shape == (1, 10)
    with installation.sessions() as session:
        verified = session.scalars(
            select(NetworkMeasurement).where(NetworkMeasurement.source == "verify")
        ).all()
        assert verified and len({(v.device_id, v.architecture_digest) for v in verified}) == len(verified)
        assert {t.state for t in session.scalars(select(Table))} == {"ready"}


def check_matrix(job, tables):
    matrix = job.result["matrix"]
    assert set(matrix["devices"]) == set(tables) and len(matrix["networks"]) == len(job.result["models"])
    for row in matrix["networks"]:
        assert all(value > 0 for value in row["latency_ms"].values())
