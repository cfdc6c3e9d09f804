"""All migrations on an empty database give the declared tables, whoever else lives in the database."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import create_engine, inspect, text

from service.db import migrate
from service.db.models import Base
from service.db.session import create_db_engine
from service.jobs.queue import migrate_engine_tables


def test_migrations_give_the_declared_schema(empty_database_url: str) -> None:
    engine = create_db_engine(empty_database_url)
    migrate.upgrade(engine)
    assert migrate.differences(engine) == []
    assert set(Base.metadata.tables) <= set(inspect(engine).get_table_names())
    assert migrate.current(engine) == migrate.newest()
    engine.dispose()


def test_a_difference_is_seen(empty_database_url: str) -> None:
    engine = create_db_engine(empty_database_url)
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE jobs DROP COLUMN error"))
    assert migrate.differences(engine)
    engine.dispose()


def test_p10_the_engines_tables_are_left_alone(empty_database_url: str) -> None:
    engine = create_db_engine(empty_database_url)
    migrate.upgrade(engine)
    migrate_engine_tables(empty_database_url)
    schema = "dbos" if engine.dialect.name == "postgresql" else None
    before = set(inspect(engine).get_table_names(schema=schema))
    assert any("workflow_status" in name for name in before)
    assert migrate.differences(engine) == []
    migrate.upgrade(engine)
    assert set(inspect(engine).get_table_names(schema=schema)) == before
    engine.dispose()


def test_twice_changes_nothing_and_rows_stay(empty_database_url: str) -> None:
    engine = create_db_engine(empty_database_url)
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO tenants (id, name, created_at) VALUES ('t', 'n', '2026-01-01 00:00:00')")
        )
    migrate.upgrade(engine)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM tenants")).scalar() == 1
    engine.dispose()


def test_several_processes_at_once(empty_database_url: str) -> None:
    failures: list[BaseException] = []

    def run() -> None:
        engine = create_db_engine(empty_database_url)
        try:
            migrate.upgrade(engine)
        except BaseException as error:
            failures.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_migration_that_fails_leaves_nothing(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C16: a crash in the middle of a migration leaves the database as it was."""
    from alembic.operations import Operations

    original = Operations.create_table
    made: list[str] = []

    def create(self: Operations, name: str, *columns: object, **options: object) -> object:
        made.append(name)
        if len(made) == 4:
            raise RuntimeError("pulled the plug")
        return original(self, name, *columns, **options)

    engine = create_db_engine(empty_database_url)
    with monkeypatch.context() as patch:
        patch.setattr("alembic.op.create_table", lambda *a, **k: create(_operations(), *a, **k))
        with pytest.raises(RuntimeError, match="plug"):
            migrate.upgrade(engine)
    fresh = create_engine(empty_database_url)
    assert set(inspect(fresh).get_table_names()) & set(Base.metadata.tables) == set()
    fresh.dispose()
    migrate.upgrade(engine)
    assert migrate.differences(engine) == []
    engine.dispose()


def _operations() -> object:
    from alembic.op import _proxy  # type: ignore[attr-defined]

    return _proxy


def test_0005_checked_networks_get_the_classes_they_were_exported_with(empty_database_url: str) -> None:
    """A check kept networks of 62 classes as ones of 10, the default of the space; what it kept rightly
    stays."""
    from alembic import command

    engine = create_db_engine(empty_database_url)
    with engine.begin() as connection:
        command.upgrade(migrate._config(connection), "0004")
        at = "2026-01-01 00:00:00"
        for statement in (
            f"INSERT INTO tenants (id, name, created_at) VALUES ('t', 'n', '{at}')",
            "INSERT INTO devices (id, tenant_id, name, description, context, revision, created_at) "
            f"VALUES ('d', 't', 'board', '', '{{}}', 1, '{at}')",
            "INSERT INTO jobs (id, tenant_id, kind, state, request, attempts, priority, created_at) "
            f"VALUES ('j', 't', 'check', 'succeeded', '{{}}', 1, 10, '{at}')",
        ):
            connection.execute(text(statement))
        insert = text(
            "INSERT INTO network_measurements (id, tenant_id, device_id, space, classes, architecture, "
            "architecture_digest, "
            "median_ms, source, session, created_at) "
            "VALUES (:id, 't', 'd', 'digits-mbv3', :classes, :architecture, :digest, 1.0, 'agent', "
            f":session, '{at}')"
        )
        for number, classes, architecture, digest, session in (
            ("a", 62, '{"resolution": 8, "stages": []}', "a62", "profile"),
            ("b", 10, '{"stages": [], "resolution": 8}', "a10", "j"),
            ("c", 10, '{"resolution": 12, "stages": []}', "c10", None),
            ("e", 10, '{"resolution": 12, "stages": []}', "c10", "j"),
            ("f", 10, '{"resolution": 16, "stages": []}', "f10", "j"),
        ):
            row = {
                "id": number,
                "classes": classes,
                "architecture": architecture,
                "digest": digest,
                "session": session,
            }
            connection.execute(insert, row)
    migrate.upgrade(engine)
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT id, classes, architecture_digest FROM network_measurements ORDER BY id")
        ).all()
    assert found == [("a", 62, "a62"), ("b", 62, "a62"), ("c", 10, "c10"), ("e", 10, "c10"), ("f", 10, "f10")]
    engine.dispose()
