"""A pruned network, from measured rows to a measured file: real service, worker and agent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from service.cli.connection import client
from service.cli.local_agent import LocalAgent
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import lower
from tests.end_to_end.test_precision_job import DEVICE, bespoke

pytestmark = pytest.mark.slow
__all__ = ["bespoke"]


def test_a_network_is_searched_pruned_refitted_and_measured(
    bespoke: Callable[..., None],  # noqa: F811 - the fixture
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def asked(*arguments: object) -> Any:
        capsys.readouterr()
        bespoke(*arguments, "--json")
        return json.loads(capsys.readouterr().out)

    bespoke("profile", "--resolution", 16, "--networks", 6)
    bespoke("supernets", "train", "digits-mbv3", "digits", "--recipe", "trial")
    slowest = asked("front", "--device", DEVICE)["reachable_ms"]["max"]
    capsys.readouterr()
    bespoke("search", "--device", DEVICE, "--budget-ms", slowest, "--prune", status=1)
    assert "bespoke profile --space digits-mbv3 --prune" in " ".join(capsys.readouterr().err.split())

    bespoke("profile", "--resolution", 16, "--networks", 8, "--prune")
    covered = asked("devices", "show", DEVICE)["coverage"]
    assert next(c for c in covered if c["space"] == "digits-mbv3")["pruned"] == [16]
    with client() as service, LocalAgent(service, DEVICE):
        # Where there is time for whole blocks they are taken, so some of them are asked for.
        card = asked(
            *("search", "--device", DEVICE, "--budget-ms", 4 * slowest, "--prune", "--candidates", 2),
            *("--measured-candidates", 1, "--exclude", "stage1.kept=1", "--tune-epochs", 1),
            *("-o", tmp_path / "pruned.onnx"),
        )["cards"][0]
        # The chain: a network is delivered whole first, then channels are cut out of it.
        before = asked(
            *("search", "--device", DEVICE, "--budget-ms", 4 * slowest, "--candidates", 2),
            *("--measured-candidates", 1, "-o", tmp_path / "whole.onnx"),
        )["cards"][0]
        after = asked(
            *("compress", before["id"], "--budget-ms", 4 * slowest, "--prune", "--candidates", 2),
            *("--exclude", "stage1.kept=1", "-o", tmp_path / "compressed.onnx"),
        )["cards"][0]
        capsys.readouterr()
        bespoke("compress", after["id"], "--budget-ms", 4 * slowest, "--prune", status=1)
        assert "channels were cut out" in " ".join(capsys.readouterr().err.split())
    space = space_named("digits-mbv3")
    network = space.from_json(card["architecture"])
    assert card["architecture"]["pruned"] is True
    told, pruned = card["pruning"], space.holding(network)
    kept = {name: one["channels"] for name, one in told["blocks"].items()}
    own, whole = lower(pruned, network), lower(space, pruned.unpruned(network))
    assert sorted(kept.values()) == sorted(a.mid_channels for a, b in zip(own, whole, strict=True) if a != b)
    assert {"stage1_0"} <= kept.keys() and told["method"] == "least squares" and told["samples"] >= 32
    assert all(one["error"] <= one["unfitted"] for one in told["blocks"].values())
    assert card["latency"]["verified"] and card["latency"]["measured_ms"] <= 4 * slowest
    beside = told["beside"]
    assert beside.keys() == {"delivered", "whole"}
    assert beside["delivered"]["size_bytes"] < beside["whole"]["size_bytes"]
    assert abs(beside["delivered"]["test"] - card["accuracy"]["measured"]) < 1e-9
    assert card["file"]["macs"] == sum(op.macs for op in own)
    assert after["origin"] == before["id"] and after["architecture"]["pruned"] is True
    cut = space.from_json(after["architecture"])
    assert space.holding(cut).unpruned(cut) == space.from_json(before["architecture"])
    assert (tmp_path / "compressed.onnx").stat().st_size < (tmp_path / "whole.onnx").stat().st_size
    assert "Conv" in {node.op_type for node in onnx.load(tmp_path / "pruned.onnx").graph.node}
