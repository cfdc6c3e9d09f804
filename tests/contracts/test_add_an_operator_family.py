"""docs/add_an_operator_family.md is true: its families and its space, in a distribution of their own, go all the
way to a network that keeps a budget and is measured by the agent's runtime."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contracts.tones import FOLDER, environment

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = re.findall(
    r"```(\w*)\n(.*?)```", (ROOT / "docs" / "add_an_operator_family.md").read_text(), re.DOTALL
)
FILES = ("tone_operators.py", "tone_layers.py", "tone_spaces.py", "use.py")


def run(arguments: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=env, cwd=ROOT
    )


def test_the_page_shows_the_distribution() -> None:
    shown = [text for language, text in BLOCKS if language == "python"]
    assert shown == [(FOLDER / name).read_text() for name in FILES]
    (said,) = (text for language, text in BLOCKS if language == "toml")
    named = set(re.findall(r"(\w+) = \"(\w+:\w+)\"", said))
    installed = (FOLDER / "their_tones-1.0.dist-info" / "entry_points.txt").read_text()
    assert named <= set(re.findall(r"(\w+) = (\w+:\w+)", installed)) and len(named) == 5


def test_the_families_go_all_the_way() -> None:
    found = run([str(FOLDER / "use.py")], environment())
    assert found.returncode == 0, found.stderr
    chosen, predicted, parity, measured = found.stdout.splitlines()
    assert chosen.startswith(
        "16 rows, 72 networks, chosen {'space': 'tones', 'classes': 5, 'resolution': 256"
    )
    cost, budget = re.findall(r"[\d.]+", predicted)
    assert 0 < float(cost) <= float(budget)
    assert float(parity.rsplit(" ", 1)[1]) < 1e-4 and float(measured.split()[1]) > 0


def test_the_api_knows_them_without_torch() -> None:
    """As the API lists a space, its operators and a table with rows of them."""
    script = """
import sys
from latency_tables.operators import Operator
from service.routes.spaces import _operator_view, _space_view
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators
view = _space_view("tones")
print(view.in_channels, view.inputs[0].shape, sorted(view.choices))
op = all_operators(space_named("tones"), 256)[0]
print(_operator_view(op).values == op.values, Operator.parse(op.text) == op, "torch" in sys.modules)
"""
    found = run(["-c", script], environment())
    assert found.stdout.splitlines() == [
        "None [1, None] ['depth', 'kernel', 'resolution', 'width']",
        "True True False",
    ], found.stderr


@pytest.mark.parametrize(
    ("entry", "refusal"),
    [
        ("[bespoke.operator_families]\nx = broken:NOTHING", "is no operator family"),
        ("[bespoke.operator_families]\nx = broken:Loose", "must be annotated int, bool or str"),
        ("[bespoke.operator_families]\nx = broken:Taken", "exists already"),
        ("[bespoke.layers]\nx = tone_operators:Conv1d", "is not a Layer"),
        ("[bespoke.layers]\nx = broken_layers:OTHER", "has layers already"),
    ],
    ids=["no family", "odd field", "name taken", "no layer", "other layers"],
)
def test_entry_points_that_name_something_else_are_refused(tmp_path: Path, entry: str, refusal: str) -> None:
    (tmp_path / "broken.py").write_text(BROKEN)
    (tmp_path / "broken_layers.py").write_text(BROKEN_LAYERS)
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(entry + "\n")
    env = environment()
    env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), env["PYTHONPATH"]])
    found = run(["-c", "import supernets.layers.catalog"], env)
    assert refusal in found.stderr, found.stderr


BROKEN = """
from dataclasses import dataclass
from typing import ClassVar
from latency_tables.operators.conv import Conv
from tone_operators import ToneHead

@dataclass(frozen=True)
class Loose(ToneHead):
    family: ClassVar[str] = "loose"
    form: ClassVar[str] = "in={length}x{channels}/out={classes}/share={share}"
    share: float

class Taken(Conv):
    pass

NOTHING = "not a family"
"""
BROKEN_LAYERS = """
from supernets.layers.block import Layer

OTHER = Layer("conv", lambda op, settings: None)
"""


@pytest.mark.slow
def test_they_keep_the_contracts() -> None:
    suites = [
        str(ROOT / "tests" / "contracts" / f"test_{name}.py") for name in ("operator_families", "spaces")
    ]
    chosen = ["-k", "conv1d or tone_head or tones"]
    found = run(["-m", "pytest", "-q", "-p", "no:cacheprovider", *suites, *chosen], environment())
    assert found.returncode == 0, found.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", found.stdout).group(1)) >= 30
