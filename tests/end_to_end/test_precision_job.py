"""Networks with blocks in int8, from measured rows to measured files: real service, worker and agent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import onnx
import pytest

from service.cli.app import run
from service.cli.connection import client
from service.cli.local_agent import LocalAgent
from service.cli.supervisor import Stack
from supernets.spaces.catalog import space_named

pytestmark = pytest.mark.slow
DEVICE = "this-machine"


@pytest.fixture
def bespoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    for name in ("BESPOKE_URL", "BESPOKE_KEY", "BESPOKE_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with Stack(tmp_path / "data", port=0, workers=1, log_dir=tmp_path / "logs"):

        def call(*arguments: object, status: int = 0) -> None:
            assert run(["--data-dir", str(tmp_path / "data"), *map(str, arguments)]) == status, arguments

        yield call


def test_a_mixed_and_an_int8_network_are_searched_delivered_and_measured(
    bespoke: Callable[..., None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(*arguments: object) -> Any:
        capsys.readouterr()
        bespoke(*arguments, "--json")
        return json.loads(capsys.readouterr().out)

    size = ("--resolution", 16)
    bespoke("profile", *size, "--networks", 6)
    bespoke("supernets", "train", "digits-mbv3", "digits", "--recipe", "trial")
    slowest = asked("front", "--device", DEVICE)["reachable_ms"]["max"]
    # A table in float32 alone is refused, and the answer says what to run.
    capsys.readouterr()
    bespoke("search", "--device", DEVICE, "--budget-ms", slowest, "--precision", "mixed", status=1)
    said = " ".join(capsys.readouterr().err.split())
    assert "lacks" in said and "precision=int8" in said and "more" in said
    assert "bespoke profile --space digits-mbv3 --precision mixed" in said

    bespoke("profile", *size, "--networks", 12, "--precision", "mixed")
    covered = asked("devices", "show", DEVICE)["coverage"]
    assert next(c for c in covered if c["space"] == "digits-mbv3")["precisions"] == {
        "int8": [16],
        "mixed": [16],
    }
    few = ("--candidates", 2, "--measured-candidates", 1)
    with client() as service, LocalAgent(service, DEVICE):
        # On pictures of 16 pixels int8 may not pay, so some of it is asked for.
        asked_of = {"mixed": ("--exclude", "stage2.precision=float32"), "int8": ()}
        found = {
            precision: asked(
                *("search", "--device", DEVICE, "--budget-ms", 4 * slowest, "--precision", precision),
                *(*few, *narrowed, "-o", tmp_path / f"{precision}.onnx"),
            )["cards"][0]
            for precision, narrowed in asked_of.items()
        }
        origin = found["int8"]
        compressed = asked(
            *("compress", origin["id"], "--budget-ms", 4 * slowest, "--candidates", 2),
            *("--exclude", "stem.precision=int8", "--exclude", "stage3.precision=float32"),
            *("-o", tmp_path / "compressed.onnx"),
        )["cards"][0]
        smaller = asked(
            *("compress", origin["id"], "--pass", "shared-weights", "--pass", "low-rank", "--robustness"),
            *("-o", tmp_path / "smaller.onnx"),
        )["cards"][0]
    check_passes(smaller, origin, tmp_path / "smaller.onnx")
    for precision, card in found.items():
        check_card(card, precision, 4 * slowest)
    check_card(compressed, "mixed", 4 * slowest)
    assert compressed["origin"] == origin["id"] and compressed["precision"]["blocks"]["stem_0"] == "float32"
    assert plain_of(compressed) == plain_of(origin), "the same network in other precisions"
    for name in ("mixed", "int8", "compressed"):
        kinds = {node.op_type for node in onnx.load(tmp_path / f"{name}.onnx").graph.node}
        assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def plain_of(card: dict[str, Any]) -> str:
    """Digest of the network in float32."""
    space = space_named("digits-mbv3")
    return space.in_float(space.from_json(card["architecture"])).digest


def check_passes(card: dict[str, Any], origin: dict[str, Any], file: Path) -> None:
    assert card["origin"] == origin["id"] and plain_of(card) == plain_of(origin) and "precision" not in card
    low, shared = card["compression"]["passes"]
    assert (low["name"], shared["name"]) == ("low-rank", "shared-weights") and shared["kept"]
    for one in (low, shared):
        assert one["before"]["measured_ms"] > 0 and one["after"]["measured_ms"] > 0 and one["control"]["is"]
        assert abs(one["before"]["validation"] - one["before"]["test"]) < 0.1
    assert card["file"]["size_bytes"] == shared["after"]["size_bytes"] == file.stat().st_size
    assert shared["after"]["size_bytes"] < 0.6 * shared["before"]["size_bytes"]
    told = card["robustness"]["file"]
    assert told["8"] <= told["0"] and abs(told["0"] - card["accuracy"]["measured"]) < 1e-9


def check_card(card: dict[str, Any], precision: str, budget_ms: float) -> None:
    told, latency = card["precision"], card["latency"]
    assert card["state"] == "good" and told["collapse"] is None and told["asked"] == precision
    assert latency["verified"] and latency["measured_ms"] <= budget_ms
    assert set(told["blocks"].values()) == ({"int8"} if precision == "int8" else {"int8", "float32"})
    beside = told["beside"]
    assert beside.keys() == {"delivered", "float32", "int8"}
    for one in beside.values():
        assert one["measured_ms"] > 0 and one["size_bytes"] > 0 and one["validation"] > 0.5
    assert abs(beside["delivered"]["test"] - card["accuracy"]["measured"]) < 1e-9
    assert told["rounding"]["method"] in ("minmax", "percentile", "entropy", "mse")
    assert told["rounding"]["parity"]["top1_agreement"] >= 0.97
    assert beside["int8"]["size_bytes"] <= beside["delivered"]["size_bytes"] < beside["float32"]["size_bytes"]
    assert beside["float32"]["test"] - beside["delivered"]["test"] < 0.05, "int8 costs digits little"
