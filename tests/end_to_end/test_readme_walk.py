"""The curl walk of the README, run as it is printed, against a real service with a real worker."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import onnxruntime
import pytest

from service.cli.demo import tended
from service.cli.supervisor import Stack

ROOT = Path(__file__).parent.parent.parent
TOOLS = ("sh", "curl", "sha256sum", "grep", "cut")


def walk() -> str:
    """Every shell block of the walk, in order, as one script."""
    text = (
        (ROOT / "README.md").read_text(encoding="utf-8").split("## The same with curl")[1].split("\n## ")[0]
    )
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
    assert len(blocks) >= 5
    return "set -e\n" + "\n".join(blocks)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    with tended(Stack(tmp_path / "data", port=0, log_dir=tmp_path / "logs")) as running:
        yield running


@pytest.mark.skipif(
    not all(shutil.which(tool) for tool in TOOLS), reason=f"the walk needs {', '.join(TOOLS)}"
)
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_curl_walk_works_as_printed(stack: Stack, tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    folder.mkdir()
    script = walk()
    environment = {**os.environ, "BESPOKE_URL": stack.url, "BESPOKE_DATA_DIR": str(stack.data_dir)}
    done = subprocess.run(
        ["sh", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=850,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith("board.onnx is delivered")
    session = onnxruntime.InferenceSession(
        (folder / "board.onnx").read_bytes(), providers=["CPUExecutionProvider"]
    )
    assert session.get_inputs()[0].shape[1] == 1


def test_the_walk_is_plain_shell() -> None:
    """The short form: the text parses, and names the calls of the contract."""
    done = subprocess.run(["sh", "-n"], input=walk(), text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    for call in (
        "/v1/devices",
        "/tables",
        "/v1/supernets",
        "/front?device=board",
        "/v1/searches",
        "/v1/models/$MODEL/onnx",
    ):
        assert call in walk()
