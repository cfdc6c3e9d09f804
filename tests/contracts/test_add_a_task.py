"""docs/add_a_task.md is true: its task and its data set, in a distribution of their own, with a space of operators
of their own, go all the way to a delivered file that hears, measured on this machine."""

from __future__ import annotations

import re

import pytest

from tests.contracts.outside import blocks_of, run
from tests.contracts.tones import FOLDER, environment

CODE = blocks_of("add_a_task.md")
FILES = ("tone_data.py", "tone_task.py", "hear.py")


def test_the_page_shows_the_distribution() -> None:
    assert CODE["python"] == [(FOLDER / name).read_text() for name in FILES]
    named = set(re.findall(r"([\w-]+) = \"(\w+:\w+)\"", CODE["toml"][0]))
    installed = (FOLDER / "their_tones-1.0.dist-info" / "entry_points.txt").read_text()
    assert named <= set(re.findall(r"([\w-]+) = (\w+:\w+)", installed)) and len(named) == 2


def test_the_task_goes_all_the_way() -> None:
    """Trained, scored, searched, exported, tested and measured: nothing inside the packages knows of sounds."""
    found = run(["-W", "error", str(FOLDER / "hear.py")], environment())
    assert found.returncode == 0, found.stderr
    scored, file, times = found.stdout.splitlines()
    assert scored.startswith("24 networks, best balanced_accuracy") and float(scored.split()[-1]) > 0.8
    heard, parity = re.search(r"balanced_accuracy ([\d.]+) of 240 .* parity ([\d.e-]+)", file).groups()
    assert float(heard) > 0.7 and float(parity) < 1e-4, "five words by chance are 0.2"
    predicted, budget, measured = map(float, re.findall(r"[\d.]+", times))
    assert 0 < predicted <= budget and measured > 0


def test_the_api_knows_its_metric_without_torch() -> None:
    script = """
import sys
from supernets.data.catalog import DATASETS, task_for
from service.datasets import listed
from service.settings import Settings
info = task_for("two-tones")
print(info.name, info.metric.name, [one.name for one in listed(Settings())], "torch" in sys.modules)
print(len(DATASETS["two-tones"].facts().fingerprint), task_for("digits").metric.name)
"""
    found = run(["-c", script], environment())
    assert found.stdout.splitlines() == [
        "keywords balanced_accuracy ['digits', 'glyphs', 'pronunciations', 'number-words', 'two-tones'] False",
        "64 accuracy",
    ], found.stderr


def test_a_task_that_is_not_installed_is_refused_with_what_to_do() -> None:
    script = """
from supernets.tasks.catalog import TASKS, task_of
from supernets.data.catalog import load_dataset
from supernets.errors import InvalidTraining
data = load_dataset("two-tones")
del TASKS["keywords"]
try:
    task_of(data)
except InvalidTraining as error:
    print(error)
"""
    found = run(["-c", script], environment())
    assert "unknown task 'keywords'" in found.stdout and "install" in found.stdout, found.stderr


@pytest.mark.parametrize(
    ("entry", "refusal"),
    [("bespoke.tasks", "is not a TaskInfo"), ("bespoke.datasets", "is not a DatasetInfo")],
    ids=["task", "data set"],
)
def test_entry_points_that_name_something_else_are_refused(tmp_path, entry: str, refusal: str) -> None:
    info = tmp_path / "broken-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{entry}]\nx = broken_module:NOTHING\n")
    (tmp_path / "broken_module.py").write_text("NOTHING = 'nothing'\n")
    env = environment()
    env["PYTHONPATH"] = f"{tmp_path}:{env['PYTHONPATH']}"
    assert refusal in run(["-c", "import supernets.data.catalog"], env).stderr


def test_it_keeps_the_contract() -> None:
    chosen = ["tests/contracts/test_tasks.py", "-k", "two-tones or every_task"]
    found = run(["-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen], environment())
    assert found.returncode == 0, found.stdout[-3000:]
    assert int(re.search(r"(\d+) passed", found.stdout).group(1)) == 10
