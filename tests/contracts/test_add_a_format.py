"""docs/add_a_format.md is true: its format, in a distribution of its own, delivers and keeps the contract."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.contracts.outside import blocks_of, entry_points_of, install, run

CODE = blocks_of("add_a_format.md")
FORMAT, USE = CODE["python"]


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, str]:
    return install(tmp_path, {"their_formats.py": FORMAT}, entry_points_of(CODE["toml"][0]))


def test_documented_format_delivers(installed: dict[str, str]) -> None:
    found = run(["-W", "error::UserWarning", "-c", USE], installed)
    assert found.returncode == 0, found.stderr
    form, size, samples = found.stdout.splitlines()
    assert form.startswith("pt2 ") and "int8" in form
    assert float(size.rsplit(" ", 1)[1]) < 1e-4
    assert samples == "360"


def test_the_service_knows_it_without_torch(installed: dict[str, str]) -> None:
    code = (
        "import sys; from supernets.delivery.catalog import FORMATS; import service.devices.contexts; "
        "print(list(FORMATS), 'torch' in sys.modules)"
    )
    found = run(["-c", code], installed)
    assert found.stdout.strip() == "['onnx', 'archive', 'pt2'] False", found.stderr


@pytest.mark.slow
def test_documented_format_keeps_the_contract(installed: dict[str, str]) -> None:
    found = run(
        ["-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/contracts/test_formats.py", "-k", "pt2"],
        installed,
    )
    assert found.returncode == 0, found.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", found.stdout).group(1)) == 6


def test_an_entry_point_that_is_no_format_is_refused(installed: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "their_formats.py").write_text("PROGRAM = 'not a format'\n")
    found = run(["-c", "import supernets.delivery.catalog"], installed)
    assert "is not a Format" in found.stderr
