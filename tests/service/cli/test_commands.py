"""Commands against a real API: what they print, what they write, and that every error says what to do
next."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from latency_tables.formats.catalog import FORMATS
from latency_tables.measurement import Context, Measurement
from latency_tables.table import LatencyTable
from service.cli.app import app, run
from service.cli.devices import nodes_line
from supernets.spaces.catalog import SPACES
from supernets.spaces.lowering import all_operators
from tests.service.cli.conftest import Bespoke, Server
from tests.service.cli.delivering import SIZE_ONLY, delivering

CONTEXT = Context("onnxruntime", "1.31", "CPUExecutionProvider", 1, "float32", 1)
SPACE = SPACES["digits-mbv3"]


def table_file(folder: Path, name: str = "table.csv", factor: float = 1.0) -> Path:
    """A whole table for digits-mbv3: 2 billion multiply-accumulates a second."""
    operators = {op for r in SPACE.resolutions for op in all_operators(SPACE, r)}
    table = LatencyTable(CONTEXT, {op: Measurement(factor * (0.002 + op.macs / 2e6)) for op in operators})
    file = folder / name
    write = FORMATS[file.suffix[1:]].write
    assert write is not None
    file.write_bytes(write(table))
    return file


def add_device(bespoke: Bespoke, name: str) -> None:
    context = [f"--{k.replace('_', '-')}={v}" for k, v in CONTEXT.as_dict().items()]
    assert bespoke("devices", "add", name, "--description", "a board", *context).status == 0


def test_a_device_from_nothing_to_a_table_and_away_again(bespoke: Bespoke, tmp_path: Path) -> None:
    add_device(bespoke, "board-a")
    shown = bespoke("devices", "show", "board-a")
    assert "a board" in shown.out and "no table yet" in shown.out

    given = table_file(tmp_path)
    imported = bespoke("tables", "import", "board-a", given)
    assert imported.status == 0, imported.err
    assert "digits-mbv3 with 10 classes: every resolution" in imported.out

    back = tmp_path / "back.csv"
    assert bespoke("tables", "export", "board-a", "-o", back).status == 0
    assert back.read_bytes() == given.read_bytes()
    assert bespoke("tables", "export", "board-a", "-o", tmp_path / "back.json").status == 0
    again = bespoke("tables", "import", "board-a", tmp_path / "back.json")
    assert again.status == 0, again.err

    listed = json.loads(bespoke("devices", "list", "--json").out)
    assert [d["name"] for d in listed if d["name"] == "board-a"] == ["board-a"]
    assert bespoke("devices", "remove", "board-a", "--yes").status == 0
    assert bespoke("devices", "show", "board-a").status == 1


def test_wrong_rows_are_named_by_number_and_nothing_is_kept(bespoke: Bespoke, tmp_path: Path) -> None:
    add_device(bespoke, "board-b")
    lines = table_file(tmp_path).read_text().splitlines()
    lines[3] = lines[3].split(",")[0] + ",minus one,,,"
    (tmp_path / "wrong.csv").write_text("\n".join(lines))
    done = bespoke("tables", "import", "board-b", tmp_path / "wrong.csv")
    assert done.status == 1
    assert "row 3" in done.err or "rows/2" in done.err, done.err
    assert json.loads(bespoke("devices", "show", "board-b", "--json").out)["tables"] == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("devices", "show", "nobody"), "bespoke devices list"),
        (("models", "show", "model_x"), "bespoke models list"),
        (("jobs", "watch", "job_x"), "bespoke jobs list"),
        (("tables", "export", "nobody", "-o", "x.csv"), "bespoke devices list"),
        (("tables", "import", "nobody", __file__), "bespoke tables convert"),
        (("devices", "add", "Not A Name"), "name"),
        (("search", "--device", "nobody", "--budget-ms", "1"), "device"),
        (("supernets", "train", "no-such-space", "digits"), "digits-mbv3"),
        (("front", "--device", "nobody"), "bespoke supernets train"),
        (("keys", "create", "x", "--scope", "everything"), "scope"),
    ],
)
def test_an_error_says_what_to_do_next_without_a_traceback(
    bespoke: Bespoke, arguments: tuple[str, ...], says: str
) -> None:
    done = bespoke(*arguments)
    assert done.status == 1
    assert done.err.startswith("error: ")
    assert says in done.err
    assert "Traceback" not in done.err + done.out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("search",), "--target"),
        (("search", "--p95-ms", "1"), "name it with --device"),
        (("search", "--energy-mj", "1", "--size-bytes", "9"), "name it with --device"),
        (("search", "--device", "x", "--energy-mj", "1"), "belong together"),
        (("search", "--device", "x"), "belong together"),
        (("search", "--target", "x=fast"), "DEVICE=MS"),
        (("search", "--target", "x=1,5"), "DEVICE=MS"),
        (("search", "--device", "x", "--budget-ms", "1,5"), "--budget-ms"),
        (("search", "--device", "x", "--budget-ms", "1", "--tune-epochs", "-1"), "--tune-epochs"),
        (("tables", "import", "x", "no-such-file.csv"), "does not exist"),
        (("nonsense",), "nonsense"),
    ],
)
def test_wrong_usage_is_status_2_and_says_how(
    bespoke: Bespoke, arguments: tuple[str, ...], says: str
) -> None:
    done = bespoke(*arguments)
    assert done.status == 2
    assert says in " ".join(done.err.replace("│", " ").split())


def test_without_a_server_the_message_says_how_to_start_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BESPOKE_URL", raising=False)
    assert run(["--data-dir", str(tmp_path), "jobs", "list"]) == 1
    assert "bespoke serve" in capsys.readouterr().err


def test_a_wrong_key_is_explained(bespoke: Bespoke) -> None:
    done = bespoke("--key", "wrong", "jobs", "list")
    assert done.status == 1
    assert "owner.key" in done.err


def test_a_search_job_is_queued_watched_and_cancelled(
    bespoke: Bespoke, server: Server, tmp_path: Path
) -> None:
    add_device(bespoke, "board-c")
    assert bespoke("tables", "import", "board-c", table_file(tmp_path)).status == 0
    queued = bespoke("search", "--device", "board-c", "--budget-ms", "100", "--recipe", "quick", "--detach")
    assert queued.status == 0, queued.err
    job_id = queued.out.strip()
    assert job_id in bespoke("jobs", "list", "--kind", "search").out
    assert bespoke("jobs", "cancel", job_id).status == 0
    watched = bespoke("jobs", "watch", job_id)
    assert watched.status == 1
    assert "cancelled" in watched.err and f"bespoke jobs show {job_id}" in watched.err
    shown = bespoke("jobs", "show", job_id)
    assert shown.status == 0 and "cancelled" in shown.out
    again = bespoke("jobs", "cancel", job_id)
    assert again.status == 1 and "ended" in again.err


def test_an_unreachable_budget_shows_what_can_be_reached(bespoke: Bespoke, tmp_path: Path) -> None:
    add_device(bespoke, "board-d")
    assert bespoke("tables", "import", "board-d", table_file(tmp_path)).status == 0
    done = bespoke("search", "--device", "board-d", "--budget-ms", "0.0001")
    assert done.status == 1
    assert "this device reaches from" in done.err
    for option, name in (
        ("--size-bytes", "size_bytes"),
        ("--macs", "macs"),
        ("--memory-bytes", "memory_bytes"),
    ):
        done = bespoke("search", "--device", "board-d", "--budget-ms", "100", option, "7")
        assert done.status == 1
        assert f"{name} <= 7" in " ".join(done.err.split()), done.err


def test_a_search_says_what_p95_and_energy_need(bespoke: Bespoke, tmp_path: Path) -> None:
    add_device(bespoke, "board-p")
    assert bespoke("tables", "import", "board-p", table_file(tmp_path)).status == 0
    for option, says in (("--p95-ms", "at least 5"), ("--energy-mj", "no energy_mj for")):
        for target in (("--device", "board-p", "--budget-ms", "100"), ("--target", "board-p=100")):
            done = bespoke("search", *target, option, "200")
            assert done.status == 1 and says in " ".join(done.err.split()), done.err
    alone = bespoke("search", "--device", "board-p", "--p95-ms", "200")
    assert alone.status == 1 and "bespoke profile" in alone.err


def test_a_delivery_that_does_not_do_what_was_predicted_ends_with_status_1(
    bespoke: Bespoke, server: Server
) -> None:
    for state, status in (("good", 0), ("suspect", 1)):
        card = {**SIZE_ONLY, "state": state, "suspect_reason": None if state == "good" else "far below"}
        with delivering(server.data_dir, card):
            done = bespoke("search", "--size-bytes", "400000", "--recipe", "quick")
        assert done.status == status, done.out + done.err
        assert "for any device" in done.out
    assert "not to be trusted: model_" in done.err and "far below" in done.out


def test_a_device_whose_runtime_nobody_tried_is_registered_with_a_remark(bespoke: Bespoke) -> None:
    known = ("--provider", "xnnpack", "--threads", "4")
    done = bespoke("devices", "add", "odd-1", "--runtime", "tflite", "--runtime-version", "2.19", *known)
    assert done.status == 0 and "try one before you rely on it" in " ".join(done.err.split())
    usual = bespoke("devices", "add", "usual-1", "--runtime", "onnxruntime", "--runtime-version", "1.31")
    assert usual.status == 0 and "remark" not in usual.err
    shown = json.loads(bespoke("devices", "show", "odd-1", "--json").out)
    assert len(shown["remarks"]) == 1 and "tflite 2.19" in shown["remarks"][0]


def test_a_key_is_shown_once_works_and_is_revoked(bespoke: Bespoke) -> None:
    made = bespoke("keys", "create", "reader", "--scope", "devices:read", "--expires-in-days", "2")
    assert made.status == 0, made.err
    key = made.out.strip()
    assert bespoke("--key", key, "devices", "list").status == 0
    refused = bespoke("--key", key, "devices", "add", "not-allowed")
    assert refused.status == 1 and "scope" in refused.err
    keys = bespoke("keys", "list").out
    assert "reader" in keys and key not in keys
    key_id = next(line.split()[1] for line in keys.splitlines() if "reader" in line)
    assert bespoke("keys", "revoke", key_id).status == 0
    assert "revoked" in bespoke("keys", "list").out


def test_enrolment_prints_the_command_for_the_device(bespoke: Bespoke, server: Server) -> None:
    add_device(bespoke, "board-e")
    done = bespoke("devices", "enrol", "board-e")
    assert done.status == 0
    assert f"bespoke agent --server {server.url} --token bespoke_enrol_" in done.out


def test_probe_plan_is_written_filled_in_and_taken(bespoke: Bespoke, tmp_path: Path) -> None:
    add_device(bespoke, "board-f")
    assert bespoke("tables", "import", "board-f", table_file(tmp_path)).status == 0
    plan = tmp_path / "probes.json"
    assert bespoke("devices", "probe", "board-f", "--samples", "20", "-o", plan).status == 0
    unmeasured = bespoke("devices", "probe", "board-f", plan)
    assert unmeasured.status == 1 and "20 of 20 networks have no latency_ms" in unmeasured.err
    samples = json.loads(plan.read_text())
    for sample in samples:
        architecture = SPACE.from_json(sample["architecture"])
        from supernets.spaces.lowering import lower

        sample["latency_ms"] = 1.1 * sum(0.002 + op.macs / 2e6 for op in lower(SPACE, architecture))
    plan.write_text(json.dumps(samples))
    taken = bespoke("devices", "probe", "board-f", plan)
    assert taken.status == 0, taken.err
    assert "20 networks taken" in taken.out


def test_doctor_finds_nothing_wrong_here_and_says_where_nothing_is(bespoke: Bespoke, tmp_path: Path) -> None:
    done = bespoke("doctor")
    assert done.status == 0, done.err + done.out
    assert "All is well" in done.out
    assert run(["--data-dir", str(tmp_path), "doctor"]) == 1


def commands() -> list[tuple[str, ...]]:
    """Every command of the tree."""
    found: list[tuple[str, ...]] = []
    for info in app.registered_commands:
        found.append((info.name or str(info.callback.__name__ if info.callback else ""),))
    for group in app.registered_groups:
        assert group.typer_instance is not None
        for info in group.typer_instance.registered_commands:
            found.append((str(group.name), info.name or str(info.callback.__name__ if info.callback else "")))
    return found


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_has_a_help_that_teaches(
    command: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert "bespoke " + " ".join(command) in shown
    assert len(shown.splitlines()) > 5


def test_nodes_that_fell_back_to_another_provider_stand_out():
    context = {"provider": "CUDAExecutionProvider(device_id=0)"}
    nodes = {"CPUExecutionProvider": 3, "CUDAExecutionProvider": 9}
    line = nodes_line({"context": context, "nodes_by_provider": nodes})
    assert line == "9 on CUDAExecutionProvider, 3 on CPUExecutionProvider; [yellow]25% fell back[/]"
    assert "fell back" not in nodes_line(
        {"context": context, "nodes_by_provider": {"CUDAExecutionProvider": 9}}
    )
    assert nodes_line({"context": context, "nodes_by_provider": None}) is None
