"""docs/add_a_space.md is true: its space, in a distribution of its own, goes all the way to an ONNX file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", (ROOT / "docs" / "add_a_space.md").read_text(), re.DOTALL)
SPACE, USE = (text for language, text in BLOCKS if language == "python")
(ENTRY_POINT,) = (text for language, text in BLOCKS if language == "toml")


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    """Environment of a process that has the documented distribution installed."""
    group, name, target = re.search(r'entry-points."([\w.]+)"\]\n(\S+) = "(\S+)"', ENTRY_POINT).groups()
    (tmp_path / "their_spaces.py").write_text(SPACE)
    info = tmp_path / "their_spaces-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-spaces\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)]), "OMP_NUM_THREADS": "1"}


def run(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment, cwd=ROOT
    )


def test_documented_space_goes_all_the_way(installed: dict[str, str]) -> None:
    found = run(
        ["-c", f"from supernets.spaces.catalog import space_named\nTINY = space_named('tiny-mbv2')\n{USE}"],
        installed,
    )
    assert found.returncode == 0, found.stderr
    count, _, file = found.stdout.splitlines()
    assert count.startswith(f"{2 * 2 * (4 + 4**2) * 3} sub-networks")
    assert float(file.rsplit(" ", 1)[1]) < 1e-4


@pytest.mark.slow
def test_documented_space_keeps_the_contract(installed: dict[str, str]) -> None:
    suite = str(ROOT / "tests" / "contracts" / "test_spaces.py")
    found = run(["-m", "pytest", "-q", "-p", "no:cacheprovider", suite, "-k", "tiny-mbv2"], installed)
    assert found.returncode == 0, found.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", found.stdout).group(1)) >= 15


def test_an_entry_point_that_is_no_space_is_refused(installed: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "their_spaces.py").write_text("TINY = 'not a space'\n")
    found = run(["-c", "import supernets.spaces.catalog"], installed)
    assert "is not a Space" in found.stderr
