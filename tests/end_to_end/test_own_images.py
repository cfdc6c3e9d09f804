"""The walk of docs/own_images.md, run as it is printed: a folder of pictures to a verified network and a named photo."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.cli.demo import tended
from service.cli.supervisor import Stack
from supernets.data.catalog import load_digits

ROOT = Path(__file__).parent.parent.parent
FASHION = Path(os.environ.get("FASHION") or "/usr/share/datasets/fashion-mnist")
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")


def walk() -> str:
    """Every shell block of the page, in order, as one script."""
    text = (ROOT / "docs" / "own_images.md").read_text(encoding="utf-8").split("<!-- walk:")[1]
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
    assert len(blocks) == 7
    return "set -e\n" + "\n".join(blocks)


def test_the_walk_is_plain_shell() -> None:
    done = subprocess.run(["sh", "-n"], input=walk(), text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    for said in (
        "datasets check",
        "--from",
        "--control",
        "--keep",
        "models classes",
        "models run clothes.onnx",
    ):
        assert said in walk()


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    (tmp_path / "walk").mkdir()
    monkeypatch.setenv("BESPOKE_DATASETS", json.dumps({"clothes": str(tmp_path / "walk" / "clothes")}))
    with tended(Stack(tmp_path / "data", port=0, log_dir=tmp_path / "logs")) as running:
        yield running


@pytest.mark.skipif(
    not (FASHION / "train-images-idx3-ubyte.gz").is_file(),
    reason="the pictures of Debian's dataset-fashion-mnist are not here (FASHION names their folder)",
)
@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_walk_works_as_printed(stack: Stack, tmp_path: Path) -> None:
    folder, programs = tmp_path / "walk", str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "FASHION": str(FASHION),
        "BESPOKE_URL": stack.url,
        "BESPOKE_DATA_DIR": str(stack.data_dir),
    }
    start = time.monotonic()
    done = subprocess.run(
        ["sh", "-c", walk()],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=3500,
    )
    print(f"{time.monotonic() - start:.0f} s", done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^photo\.png +(" + "|".join(CLASSES) + ")", done.stdout.replace("\x1b", ""), re.M)
    (card,) = json.loads((folder / "search.json").read_text())["cards"]
    assert card["latency"]["verified"] and card["latency"]["measured_ms"] <= card["budget_ms"]
    accuracy, control = card["accuracy"], card["control"]
    assert accuracy["measured"] > 0.4 and accuracy["ranked_by"] == "log_likelihood"
    assert sum(map(sum, accuracy["confusion"])) == accuracy["samples"] == 120
    assert control["steps"] >= 150 and abs(control["gain_points"]) < 60 and control["said"]
    assert card["tuning"]["epochs"] == 5 and card["provenance"]["from"]
    # That of the digits, 4.9 of 16, in bytes.
    normalise = next(step for step in card["input"]["steps"] if step["step"] == "normalise")
    digits = load_digits()
    assert normalise["mean"][0] == pytest.approx(float(digits.mean[0]) * 255 / 16, rel=1e-4)
    assert (folder / "confusion.png").read_bytes().startswith(b"\x89PNG")
