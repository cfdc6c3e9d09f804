"""What an operator does by hand: quarantine, a device as one file, the dashboard."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latency_tables.errors import InvalidTable
from service.cli.app import run
from service.client import BespokeClient
from service.exchange import export_device, import_device
from service.jobs import JobState
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
    lab.wait_until(lambda: sum(e.kind == "crashed" for e in lab.events(first)) == 6, what="three more crashes")
    assert run([*place, "delete", second]) == 0
    assert second not in lab.states()
    assert run([*place, "delete", second]) == 1
    good = lab.submit(3)
    lab.wait([good])
    assert run([*place, "requeue", good]) == 1


def test_device_travels_as_one_file(make_live: Callable[..., LiveApi]) -> None:
    here, there = make_live(), make_live()
    with BespokeClient(here.url, here.key) as service:
        service.add_device("phone", CONTEXT, "mine")
        for factor in (1.0, 1.1):
            rows = [{"operator": r["operator"], "median_ms": r["median_ms"] * factor} for r in table_rows()]
            service.upload_table("phone", json.dumps({"context": CONTEXT, "rows": rows}).encode(), "application/json")
        sample = {"space": SPACE.name, "architecture": SPACE.to_json(SPACE.smallest()), "latency_ms": 0.04}
        service.probes("phone", [sample])
        data = export_device(service, "phone")
        tables = [service.table("phone", t["id"]) for t in service.device("phone")["tables"]]
    assert here.key.encode() not in data
    with BespokeClient(there.url, there.key) as service:
        done = import_device(service, data, "phone-2")
        assert (done.name, done.tables, done.networks) == ("phone-2", 2, 1)
        assert [service.table("phone-2", t["id"]) for t in service.device("phone-2")["tables"]] == tables
        assert json.loads(export_device(service, "phone-2")) == {**json.loads(data), "name": "phone-2"}
        broken: dict[str, Any] = json.loads(data)
        broken["tables"][1]["rows"][0]["median_ms"] = -1
        with pytest.raises(Exception, match=r"row|valid"):
            import_device(service, json.dumps(broken).encode(), "broken")
        assert "broken" not in {d["name"] for d in service.devices()}
        for nonsense in (b"", b"[]", b"{}", b'{"format": "bespoke-device-1"}', b"\xff"):
            with pytest.raises(InvalidTable):
                import_device(service, nonsense)


def test_dashboard_asks_for_figures_that_exist() -> None:
    dashboard = json.loads(Path(REPOSITORY / "docs" / "dashboard.json").read_text())
    asked = set(re.findall(r"bespoke_[a-z_]+", json.dumps([p.get("targets", []) for p in dashboard["panels"]])))
    known = {sample.name for metric in Telemetry().registry.collect() for sample in metric.samples}
    known |= {metric.name for metric in Telemetry().registry.collect()}
    suffixed = {f"{name}{suffix}" for name in known for suffix in ("", "_total", "_bucket", "_count", "_sum")}
    assert asked
    assert asked <= suffixed, asked - suffixed
