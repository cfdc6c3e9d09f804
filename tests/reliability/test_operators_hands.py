"""What an operator does by hand: quarantine, a device as one file, the dashboard."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from service.cli.app import run
from service.client import ApiProblem, BespokeClient
from service.db.states import JobState
from service.telemetry import Telemetry
from tests.reliability.machinery.lab import REPOSITORY, Lab
from tests.reliability.machinery.live import LiveApi
from tests.service.api import CONTEXT, SPACE, table_rows


def test_quarantined_job_is_listed_requeued_and_deleted(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = lab.submit(1, behave="segv", private=1), lab.submit(2, behave="segv", private=2)
    lab.quick_worker()
    lab.wait([first, second])
    place = ["--data-dir", str(lab.settings.data_dir), "quarantine"]
    assert run([*place, "list"]) == 0
    shown = capsys.readouterr().out
    assert first in shown
    assert "stub_2" in shown
    assert run([*place, "requeue", first]) == 0
    assert lab.wait([first], states=[JobState.QUARANTINED])  # it crashes again, three times
    lab.wait_until(
        lambda: sum(e.kind == "crashed" for e in lab.events(first)) == 6, what="three more crashes"
    )
    assert run([*place, "delete", second]) == 0
    assert second not in lab.states()
    assert run([*place, "delete", second]) == 1
    good = lab.submit(3)
    lab.wait([good])
    assert run([*place, "requeue", good]) == 1


def test_device_travels_as_one_file(
    make_live: Callable[..., LiveApi], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here, there = make_live(), make_live()
    file = tmp_path / "phone.json"
    with BespokeClient(here.url, here.key) as service:
        service.add_device("phone", CONTEXT, "mine")
        for factor in (1.0, 1.1):
            rows = [{"operator": r["operator"], "median_ms": r["median_ms"] * factor} for r in table_rows()]
            service.upload_table(
                "phone", json.dumps({"context": CONTEXT, "rows": rows}).encode(), "application/json"
            )
        sample = {"space": SPACE.name, "architecture": SPACE.to_json(SPACE.smallest()), "latency_ms": 0.04}
        service.probes("phone", [sample])
        tables = [service.table("phone", t["id"]) for t in service.device("phone")["tables"]]
        assert run(["--url", here.url, "--key", here.key, "devices", "export", "phone", "-o", str(file)]) == 0
    assert here.key.encode() not in file.read_bytes()
    command = ["--url", there.url, "--key", there.key, "devices", "import", str(file), "--name", "phone-2"]
    assert run(command) == 0
    assert "2 table(s) and 1 measured network(s)" in " ".join(capsys.readouterr().out.split())
    assert run(command) == 1, "the name is taken"
    with BespokeClient(there.url, there.key) as service:
        assert [service.table("phone-2", t["id"]) for t in service.device("phone-2")["tables"]] == tables
        back, sent = json.loads(service.export_device("phone-2")), json.loads(file.read_bytes())
        for document in (back, sent):
            del document["name"], document["sha256"]
        assert back == sent
        damaged = file.read_bytes().replace(b'"median_ms":0.', b'"median_ms":1.', 1)
        with pytest.raises(ApiProblem, match="damaged"):
            service.import_device(damaged, "broken")
        for nonsense in (b"", b"[]", b"{}", b'{"format": "bespoke-device"}', b"\xff"):
            with pytest.raises(ApiProblem):
                service.import_device(nonsense)
        assert [d["name"] for d in service.devices()] == ["phone-2"]


def test_dashboard_asks_for_figures_that_exist() -> None:
    dashboard = json.loads(Path(REPOSITORY / "docs" / "dashboard.json").read_text())
    asked = set(
        re.findall(r"bespoke_[a-z_]+", json.dumps([p.get("targets", []) for p in dashboard["panels"]]))
    )
    known = {sample.name for metric in Telemetry().registry.collect() for sample in metric.samples}
    known |= {metric.name for metric in Telemetry().registry.collect()}
    suffixed = {f"{name}{suffix}" for name in known for suffix in ("", "_total", "_bucket", "_count", "_sum")}
    assert asked
    assert asked <= suffixed, asked - suffixed
