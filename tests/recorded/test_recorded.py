"""What was made at commit 0ecf99f still opens and still says the same: a database, texts and digests, HTTP
answers."""

from __future__ import annotations

import gzip
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from latency_tables.table import LatencyTable
from service.db import migrate
from service.db.models import Device, MeasurementTask, Model, NetworkMeasurement, Supernet, Table
from service.db.session import create_db_engine
from service.devices.price_book import PriceBook, to_latency_table
from service.local.doctor import ERROR, doctor
from supernets.spaces.catalog import SPACES, space_named
from tests.recorded.texts import RECORDED, texts_of
from tests.recorded.walk import ANSWERS, ask, differences, recorded_api, unpack
from tests.service.api import Api

WALK: list[dict[str, Any]] = json.loads(gzip.decompress(ANSWERS.read_bytes()))
TEXTS: dict[str, Any] = json.loads(gzip.decompress(RECORDED.read_bytes()))


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """The API over the recorded database. For tests that only read."""
    with recorded_api(tmp_path_factory.mktemp("recorded")) as api:
        yield api


def test_the_recorded_database_is_migrated_to_the_declared_schema(tmp_path: Path) -> None:
    engine = create_db_engine(unpack(tmp_path / "old.db"))
    with sqlite3.connect(tmp_path / "old.db") as connection:
        tables = [
            name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        before = {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables}
    assert before["latency_rows"] > 100 and before["models"] == 1 and before["measurement_tasks"] > 100
    migrate.upgrade(engine)
    assert migrate.current(engine) == migrate.newest()
    assert migrate.differences(engine) == []
    engine.dispose()
    with sqlite3.connect(tmp_path / "old.db") as connection:
        now = {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in tables}
    assert now == before, "a migration lost rows"


def test_the_doctor_finds_nothing_wrong_but_the_files_that_were_not_kept(old: Api) -> None:
    found = [f for f in doctor(old.settings) if f.severity == ERROR]
    assert {f.code for f in found} == {"file_missing"}, [str(f) for f in found]


def test_every_list_shows_what_was_there(old: Api) -> None:
    counts = {
        name: len(old.get(f"/v1/{name}").json()["items"])
        for name in ("devices", "supernets", "jobs", "models")
    }
    assert counts == {"devices": 2, "supernets": 2, "jobs": 6, "models": 1}


def test_old_tables_have_the_digests_they_were_stored_under(old: Api) -> None:
    with old.services.sessions() as session:
        tables = session.scalars(select(Table)).all()
        assert len(tables) == 2
        for table in tables:
            device = session.get(Device, table.device_id)
            assert device is not None
            read: LatencyTable = to_latency_table(session, table, device)
            assert (read.digest, len(read.rows)) == (table.digest, table.rows)


def test_old_architectures_resolve_to_the_digests_they_were_stored_under(old: Api) -> None:
    with old.services.sessions() as session:
        rows = session.scalars(select(NetworkMeasurement)).all()
        assert len(rows) > 30
        for row in rows:
            space = space_named(row.space).with_classes(row.classes)
            assert space.from_json(row.architecture).digest == row.architecture_digest
        tasks = session.scalars(select(MeasurementTask).where(MeasurementTask.space.is_not(None))).all()
        assert len(tasks) > 20
        assert all(space_named(str(t.space)).from_json(t.architecture or {}) for t in tasks)


def test_the_recorded_device_and_supernet_are_searched(old: Api) -> None:
    """The whole front of the old device is solved from the old table, calibration and predictor; it holds the
    old model."""
    prices = PriceBook()
    with old.services.sessions() as session:
        model = session.scalars(select(Model)).one()
        device, supernet = session.get(Device, model.device_id), session.get(Supernet, model.supernet_id)
        assert device is not None and supernet is not None
        pricing = prices.load(session, device, space_named(supernet.space).with_classes(supernet.classes))
        assert pricing.table_id == model.table_id and pricing.upper is not None
        found = prices.front(supernet, pricing)
    assert len(found.scores) > 10
    space = pricing.space
    chosen = space.from_json(model.card["architecture"])
    upper_ms = float(pricing.held.price(space.genes(chosen)[None])[0])
    assert upper_ms == pytest.approx(model.card["latency"]["upper_ms"], rel=0.02), (
        "it was measured, and counts since"
    )
    body = {
        "supernet": supernet.id,
        "targets": [{"device": device.name, "budget": {"latency_ms": model.budget_ms}}],
    }
    assert old.post("/v1/searches", body).status_code == 202


def test_http_answers_are_those_of_the_recorded_walk(tmp_path: Path) -> None:
    """Additions and wording aside. One walk in one test: what it posts changes what it reads."""
    wrong: list[str] = []
    with recorded_api(tmp_path) as api:
        for question in WALK:
            found = differences(question["answer"], ask(api, question))
            wrong += [f"{question['method']} {question['path']} {line}" for line in found]
    assert len(WALK) > 60
    assert not wrong, "\n".join(wrong[:40])


def test_a_changed_answer_would_be_seen() -> None:
    recorded = {"a": 1, "b": [1.0, "x"], "c": None, "id": "<varies>", "detail": "worse"}
    same = {**recorded, "b": [1.0, "x", 2], "more": 1, "id": "other", "detail": "better"}
    assert list(differences(recorded, same)) == []
    assert list(differences(recorded, {**same, "a": True})) == ["/a: True, it was 1"]
    assert list(differences(recorded, {**same, "b": [1.1]})) == [
        "/b: 1 items, there were 2",
        "/b/0: 1.1, it was 1.0",
    ]
    assert list(differences(recorded, {k: v for k, v in same.items() if k != "c"})) == ["/c is gone"]
    assert list(differences({"of": ["a", "c"]}, {"of": ["a", "b", "c"]})) == []
    assert list(differences({"of": ["a", "c"]}, {"of": ["a", "b"]})) == ["/of: 'c' is gone"]
    assert list(differences({"of": ["c", "a"]}, {"of": ["a", "c"]})) != []


@pytest.mark.parametrize("name", sorted(TEXTS))
def test_operator_texts_and_digests_are_those_of_the_recording(name: str) -> None:
    """Tables that users keep rest on these; what is recorded may be added to, not changed."""
    space_name, _, classes = name.partition(" ")
    space = SPACES[space_name]
    found = json.loads(json.dumps(texts_of(space.with_classes(int(classes)) if classes else space)))
    assert list(differences(TEXTS[name], found)) == []
