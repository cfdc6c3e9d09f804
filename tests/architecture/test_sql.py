"""SQL is written in `service/db` alone: other rooms open transactions and hand their session on."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ASKS = {  # what sends a statement, or changes what the next one sends
    "execute", "scalar", "scalars", "stream", "get", "get_one", "add", "add_all", "merge", "delete", "flush",
    "refresh", "expire", "expunge", "connection", "query", "commit", "rollback",
}  # fmt: skip
SESSIONS = ("session",)  # how every function of ours calls its session


def others() -> list[Path]:
    """Every module that must not write SQL."""
    found = [*(ROOT / "service").rglob("*.py"), *(ROOT / "worker").rglob("*.py")]
    return [p for p in found if not p.is_relative_to(ROOT / "service" / "db")]


def sql_in(source: str) -> Iterator[str]:
    """What a module has of SQL: imports of SQLAlchemy or its driver, and questions to a session."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            names = []
        yield from (
            name
            for name in names
            if name.partition(".")[0] in ("sqlalchemy", "psycopg", "sqlite3", "alembic")
        )
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ASKS:
            owner = node.func.value
            if isinstance(owner, ast.Name) and owner.id in SESSIONS:
                yield f"{owner.id}.{node.func.attr}"


@pytest.mark.parametrize("room", ["service", "worker"])
def test_no_other_room_writes_sql(room: str) -> None:
    found = {}
    for module in others():
        name = str(module.relative_to(ROOT))
        if name.startswith(room) and (sql := sorted(set(sql_in(module.read_text())))):
            found[name] = sql
    assert found == {}, "write a query function in service/db, and call that"


@pytest.mark.parametrize(
    "line",
    [
        "import sqlalchemy",
        "from sqlalchemy.orm import Session",
        "session.execute(what)",
        "session.get(Job, 'job_1')",
        "import sqlite3",
    ],
)
def test_sql_is_found(line: str) -> None:
    assert len(list(sql_in(f"def f(session, what):\n    {line}\n"))) == 1
    assert (
        list(sql_in("def f(session, rows):\n    with session.begin():\n        rows.get(session, 'a')\n"))
        == []
    )


def test_modules_are_looked_at() -> None:
    assert len(others()) > 100
