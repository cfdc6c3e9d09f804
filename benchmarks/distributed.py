"""Processes that train one supernet across a slow link: seconds of a step, bytes sent, accuracy.

Scalability: seconds of a step where processes wait for each other at no latency, over those of the exchange
in question at the latency given, with the end of an epoch; so it says what the link costs and nothing of how
processes share this machine's cores. Both are timed in the same two processes, one after the other in each of
several rounds, and the median of the rounds' ratios is told, so that what else the machine does counts for
both. `--step-s` lets the computation of a step take that long at least, as on a device of that speed: on a
machine that others use, steps of a small network are then as long as on one of one's own. `--accuracy`
trains by each exchange to the end and scores the largest
and the smallest sub-network on the test split, over seeds; also one process alone, and batches of eight steps
(as few messages, no delay).
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from benchmarks.environment import environment
from supernets.data.catalog import load_for
from supernets.spaces.catalog import space_named
from supernets.training import parallel
from supernets.training.catalog import recipe_named
from supernets.training.evaluation import Evaluator
from supernets.training.exchange import Link
from supernets.training.loop import Trainer
from supernets.training.recipe import Recipe
from supernets.training.sharing import Sharing

DELAY: Final = 8
EXCHANGES: Final[dict[str, dict[str, Any]]] = {
    "every": {"sync": "every"},
    "delayed": {"sync": "delayed", "delay": DELAY},
    "top 1 %": {"sync": "every", "top": 0.01},
    "top 0.1 %": {"sync": "every", "top": 0.001},
}


def recipe_of(name: str, epochs: int, batch: int) -> Recipe:
    """`quick` or `sgd`, that many epochs, batches of that many samples over all processes."""
    recipe = recipe_named(name)
    phase = replace(recipe.phases[0], epochs=epochs, warmup_epochs=min(2, epochs - 1))
    return replace(recipe, phases=(phase,), batch_size=batch)


def _recipe_for(exchange: dict[str, Any]) -> str:
    return "sgd" if "top" in exchange else "quick"


def trainer_of(asked: dict[str, Any]) -> Trainer:
    """A training as one process sees it."""
    space = space_named(asked["space"])
    space = space.at(tuple(asked["pixels"])) if asked["pixels"] else space
    link = Link(asked["latency_s"], asked["bytes_per_s"])
    data = load_for(space, asked["dataset"])
    recipe = recipe_of(asked["recipe"], asked["epochs"], asked["batch"])
    space = space.with_classes(len(data.classes))
    return Trainer(
        space, data, recipe, asked["seed"], sharing=Sharing.from_json(asked["exchange"]), link=link
    )


def one_process(asked: dict[str, Any]) -> dict[str, Any]:
    """Steps, or a whole training, and what they took."""
    torch.set_num_threads(1)
    parallel.join("cpu")
    if asked["steps"]:
        found = _rounds(asked)
    else:
        trainer = trainer_of(asked)
        with tempfile.TemporaryDirectory() as folder:
            trainer.run(Path(folder))
        steps = trainer.steps_per_epoch * asked["epochs"]
        found = {"steps": steps, "bytes_a_step": trainer.exchange.link.sent_bytes / steps}
        if trainer.rank == 0:
            networks = [trainer.space.largest(), trainer.space.smallest()]
            scores = Evaluator(trainer.supernet, trainer.dataset, "test").qualities(networks)
            found |= {"largest": float(scores[0]), "smallest": float(scores[1])}
    parallel.wait_for_all()
    parallel.leave()
    return found


def _rounds(asked: dict[str, Any]) -> dict[str, Any]:
    """Each exchange at the latency, over waiting at none with the same recipe; all of them in every round."""
    trainers: dict[str, Trainer] = {}
    for name in asked["exchanges"]:
        exchange = EXCHANGES[name]
        base = f"no latency, {_recipe_for(exchange)}"
        same = {**asked, "recipe": _recipe_for(exchange)}
        if base not in trainers:
            trainers[base] = trainer_of({**same, "exchange": EXCHANGES["every"], "latency_s": 0.0})
        trainers[name] = trainer_of({**same, "exchange": exchange})
    for trainer in trainers.values():
        trainer.exchange.begin_epoch(4)  # after the warm-up of sparse exchanges
        for step in range(2):
            trainer.backward(trainer.recipe.phases[0], _rows(trainer), step)
    timed: dict[str, list[dict[str, Any]]] = {name: [] for name in trainers}
    for _ in range(asked["rounds"]):
        for name, trainer in trainers.items():
            timed[name].append(_steps(trainer, asked["steps"], asked["step_s"]))
    return {name: _told(name, timed, asked) for name in asked["exchanges"]}


def _told(name: str, timed: dict[str, list[dict[str, Any]]], asked: dict[str, Any]) -> dict[str, Any]:
    base = timed[f"no latency, {_recipe_for(EXCHANGES[name])}"]
    ratios = [b["step_s"] / one["step_with_epoch_end_s"] for b, one in zip(base, timed[name], strict=True)]
    one = timed[name][0]
    others = parallel.rank_and_size()[1] - 1
    sent_by_all_reduce = 4 * one["parameters"] * 2 * others / (others + 1)
    return {
        "scalability": float(np.median(ratios)),
        "scalability_of_rounds": [round(ratio, 3) for ratio in ratios],
        "step_without_latency_s": [round(b["step_s"], 3) for b in base],
        "step_with_epoch_end_s": [round(t["step_with_epoch_end_s"], 3) for t in timed[name]],
        "bytes_a_step": one["bytes_a_step"],
        "bytes_ratio": sent_by_all_reduce / one["bytes_a_step"],
        "parameters": one["parameters"],
    }


def _rows(trainer: Trainer) -> Tensor:
    share = trainer.recipe.batch_size // trainer.processes
    return torch.arange(share) + trainer.rank * share


def _steps(trainer: Trainer, steps: int, step_s: float) -> dict[str, Any]:
    """Seconds of a step over whole rounds of the exchange, with the end of an epoch counted in."""
    phase, rows = trainer.recipe.phases[0], _rows(trainer)
    parallel.wait_for_all()
    begun, sent = time.perf_counter(), trainer.exchange.link.sent_bytes
    for step in range(steps):
        computing_until = time.perf_counter() + step_s
        loss = trainer.backward(phase, rows, step)
        time.sleep(max(0.0, computing_until - time.perf_counter()))
        for group in trainer.optimiser.param_groups:
            group["lr"] = 1e-3
        trainer.exchange.step(trainer.optimiser, loss, False)
    stepped = time.perf_counter() - begun
    message = trainer.exchange.link.sent_bytes - sent
    trainer.exchange.settle(trainer.optimiser, trainer.supernet, False)
    whole = time.perf_counter() - begun
    return {
        "step_s": stepped / steps,
        "step_with_epoch_end_s": whole / steps,
        "bytes_a_step": message / steps,
        "parameters": trainer.gradients.buffer.numel(),
    }


def run(asked: dict[str, Any], processes: int) -> dict[str, Any]:
    """What the first process found."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = []
    for rank in range(processes):
        meeting = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.distributed", "--inside", json.dumps(asked)],
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, **meeting, **(address if processes > 1 else {})},
            )
        )
    said = [one.communicate()[0] for one in started]
    if any(one.returncode for one in started):
        raise SystemExit(f"a process ended with an error: {asked}")
    found: dict[str, Any] = json.loads(said[0].splitlines()[-1])
    return found


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", default="cifar-mbv3")
    parser.add_argument("--dataset", default="glyphs")
    parser.add_argument("--pixels", type=int, nargs="*", default=[])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--latency-ms", type=float, default=480.0)
    parser.add_argument("--bytes-per-s", type=float, default=float("inf"))
    parser.add_argument("--steps", type=int, default=32, help="of each round of the timing")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--step-s", type=float, default=0.0, help="computing takes that long at least")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--accuracy", action="store_true", help="train to the end instead of timing steps")
    parser.add_argument("--exchanges", nargs="*", default=list(EXCHANGES))
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--inside", help="used inside: what one process does")
    given = parser.parse_args()
    if given.steps % DELAY:
        parser.error(f"steps: a multiple of {DELAY}, for nothing is sent before")
    if given.inside:
        print(json.dumps(one_process(json.loads(given.inside))))
        return
    same = {
        "space": given.space,
        "dataset": given.dataset,
        "pixels": given.pixels,
        "batch": given.batch,
        "epochs": given.epochs,
        "bytes_per_s": given.bytes_per_s,
    }
    result = {"processes": given.processes, "latency_ms": given.latency_ms, **same}
    if given.accuracy:
        result["accuracy"] = accuracies(given, same)
    else:
        asked = {"exchanges": given.exchanges, "steps": given.steps, "rounds": given.rounds, "seed": 0}
        asked |= {"step_s": given.step_s, "latency_s": given.latency_ms / 1000}
        result["steps"], result["step_s"] = run({**same, **asked}, given.processes), given.step_s
    print(json.dumps({**result, "environment": environment()}))


def accuracies(given: argparse.Namespace, same: dict[str, Any]) -> list[dict[str, Any]]:
    """Every exchange and its controls with each seed, no latency: it changes no weights."""
    found = []
    for seed in given.seeds:
        for name in given.exchanges:
            exchange = EXCHANGES[name]
            recipes = ("quick", "sgd") if name == "every" else ("sgd" if "top" in exchange else "quick",)
            for recipe in recipes:
                asked = {
                    **same,
                    "recipe": recipe,
                    "exchange": exchange,
                    "steps": 0,
                    "seed": seed,
                    "latency_s": 0.0,
                }
                found.append(
                    {"exchange": name, "recipe": recipe, "seed": seed, **run(asked, given.processes)}
                )
        asked = {
            **same,
            "recipe": "quick",
            "exchange": EXCHANGES["every"],
            "steps": 0,
            "seed": seed,
            "latency_s": 0.0,
        }
        found.append({"exchange": "alone", "recipe": "quick", "seed": seed, **run(asked, 1)})
        larger = {**asked, "batch": 8 * given.batch}
        found.append(
            {
                "exchange": "batches of 8 steps",
                "recipe": "quick",
                "seed": seed,
                **run(larger, given.processes),
            }
        )
    return found


if __name__ == "__main__":
    main()
