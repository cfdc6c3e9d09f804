"""Jobs as a file: what is wrong is named by its line, what is right happens once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from latency_tables.formats import csv_rows
from latency_tables.formats.native_json import context_from
from latency_tables.measurement import Context, Measurement
from latency_tables.operators import Operator
from latency_tables.table import LatencyTable
from service.cli.jobs_file import read_plan
from service.cli.yaml_lines import FileRefused, read_yaml
from tests.service.api import CONTEXT, table_rows
from tests.service.cli.conftest import Bespoke, Server, serving

CONTEXT_TEXT = ", ".join(f"{k}: {json.dumps(v)}" for k, v in CONTEXT.items())


def refused(tmp_path: Path, text: str) -> list[tuple[int, str]]:
    file = tmp_path / "jobs.yaml"
    file.write_text(text)
    with pytest.raises(FileRefused) as caught:
        read_plan(file)
    assert all(line.startswith("jobs.yaml:") for line in str(caught.value).splitlines())
    return [(fault.line, fault.text) for fault in caught.value.faults]


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Of its own: a supernet is added whose weights nobody has."""
    with serving(tmp_path_factory.mktemp("service")) as found:
        yield found


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (BOMB, 1, "anchors"),
        ("devices:\n  - <<: *base\n", 2, "aliases"),
        ("devices: []\nsearches: !!python/object/apply:os.system [id]\n", 2, "tags"),
        ("devices: []\nsupernets: []\ndevices: []\n", 3, "twice; it was in line 1"),
        ("devices:\n  - name: a\n    name: b\n", 3, "twice"),
        ("devices: []\ndevice: []\n", 2, "'device' is not a field"),
        (
            f"devices:\n  - name: a\n    context: {{{CONTEXT_TEXT}}}\n    tabel: x.csv\n",
            4,
            "'tabel' is not a field",
        ),
        ("devices:\n  - name: a\n", 2, "'context' is missing"),
        ("supernets:\n  - name: s\n    space: digits-mbv3\n    dataset: digits\n    seed: yes\n", 5, "seed"),
        (
            "searches:\n  - name: s\n    supernet: nobody\n    targets: [{device: a, budget: {latency_ms: 1}}]\n",
            3,
            "nobody",
        ),
        (
            "searches:\n- name: s\n  space: digits-mbv3\n  dataset: digits\n  targets:\n  - device: a\n"
            "    budget: {latency_ms: -1}\n",
            7,
            "latency_ms",
        ),
        (f"devices:\n- name: a\n  context: {{{CONTEXT_TEXT}}}\n  table: gone.csv\n", 4, "is not there"),
        (
            f"devices:\n- {{name: a, context: {{{CONTEXT_TEXT}}}}}\n- {{name: a, context: {{{CONTEXT_TEXT}}}}}\n",
            3,
            "line 2 already",
        ),
        ("devices: []\n---\ndevices: []\n", 2, "second document"),
        ("%YAML 1.1\n---\ndevices: []\n", 1, "directives"),
        ("devices: [\n", 2, "expected"),
        ("- devices\n", 1, "wanted are"),
        ("", 1, "wanted are"),
        ("devices: \x07\n", 1, "special characters"),
        ("a: " + "[" * 60 + "]" * 60 + "\n", 1, "nested deeper"),
        ("? [a, b]\n: c\n", 1, "a key is a word"),
    ],
    ids=lambda given: (
        None if isinstance(given, int) or len(str(given)) > 24 else str(given).replace(" ", "-")
    ),
)
def test_what_is_not_taken_is_named_by_its_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    faults = refused(tmp_path, text)
    assert any(at == line and says in why for at, why in faults), faults


def test_words_stay_words() -> None:
    value = read_yaml(
        "a: yes\nb: 1:30\nc: 0x10\nd: 1_000\ne: 2001-01-01\nf: '5'\ng: 5\nh: 1e3\ni: ~\nj: .inf\n", "x"
    ).value
    assert value == {
        "a": "yes", "b": "1:30", "c": "0x10", "d": "1_000", "e": "2001-01-01", "f": "5", "g": 5, "h": 1000.0, "i": None, "j": ".inf",
    }  # fmt: skip


def write_jobs(tmp_path: Path, name: str, budget_ms: float = 1e5, description: str = "on the shelf") -> Path:
    rows = {
        Operator.parse(r["operator"]): Measurement(r["median_ms"], r["lower_quartile_ms"])
        for r in table_rows()
    }
    context: Context = context_from(CONTEXT)
    (tmp_path / "table.csv").write_bytes(csv_rows.write(LatencyTable(context, rows)))
    file = tmp_path / "jobs.yaml"
    file.write_text(
        f"""\
devices:
  - name: {name}
    description: {description}
    context: {{{CONTEXT_TEXT}}}
    table: table.csv
supernets:
  - {{name: numbers, space: digits-mbv3, dataset: digits, recipe: trial, seed: 41}}
searches:
  - name: night run of {name}
    supernet: numbers
    targets:
      - device: {name}
        budget: {{latency_ms: {budget_ms}}}
    verify: false
"""
    )
    return file


def actions(text: str) -> list[tuple[str, str]]:
    return [(entry["kind"], entry["action"]) for entry in json.loads(text)["entries"]]


def test_applied_twice_nothing_happens_the_second_time(
    server: Server, bespoke: Bespoke, tmp_path: Path
) -> None:
    file = write_jobs(tmp_path, "applied")
    dry = bespoke("apply", "-f", file, "--dry-run", "--json")
    assert dry.status == 0, dry.err
    wanted = [("device", "register"), ("table", "import"), ("supernet", "train"), ("search", "search")]
    assert actions(dry.out) == wanted
    with server.client() as service:
        assert "applied" not in [d["name"] for d in service.devices()], "a dry run changes nothing"
    first = bespoke("apply", "-f", file, "--json")
    assert first.status == 0, first.err
    assert actions(first.out) == wanted
    second = bespoke("apply", "-f", file, "--json")
    assert second.status == 0, second.err
    assert {action for _, action in actions(second.out)} == {"unchanged"}
    with server.client() as service:
        (job,) = list(service.jobs(text="night run of applied"))
        assert job.raw["name"] == "night run of applied"
        service.cancel(job.id)
    third = bespoke("apply", "-f", file)
    assert third.status == 1
    assert "ended cancelled" in third.err and "--again" in third.err
    again = bespoke("apply", "-f", file, "--again", "--json")
    assert ("search", "search") in actions(again.out)
    with server.client() as service:
        assert len(list(service.jobs(text="night run of applied"))) == 2
        for job in service.jobs(state="queued"):
            service.cancel(job.id)


def test_a_profile_is_asked_for_as_the_file_has_it(server: Server, bespoke: Bespoke, tmp_path: Path) -> None:
    """Nothing of it gets lost on the way, and a table without those rows does not count as measured."""
    sentence = {"source_tokens": 5, "target_tokens": 4, "beam": 2}
    wanted = {
        "pruning": {"space": "digits-mbv3", "networks": 3, "prune": True, "resolutions": [12]},
        "writing": {
            "space": "hat-small", "dataset": "pronunciations", "networks": 3, "generation": sentence
        },
    }  # fmt: skip
    write_jobs(tmp_path, "of rows in float32")  # the table
    file = tmp_path / "profiles.yaml"
    devices = [
        {
            "name": name,
            "context": CONTEXT,
            "profile": profile,
            **({"table": "table.csv"} if "prune" in profile else {}),
        }
        for name, profile in wanted.items()
    ]
    file.write_text(json.dumps({"devices": devices}))
    assert bespoke("apply", "-f", file).status == 0
    with server.client() as service:
        found = {}
        for job in service.jobs(state="queued"):
            asked = service.call("GET", f"/v1/jobs/{job.id}/request").json()["request"]
            found[asked["space"]] = asked
            service.cancel(job.id)
    assert found["digits-mbv3"].items() >= wanted["pruning"].items()
    # As the service keeps it, the sentence is part of the space's name.
    assert found["hat-small.s5.t4.b2"]["networks"] == 3


def test_what_changed_happens_and_what_cannot_be_is_said(
    server: Server, bespoke: Bespoke, tmp_path: Path
) -> None:
    assert bespoke("apply", "-f", write_jobs(tmp_path, "changing")).status == 0
    changed = bespoke("apply", "-f", write_jobs(tmp_path, "changing", description="moved"), "--json")
    assert actions(changed.out)[0] == ("device", "describe")
    with server.client() as service:
        assert service.device("changing")["description"] == "moved"
        for job in service.jobs(state="queued"):
            service.cancel(job.id)
    file = tmp_path / "jobs.yaml"
    file.write_text(file.read_text().replace("threads: 1", "threads: 2"))
    other = bespoke("apply", "-f", file)
    assert other.status == 1
    assert "jobs.yaml:2" in other.err and "threads 1" in other.err
    impossible = bespoke("apply", "-f", write_jobs(tmp_path, "changing", budget_ms=1e-4, description="moved"))
    assert impossible.status == 1
    assert "jobs.yaml:9: search" in impossible.err and "budgets from" in impossible.err


def test_dry_run_says_what_each_budget_would_give(server: Server, bespoke: Bespoke, tmp_path: Path) -> None:
    from service.db.session import create_db_engine, session_factory
    from tests.ui.conftest import add_supernet

    engine = create_db_engine(f"sqlite:///{server.data_dir / 'bespoke.db'}")
    with session_factory(engine)() as session, session.begin():
        supernet = add_supernet(session, seed=77)
    engine.dispose()
    assert bespoke("apply", "-f", write_jobs(tmp_path, "forecast")).status == 0
    with server.client() as service:
        for job in service.jobs(state="queued"):
            service.cancel(job.id)
    text = (tmp_path / "jobs.yaml").read_text().replace("supernet: numbers", f"supernet: {supernet}")
    (tmp_path / "jobs.yaml").write_text(text)
    said = bespoke("apply", "-f", tmp_path / "jobs.yaml", "--dry-run")
    assert "% predicted within 100000 ms" in said.err, said.err
    (tmp_path / "jobs.yaml").write_text(text.replace("latency_ms: 100000.0", "latency_ms: 0.0001"))
    cannot = bespoke("apply", "-f", tmp_path / "jobs.yaml", "--dry-run")
    assert cannot.status == 1
    assert "cannot keep 0.0001 ms: from" in cannot.err
