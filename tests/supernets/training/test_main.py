"""The child process: its lines, its exit codes, and that it never outlives its parent."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from supernets.errors import InvalidTraining, UnknownDataset, UnknownRecipe, UnknownSpace
from supernets.spaces.catalog import space_named
from supernets.training.__main__ import watch_pipe
from supernets.training.catalog import recipe_named, recipe_to_follow
from supernets.training.checkpoint import read_folder
from supernets.training.job import Job, load_supernet, read_description, train
from supernets.training.recipe import Phase, Recipe

PHASE = Phase("short", 2, 4e-3, networks=2, sampling="sandwich", teacher="largest")
SHORT = Recipe("short", "for tests", (PHASE,), batch_size=512, optimiser="adamw")
LONG = Recipe("long", "for tests", (Phase("long", 500, 1e-3),), batch_size=512, optimiser="adamw")


def start(tmp_path, recipe, stdin=subprocess.PIPE, **more):
    spec = {
        "space": "digits-mbv3",
        "dataset": "digits",
        "out_dir": str(tmp_path / "out"),
        "recipe": recipe if isinstance(recipe, str) else recipe.to_json(),
        "threads": 1,
        **more,
    }
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    return subprocess.Popen(
        [sys.executable, "-m", "supernets.training", str(tmp_path / "spec.json")],
        stdin=stdin,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def close(process):
    process.stdin.close()
    process.stdout.close()


def wait_for_epoch(process, epoch):
    for line in process.stdout:
        if json.loads(line)["epoch"] == epoch:
            return
    raise AssertionError(f"the child ended before epoch {epoch}")


def lines_until_end(process):
    """What a child says whose standard input stays open."""
    lines = [json.loads(line) for line in process.stdout]
    assert process.wait(120) == 0
    close(process)
    return lines


def test_it_trains_and_says_so_and_does_it_once(tmp_path):
    lines = lines_until_end(start(tmp_path, SHORT, heartbeat_timeout_s=100))
    assert [line["event"] for line in lines][-1] == "result"
    assert sorted({line["epoch"] for line in lines[:-1]}) == [1, 2]
    assert {"phase", "epoch", "epochs", "fraction", "eta_s", "message"} <= set(lines[0])
    description = read_description(tmp_path / "out")
    assert description["sha256"] == lines[-1]["sha256"]
    load_supernet(tmp_path / "out" / "supernet.safetensors", space_named("digits-mbv3"))
    again = lines_until_end(start(tmp_path, SHORT))
    assert [line["event"] for line in again] == ["result"] and again[0]["sha256"] == description["sha256"]


def test_it_dies_with_its_parents_pipe(tmp_path):
    process = start(tmp_path, LONG)
    wait_for_epoch(process, 2)
    process.stdin.close()
    assert process.wait(60) == -signal.SIGKILL
    close(process)
    assert list((tmp_path / "out").glob("checkpoint-*"))


def test_started_by_nobody_who_holds_a_pipe_it_trains_to_the_end(tmp_path):
    """As under nohup or a machine's own services, where standard input is at its end from the beginning."""
    process = start(tmp_path, SHORT, stdin=subprocess.DEVNULL)
    lines = [json.loads(line) for line in process.stdout]
    process.stdout.close()
    assert process.wait(120) == 0 and lines[-1]["event"] == "result"


def test_it_dies_when_the_heartbeat_stops(tmp_path):
    process = start(tmp_path, LONG, heartbeat_timeout_s=1.0)
    assert process.wait(60) == -signal.SIGKILL
    close(process)


def test_sigterm_ends_it_with_a_checkpoint_of_every_step_and_it_goes_on_from_there(tmp_path):
    # An epoch that is much longer than the time between two reports: the signal comes inside the first one.
    recipe = replace(LONG, batch_size=4)
    process = start(tmp_path, recipe)
    wait_for_epoch(process, 1)
    process.terminate()
    assert process.wait(60) == 143
    close(process)
    (checkpoint,) = (tmp_path / "out").glob("checkpoint-*")
    _, state = read_folder(checkpoint)
    assert state["position"]["epoch"] == 0 and state["position"]["batch"] > 0


def test_sigterm_ends_it_at_a_checkpoint_and_it_goes_on_from_there(tmp_path):
    process = start(tmp_path, LONG)
    wait_for_epoch(process, 2)
    process.terminate()
    assert process.wait(60) == 143
    close(process)
    steps = [int(p.name.split("-")[1]) for p in (tmp_path / "out").glob("checkpoint-*")]
    process = start(tmp_path, LONG)
    line = json.loads(process.stdout.readline())
    assert line["epoch"] > max(steps) // 2 >= 1  # two steps an epoch
    process.kill()
    process.wait(60)
    close(process)


def test_a_wrong_wish_is_an_error_line(tmp_path):
    process = start(tmp_path, "no-such")
    lines = [json.loads(line) for line in process.stdout]
    assert process.wait(60) == 1
    close(process)
    assert (
        lines[-1]["event"] == "error"
        and lines[-1]["type"] == "UnknownRecipe"
        and "quick" in lines[-1]["message"]
    )


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"space": "no-such"}, UnknownSpace),
        ({"dataset": "no-such"}, UnknownDataset),
        ({"recipe": "no-such"}, UnknownRecipe),
        ({"recipe": {"phases": []}}, InvalidTraining),
        ({"device": "tpu"}, InvalidTraining),
        ({"dataset": "number-words"}, InvalidTraining),
    ],
)
def test_a_wrong_wish_is_named(tmp_path, change, error):
    with pytest.raises(error):
        train(
            Job.from_json({"space": "digits-mbv3", "dataset": "digits", "out_dir": str(tmp_path), **change})
        )


def test_a_specification_that_is_none(tmp_path):
    (tmp_path / "spec.json").write_text('{"space": "digits-mbv3", "colour": 1}')
    for arguments in ([str(tmp_path / "spec.json")], [str(tmp_path / "absent.json")], []):
        done = subprocess.run(
            [sys.executable, "-m", "supernets.training", *arguments],
            capture_output=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 2
        assert json.loads(done.stdout)["event"] == "error"


def test_the_pipe_is_watched():
    reading, writing = os.pipe()
    ended = []
    os.write(writing, b"..")
    os.close(writing)
    watch_pipe(reading, None, lambda: ended.append("eof"))
    os.close(reading)
    reading, writing = os.pipe()
    start_s = time.monotonic()
    watch_pipe(reading, 0.2, lambda: ended.append("silence"))
    assert ended == ["eof", "silence"] and time.monotonic() - start_s >= 0.15
    os.close(reading)
    os.close(writing)


@pytest.mark.parametrize(
    ("recipe", "digest"),
    [
        ("quick", "b15f33384cefb60065123672e8051aff90651597c1dbb9842d6ed5d82a6aed97"),
        ("progressive", "8d18475a21fffdf28fcab83a1b25b072829dc68f6860f89f095343c278558a84"),
    ],
)
def test_a_training_begun_before_recipes_told_of_scoring_is_still_the_same_training(recipe, digest):
    assert Job(space="digits-mbv3", dataset="digits", out_dir="out", recipe=recipe, seed=3).digest == digest


def test_what_comes_after_a_training_is_told_by_its_recipe_and_not_part_of_its_weights():
    assert Recipe.from_json(json.loads(json.dumps(SHORT.to_json()))) == SHORT
    more = replace(SHORT, scored_networks=300, gate_epochs=(3, 4))
    assert more.of_weights() == SHORT.of_weights() and more.to_json() != SHORT.to_json()
    for wrong in ({"scored_networks": 1}, {"gate_epochs": (1, 0)}, {"gate_epochs": (1,)}):
        with pytest.raises(InvalidTraining, match="scored networks"):
            replace(SHORT, **wrong)


def test_an_imported_supernet_follows_the_standard_recipe_and_no_other_name_does():
    assert recipe_to_follow("imported") == recipe_named("standard")
    assert recipe_to_follow("quick") == recipe_named("quick")
    with pytest.raises(UnknownRecipe):
        recipe_to_follow("no-such")
