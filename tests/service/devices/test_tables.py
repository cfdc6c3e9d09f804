"""Versions of a device's table: which is in use, who said so, what an import adds and what it loses."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from service.db import migrate
from service.db.models import new_id
from service.db.session import create_db_engine
from tests.service.api import CONTEXT, SPACE, Api, is_problem, search_request, table_rows

CSV = {"Content-Type": "text/csv"}


def rows_times(factor: float, **which: Any) -> list[dict[str, Any]]:
    return [{"operator": r["operator"], "median_ms": r["median_ms"] * factor} for r in table_rows(**which)]


def in_use(api: Api, name: str = "phone") -> list[int]:
    return [t["version"] for t in api.get(f"/v1/devices/{name}/tables").json()["items"] if t["in_use"]]


def doubtful(api: Api) -> dict[str, Any]:
    """A table of which one row cannot be true, as far as the service can see."""
    rows = rows_times(1.0)
    rows[3]["median_ms"] = 1e-9
    return api.add_table("phone", rows)


def test_the_table_imported_last_is_in_use_also_when_it_was_imported_before(both: Api) -> None:
    both.add_device("phone")
    first = both.add_table("phone")
    second = both.add_table("phone", rows_times(1.1))
    assert in_use(both) == [2] and second["in_use"] and "version 2 is in use" in second["explanation"]
    again = both.add_table("phone")
    assert (again["id"], again["version"], again["in_use"]) == (first["id"], 1, True)
    assert "version 1 is in use again" in again["explanation"]
    view = both.get("/v1/devices/phone").json()
    assert view["table_id"] == first["id"] and in_use(both) == [1]


def test_fronts_and_searches_rest_on_the_table_in_use(api: Api) -> None:
    api.add_device("phone")
    supernet = api.add_supernet()
    api.add_table("phone")
    fast = api.get(f"/v1/supernets/{supernet}/front?device=phone").json()["points"][0]["latency_ms"]
    api.add_table("phone", rows_times(1.5))
    slow = api.get(f"/v1/supernets/{supernet}/front?device=phone").json()["points"][0]["latency_ms"]
    assert slow == pytest.approx(1.5 * fast, rel=1e-6)
    first = api.add_table("phone")
    assert api.get(f"/v1/supernets/{supernet}/front?device=phone").json()["points"][0]["latency_ms"] == fast
    job = api.post("/v1/searches", search_request(supernet, 100.0)).json()
    assert job["state"] == "queued"
    is_problem(api.call("DELETE", f"/v1/devices/phone/tables/{first['id']}"), 409, code="in_use")


def test_a_version_is_chosen_by_hand_and_who_did_it_is_shown(both: Api) -> None:
    both.add_device("phone")
    first = both.add_table("phone")
    both.add_table("phone", rows_times(1.1))
    used = both.post(f"/v1/devices/phone/tables/{first['id']}/use").json()
    assert used["in_use"] and used["version"] == 1 and in_use(both) == [1]
    assert used["created_by"] == used["used_by"] == "owner"
    assert used["used_at"] > used["created_at"]
    assert both.call("DELETE", f"/v1/devices/phone/tables/{first['id']}").status_code == 204
    assert in_use(both) == [2]


def test_a_table_that_needs_a_review_says_which_one_stays_in_use_and_can_be_accepted(both: Api) -> None:
    both.add_device("phone")
    both.add_table("phone")
    odd = doubtful(both)
    assert odd["state"] == "needs_review" and not odd["in_use"]
    assert odd["table_in_use"]["version"] == 1
    assert (
        "version 1 stays in use" in odd["explanation"]
        and "bespoke tables accept phone 2" in odd["explanation"]
    )
    path = f"/v1/devices/phone/tables/{odd['id']}"
    is_problem(both.post(f"{path}/use"), 409, code="conflict")
    accepted = both.post(f"{path}/accept", {"note": "a cache of its own"}).json()
    assert accepted["state"] == "ready" and accepted["in_use"] and in_use(both) == [2]
    assert (accepted["accepted_by"], accepted["accepted_note"]) == ("owner", "a cache of its own")
    assert accepted["accepted_at"].endswith("Z")
    assert accepted["reasons"][0]["severity"] == "review", "what was found odd stays on it"
    again = doubtful(both)
    assert again["in_use"], "what was accepted once is not doubted again"


def test_prices_know_who_accepted_their_table_for_the_card(api: Api) -> None:
    from service.db import devices as device_rows

    api.add_device("phone")
    odd = doubtful(api)
    api.post(f"/v1/devices/phone/tables/{odd['id']}/accept", {"note": "a cache of its own"})
    with api.services.sessions() as session:
        device = device_rows.named(session, api.tenant_id, "phone")
        assert device is not None
        facts = api.services.prices.load(session, device, SPACE).table_facts
    assert (facts["version"], facts["created_by"], facts["accepted_by"]) == (1, "owner", "owner")
    assert facts["accepted_note"] == "a cache of its own" and facts["accepted_at"] and facts["findings"]


def test_a_device_whose_only_table_needs_a_review_says_how_to_accept_it(api: Api) -> None:
    api.add_device("phone")
    doubtful(api)
    answer = is_problem(
        api.post("/v1/searches", search_request(api.add_supernet(), 100.0)), 422, code="no_table"
    )
    assert "bespoke tables accept phone 1" in answer["detail"]


def test_using_and_accepting_have_bad_input(api: Api) -> None:
    api.add_device("phone")
    table = api.add_table("phone")
    path = f"/v1/devices/phone/tables/{table['id']}"
    for verb, body in (("use", None), ("accept", {})):
        is_problem(api.post(f"/v1/devices/phone/tables/{new_id('tab')}/{verb}", body), 404)
        is_problem(api.post(f"/v1/devices/nobody/tables/{table['id']}/{verb}", body), 404)
        reader = api.new_key("devices:read")
        is_problem(api.post(f"{path}/{verb}", body, key=reader), 403)
    is_problem(api.post(f"{path}/accept", {"note": "a\x07b"}), 422)
    is_problem(api.post(f"{path}/accept", {"why": "x"}), 422)
    is_problem(api.post(f"{path}/use", {"note": "x"}), 422)
    other = api.new_tenant()
    is_problem(api.post(f"{path}/accept", {}, key=other), 404)


def test_rows_are_added_to_the_table_in_use(both: Api) -> None:
    both.add_device("phone")
    small, large = rows_times(1.0, resolutions=(8,)), rows_times(1.0, resolutions=(12, 16))
    both.add_table("phone", small)
    body = {"context": CONTEXT, "rows": [*large, {**small[0], "median_ms": small[0]["median_ms"] * 1.2}]}
    added = both.post("/v1/devices/phone/tables?mode=add", body).json()
    assert added["rows"] == len(table_rows()) and added["replaced"] == 1 and added["in_use"]
    assert added["coverage"][0]["resolutions"] == list(SPACE.resolutions)
    back = both.get(f"/v1/devices/phone/tables/{added['id']}", headers={"Accept": "text/csv"}).text
    values = {r["operator"]: float(r["median_ms"]) for r in csv.DictReader(io.StringIO(back))}
    assert values[small[0]["operator"]] == small[0]["median_ms"] * 1.2
    is_problem(both.post("/v1/devices/phone/tables?mode=some", body), 422)


def test_adding_to_nothing_says_so(api: Api) -> None:
    api.add_device("phone")
    added = api.post("/v1/devices/phone/tables?mode=add", {"context": CONTEXT, "rows": table_rows()}).json()
    assert added["in_use"] and any("no table in use to add to" in w for w in added["warnings"])


def test_an_import_that_loses_coverage_says_so(api: Api) -> None:
    api.add_device("phone")
    api.add_table("phone", rows_times(1.0, resolutions=(8, 12)))
    narrower = api.add_table("phone", rows_times(1.1, resolutions=(16,)))
    (warning,) = (w for w in narrower["warnings"] if "does not cover" in w)
    assert "digits-mbv3 with 10 classes at 8 and 12 px, which version 1 does" in warning
    assert "only 16 px can be searched now" in warning and "--add" in warning
    assert not any("does not cover" in w for w in api.add_table("phone")["warnings"])


def test_a_table_that_covers_nothing_names_what_is_nearest_and_what_it_lacks(api: Api) -> None:
    api.add_device("phone")
    without = [r for r in rows_times(1.0) if "/kernel=7/" not in r["operator"]]
    made = api.add_table("phone", without)
    assert made["state"] == "ready" and made["coverage"] == []
    (warning,) = (w for w in made["warnings"] if "covers no space" in w)
    assert "nearest: digits-mbv3 with 10 classes at 8 px lacks 15 of 48 operators: mbconv/" in warning
    assert warning.count("kernel=7") == 5 and "and 10 more" in warning
    problem = is_problem(
        api.post("/v1/searches", search_request(api.add_supernet(), 100.0)), 422, code="no_table"
    )
    assert "at 8 px lacks 15 of 48" in problem["detail"] and problem["detail"].count("kernel=7") == 5
    assert problem["missing_count"] == 15 and len(problem["missing"]) == 10


def test_a_space_that_the_new_table_leaves_out_goes_on_with_the_one_before(api: Api) -> None:
    from supernets.spaces.catalog import SPACES

    api.add_device("phone")
    api.add_table("phone")
    other = api.add_table("phone", rows_times(1.0, space=SPACES["cifar-mbv3"]))
    assert any("digits-mbv3 goes on with version 1" in w for w in other["warnings"])
    assert api.post("/v1/searches", search_request(api.add_supernet(), 100.0)).status_code == 202


def us_table(api: Api, query: str = "") -> dict[str, Any]:
    body = {"context": CONTEXT, "rows": rows_times(1e3)}
    answer = api.post(f"/v1/devices/phone/tables{query}", body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


@pytest.mark.parametrize("factor", [1e3, 1e6, 1e-3])
def test_values_in_another_unit_are_looked_at_before_they_are_used(api: Api, factor: float) -> None:
    """Also on the first device of a fresh service: published devices are known."""
    api.add_device("phone")
    made = api.add_table("phone", rows_times(factor))
    assert made["state"] == "needs_review" and not made["in_use"]
    assert any("times" in w and "known here" in w for w in made["warnings"])
    again = api.add_table("phone")
    assert again["in_use"], "the right table afterwards is used"
    (warning,) = (
        w for w in api.add_table("phone", rows_times(0.999 * factor))["warnings"] if "version 2" in w
    )
    assert "of this device" in warning, "and a wrong one after it is held against it"


def test_a_unit_that_is_said_is_read(both: Api) -> None:
    both.add_device("phone")
    made = us_table(both, "?unit=us")
    assert made["state"] == "ready" and made["in_use"] and made["warnings"] == []
    back = both.get(f"/v1/devices/phone/tables/{made['id']}", headers={"Accept": "text/csv"}).text
    wanted = {r["operator"]: r["median_ms"] for r in table_rows()}
    assert {r["operator"]: float(r["median_ms"]) for r in csv.DictReader(io.StringIO(back))} == pytest.approx(
        wanted
    )
    is_problem(
        both.post("/v1/devices/phone/tables?unit=hours", {"context": CONTEXT, "rows": table_rows()}), 422
    )


def test_a_table_that_networks_of_the_device_contradict_is_looked_at(api: Api) -> None:
    from latency_tables.operators import Operator
    from supernets.spaces.lowering import lower

    api.add_device("phone")
    times = {Operator.parse(r["operator"]): r["median_ms"] for r in table_rows()}
    samples = [
        {
            "space": SPACE.name,
            "architecture": SPACE.to_json(a),
            "latency_ms": sum(times[op] for op in lower(SPACE, a)),
        }
        for a in (SPACE.largest(), SPACE.smallest())
    ]
    assert api.post("/v1/devices/phone/probes", {"samples": samples}).status_code == 201
    made = api.add_table("phone", rows_times(25.0))
    assert made["state"] == "needs_review"
    assert any("2 whole networks measured on this device take 1/25 of the sum" in w for w in made["warnings"])
    assert api.add_table("phone")["in_use"]


def test_a_csv_of_a_spreadsheet_is_taken_and_what_was_read_is_said(api: Api) -> None:
    api.add_device("phone")
    lines = [
        "operator;who;median_ms",
        *(f"{r['operator']};me;{r['median_ms']:.9f}".replace(".", ",") for r in table_rows()),
    ]
    answer = api.call(
        "POST",
        "/v1/devices/phone/tables",
        content="\r\n".join([*lines, ";;", ""]).encode("utf-16"),
        headers=CSV,
    )
    assert answer.status_code == 201, answer.text
    said = " ".join(answer.json()["warnings"])
    assert answer.json()["in_use"] and answer.json()["rows"] == len(table_rows())
    assert "UTF-16" in said and "semicolon" in said and "decimal commas" in said and "ignored: who" in said


def test_the_npu_of_the_public_case_is_ready_with_its_oddity_as_a_warning(api: Api) -> None:
    from latency_tables.operators import Operator

    api.add_device("phone")
    ops = [Operator.parse(r["operator"]) for r in table_rows()]
    rows = [
        {"operator": o.text, "median_ms": round(0.02 + o.macs / 5e7 + 0.6 * o.squeeze_excite, 6)} for o in ops
    ]
    made = api.add_table("phone", rows)
    assert made["state"] == "ready" and made["in_use"]
    assert any("with squeeze-excite" in w for w in made["warnings"])


def test_energies_are_stored_returned_and_add_up_over_a_network(both: Api) -> None:
    from latency_tables.operators import Operator
    from service.db import devices as device_rows
    from service.db import tables as tables_in_db
    from supernets.errors import NoEnergy
    from supernets.spaces.lowering import dense_energy, lower

    both.add_device("phone")
    rows = [{**r, "energy_mj": 0.5 + n / 100} for n, r in enumerate(table_rows())]
    made = both.add_table("phone", rows)
    assert made["in_use"] and made["warnings"] == []
    back = both.get(f"/v1/devices/phone/tables/{made['id']}", headers={"Accept": "application/json"}).json()[
        "rows"
    ]
    assert {r["operator"]: r["energy_mj"] for r in back} == {r["operator"]: r["energy_mj"] for r in rows}
    with both.services.sessions() as session:
        device = device_rows.named(session, both.tenant_id, "phone")
        assert device is not None
        table = tables_in_db.in_use(session, device.id)
        assert table is not None
        energies, largest = dense_energy(SPACE, tables_in_db.load(session, table.id)), SPACE.largest()
    by_operator = {Operator.parse(r["operator"]): r["energy_mj"] for r in rows}
    wanted = sum(by_operator[op] for op in lower(SPACE, largest))
    assert energies.price(SPACE.genes(largest)[None])[0] == pytest.approx(wanted)

    partly = both.add_table("phone", [*rows[:-2], *table_rows()[-2:]])
    assert any(
        f"energy_mj is known of {len(rows) - 2} of {len(rows)} rows only" in w for w in partly["warnings"]
    )
    with both.services.sessions() as session:
        device = device_rows.named(session, both.tenant_id, "phone")
        assert device is not None
        table = tables_in_db.in_use(session, device.id)
        assert table is not None
        with pytest.raises(NoEnergy, match="no energy_mj for 2 operators") as caught:
            dense_energy(SPACE, tables_in_db.load(session, table.id))
    assert len(caught.value.operators) == 2


def test_tables_of_an_older_database_keep_their_order(tmp_path: Path) -> None:
    from alembic import command

    engine = create_db_engine(f"sqlite:///{tmp_path / 'old.db'}")
    with engine.connect() as connection:
        command.upgrade(migrate._config(connection), "0003")
        connection.execute(
            text("INSERT INTO tenants (id, name, created_at) VALUES ('t', 'n', '2026-01-01 00:00:00')")
        )
        connection.execute(
            text(
                "INSERT INTO devices (id, tenant_id, name, description, context, revision, created_at) "
                "VALUES ('d', 't', 'n', '', '{}', 1, '2026-01-01 00:00:00')"
            )
        )
        for version in (1, 2):
            connection.execute(
                text(
                    "INSERT INTO latency_tables (id, tenant_id, device_id, version, digest, rows, source, "
                    "state, reasons, "
                    f"provenance, created_at) VALUES ('x{version}', 't', 'd', {version}, '', 1, 'upload', "
                    f"'ready', '[]', '{{}}', "
                    "'2026-01-01 00:00:00')"
                )
            )
            connection.execute(
                text(
                    f"INSERT INTO latency_rows (table_id, operator, median_ms) VALUES ('x{version}', "
                    "'conv', 0.5)"
                )
            )
        connection.commit()
    migrate.upgrade(engine)
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT version, precedence FROM latency_tables ORDER BY version")
        ).all()
        assert [tuple(row) for row in found] == [(1, 1), (2, 2)]
        assert connection.execute(text("SELECT count(*) FROM latency_rows")).scalar() == 2, (
            "no row was lost on the way"
        )
    engine.dispose()
