"""One machine, two runtimes: two devices with two tables, one search for both, and each network's latency on
either."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service.cli.app import run
from service.cli.supervisor import Stack

pytestmark = pytest.mark.slow
DEVICES = {"here-ort": "onnxruntime", "here-ov": "openvino"}


@pytest.fixture
def bespoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    for name in ("BESPOKE_URL", "BESPOKE_KEY", "BESPOKE_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with Stack(tmp_path / "data", port=0, workers=1, log_dir=tmp_path / "logs"):

        def call(*arguments: object) -> None:
            assert run(["--data-dir", str(tmp_path / "data"), *map(str, arguments)]) == 0, arguments

        yield call


def test_a_search_for_two_runtimes_of_one_machine(
    bespoke: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(*arguments: object) -> Any:
        capsys.readouterr()
        bespoke(*arguments, "--json")
        return json.loads(capsys.readouterr().out)

    for device, runtime in DEVICES.items():
        bespoke("profile", "--device", device, "--runtime", runtime, "--resolution", 8, "--networks", 0)
    for device, runtime in DEVICES.items():
        shown = asked("devices", "show", device)
        assert shown["context"]["runtime"] == runtime and shown["tables"][0]["rows"] == 48
        assert shown["nodes_by_provider"].keys() == {shown["context"]["provider"]}
    bespoke("supernets", "train", "digits-mbv3", "digits", "--recipe", "trial")
    budgets = {d: 1.3 * asked("front", "--device", d)["reachable_ms"]["min"] for d in DEVICES}
    targets = [part for d, ms in budgets.items() for part in ("--target", f"{d}={ms:.6f}")]
    bespoke("search", *targets, "-o", tmp_path / "networks")
    matrix = json.loads((tmp_path / "networks" / "matrix.json").read_text())
    assert matrix["devices"] == list(DEVICES)
    for network in matrix["networks"]:
        assert network["latency_ms"].keys() == DEVICES.keys()
        assert network["latency_ms"][network["device"]] <= budgets[network["device"]]
        here, there = network["latency_ms"].values()
        assert here != there, "each is priced by its own table"
