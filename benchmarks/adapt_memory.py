"""Memory and time of one training step of a network, by what is trained and how: the table of docs/adapt.md.

Each method is a child process of its own. "kept": bytes that autograd holds after the forward pass, without
parameters. "tensors": most bytes of tensors above those at rest, in a step. "rss": most memory of the process
above that with torch loaded and nothing built. Also: gradients against those of plain training, and ten
fine-tunings that each have a limit on their memory.
"""

from __future__ import annotations

import argparse
import json
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
from benchmarks.gradient_memory import peak_bytes as tensor_bytes
from supernets.data.splits import Dataset, Split
from supernets.network import Supernet
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import lower
from supernets.spaces.space import Space
from supernets.training import memory
from supernets.training.catalog import recipe_named
from supernets.training.loop import Trainer
from supernets.training.method import Method
from supernets.training.recipe import tune_recipe
from supernets.training.spec import LITE
from supernets.training.tuning import alone, specialised, tuned

MB: Final = 2**20
TARGET_MACS: Final = {"proxyless": 348e6, "ofa-mbv3": 250e6}
"""Sizes of the networks of the table in TinyTL's order; the nearest of 200 random ones is taken."""
ROWS: Final[dict[str, tuple[str, Method]]] = {
    "all, plain": ("all", Method()),
    "all, recomputed": ("all", Method(recompute=True)),
    "all, micro-batch 1": ("all", Method(1, True)),
    "all, micro-batch 1, recomputed": ("all", Method(1, True, True)),
    "last": ("last", Method(frozen=True)),
    "bias": ("bias", Method(frozen=True)),
    "bias, micro-batch 1": ("bias", Method(1, True)),
    "bias, micro-batch 1, recomputed": ("bias", Method(1, True, True)),
    "lite": ("lite", Method(frozen=True)),
    "lite, micro-batch 1": ("lite", Method(1, True)),
    "lite, micro-batch 1, recomputed": ("lite", Method(1, True, True)),
}
REPEATS: Final = 10


def network(space_name: str, pixels: int) -> tuple[Supernet, Architecture, Dataset]:
    """(a supernet with random weights and ten classes, one of its networks, noise as data)."""
    space: Space = replace(space_named(space_name).with_classes(10), resolutions=(pixels,))
    rows = space.chain.sample(np.random.default_rng(0), 200)
    networks = [space.architecture(row) for row in rows]
    macs = [sum(op.macs for op in lower(space, one)) for one in networks]
    chosen = networks[int(np.argmin(np.abs(np.array(macs) - TARGET_MACS[space_name])))]
    supernet = Supernet(space, generator=torch.Generator().manual_seed(0))
    generator = np.random.default_rng(0)

    def split(size: int) -> Split:
        images = generator.integers(0, 256, size=(size, 3, pixels, pixels), dtype=np.uint8)
        return Split(images, np.arange(size, dtype=np.int64) % 10)

    return supernet, chosen, Dataset("noise", tuple("0123456789"), split(16), split(10), split(10))


def trainer_of(space_name: str, pixels: int, batch: int, train: str) -> Trainer:
    """A fine-tuning of that network with batches of that many images."""
    supernet, chosen, data = network(space_name, pixels)
    recipe = tune_recipe(replace(recipe_named("standard"), batch_size=batch), 1)
    own = specialised(supernet, chosen, lite=train == LITE)
    space, weights = alone(supernet.space, chosen), own.state_dict()
    trainer = Trainer(space, data, recipe, 0, start=weights, own_start=True, train=train, form=own.form)
    with torch.no_grad():
        # A fresh one has no gradients but those of its last scale.
        for part in trainer.supernet.beside.values():
            part.mix.norm.weight.fill_(0.5)  # type: ignore[union-attr,operator]
    return trainer


def measured(space_name: str, pixels: int, batch: int, row: str) -> dict[str, Any]:
    """One row, in this process."""
    torch.set_num_threads(1)
    memory.return_freed_memory()
    bare = memory.resident_bytes()
    train, method = ROWS[row]
    trainer = trainer_of(space_name, pixels, batch, train)
    trainer.follow(method)
    phase, rows = trainer.recipe.phases[0], torch.arange(batch)

    def step(number: int = 0) -> None:
        trainer.step(phase, rows, number, 1e-6)

    kept = _kept(trainer, rows)
    step()
    begun = time.perf_counter()
    step(1)
    step(2)
    seconds = (time.perf_counter() - begun) / 2
    memory.begin_peak()
    step(3)
    rss = memory.peak_bytes() - bare
    return {
        "kept_mb": round(kept / MB, 1),
        "tensors_mb": round(tensor_bytes(step) / MB, 1),
        "rss_mb": round(rss / MB, 1),
        "seconds": round(seconds, 3),
        "trained_weights": sum(p.numel() for p in trainer.gradients.parameters),
    }


def _kept(trainer: Trainer, rows: Tensor) -> int:
    """Bytes held from the forward to the backward pass of the first part, each tensor once."""
    own = {parameter.data_ptr() for parameter in trainer.supernet.parameters()}
    held: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        if tensor.data_ptr() not in own:
            held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    largest = trainer.space.largest()
    inputs = trainer._inputs(rows, 0, largest.resolution)[0]
    part = next(trainer.method.parts(len(rows)))[0]
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        plan = trainer.supernet.plan(largest)
        output = trainer.supernet.through(inputs[part], plan, recompute=trainer.method.recompute)
    del output
    return sum(held.values())


def gradient_errors(space_name: str, pixels: int, batch: int) -> dict[str, float]:
    """Largest difference of each method's gradients from plain training's of the same part, over the largest
    gradient; batch-norm by standing statistics in both."""
    found = {}
    plain: dict[str, Tensor] = {}
    for row, (train, method) in ROWS.items():
        trainer = trainer_of(space_name, pixels, batch, train)
        phase, rows = trainer.recipe.phases[0], torch.arange(batch)
        if train not in plain:
            # Weights ask for gradients too, so that nothing is computed by functions that keep bits.
            trainer.follow(Method(frozen=True))
            wanted = {id(p) for p in trainer.gradients.parameters}
            for parameter in trainer.supernet.parameters():
                parameter.requires_grad_(True)
            trainer.backward(phase, rows, 0)
            plain[train] = trainer.gradients.buffer.clone()
            for parameter in trainer.supernet.parameters():
                parameter.requires_grad_(id(parameter) in wanted)
                if id(parameter) not in wanted:
                    parameter.grad = None
        trainer.follow(replace(method, frozen=True))
        trainer.backward(phase, rows, 0)
        difference = (trainer.gradients.buffer - plain[train]).abs().max()
        found[row] = float(difference / plain[train].abs().max())
    return found


def kept_limits(space_name: str, pixels: int, batch: int, limit_mb: int) -> dict[str, Any]:
    """A whole fine-tuning of an epoch within a limit, in this process: what it took by its own account."""
    torch.set_num_threads(1)
    supernet, chosen, data = network(space_name, pixels)
    recipe = replace(recipe_named("standard"), batch_size=batch)
    with tempfile.TemporaryDirectory() as folder:
        _, _, used = tuned(supernet, chosen, data, recipe, 1, 0, Path(folder), memory_mb=limit_mb)
    return used.to_json()


def in_child(arguments: list[str]) -> tuple[dict[str, Any], float]:
    """(what a call of this file prints, most memory of its process as the system counts it in MB)."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.adapt_memory", *arguments], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        peak = 0
        status = Path(f"/proc/{child.pid}/status")
        text = ""
        while child.poll() is None:
            time.sleep(0.01)
            try:
                lines = status.read_text().splitlines()
            except OSError:
                continue
            peak = max([peak, *(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))])
        text = child.stdout.read()
    if child.returncode:
        raise SystemExit(f"a child ended with {child.returncode}: {arguments}")
    found: dict[str, Any] = json.loads(text)
    return found, peak / 1024


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--space", choices=sorted(TARGET_MACS), default="proxyless")
    parser.add_argument("--pixels", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rows", nargs="*", default=list(ROWS))
    parser.add_argument("--limit-mb", type=int, default=0, help="of ten fine-tunings; 0 for none")
    parser.add_argument("--gradients", action="store_true", help="compare gradients too")
    parser.add_argument("--row", help="used inside: measure one row")
    parser.add_argument(
        "--limited", action="store_true", help="used inside: one fine-tuning within the limit"
    )
    asked = parser.parse_args()
    if asked.row:
        print(json.dumps(measured(asked.space, asked.pixels, asked.batch, asked.row)))
        return
    if asked.limited:
        print(json.dumps(kept_limits(asked.space, asked.pixels, asked.batch, asked.limit_mb)))
        return
    same = ["--space", asked.space, "--pixels", str(asked.pixels), "--batch", str(asked.batch)]
    rows = {row: in_child([*same, "--row", row])[0] for row in asked.rows}
    result: dict[str, Any] = {
        "rows": rows,
        "space": asked.space,
        "pixels": asked.pixels,
        "batch": asked.batch,
    }
    best = "all, micro-batch 1, recomputed"
    if {"all, plain", best} <= set(rows):
        plain = rows["all, plain"]
        result["best"] = {
            "tensor_ratio": plain["tensors_mb"] / rows[best]["tensors_mb"],
            "rss_ratio": plain["rss_mb"] / rows[best]["rss_mb"],
            "time_ratio": rows[best]["seconds"] / plain["seconds"],
        }
    if asked.gradients:
        result["gradient_errors"] = gradient_errors(asked.space, asked.pixels, asked.batch)
    if asked.limit_mb:
        limited = [in_child([*same, "--limited", "--limit-mb", str(asked.limit_mb)]) for _ in range(REPEATS)]
        result["limits"] = {
            "limit_mb": asked.limit_mb,
            "kept": sum(peak <= asked.limit_mb for _, peak in limited),
            "of": REPEATS,
            "peaks_mb": [round(peak, 1) for _, peak in limited],
            "method": limited[0][0]["method"],
        }
    print(json.dumps({**result, "seed": 0, "environment": environment()}))


if __name__ == "__main__":
    main()
