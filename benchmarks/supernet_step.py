"""Samples per second of one training step (sandwich of 4) of a supernet, against the same step written the
plain way.

Plain: float32, contiguous tensors, every sub-network resizes the batch for itself, the teacher is a forward
pass of its own, gradients are made anew in every step. Steps alternate in one process; peak memory is that of
a process of its own (resident set on a CPU, allocated memory on a GPU). Both train the same sub-networks on
the same samples.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks.environment import environment
from supernets.data.splits import Dataset, Split
from supernets.network import Supernet
from supernets.spaces.catalog import space_named
from supernets.spaces.space import Space
from supernets.training.loop import Trainer
from supernets.training.recipe import Phase, Recipe
from supernets.training.sampling import step_networks

PHASE = Phase("sandwich", 1, 0.05, networks=4, sampling="sandwich", teacher="largest")


def random_dataset(space: Space, samples: int) -> Dataset:
    """Noise of the space's largest size: only the time counts here."""
    generator = np.random.default_rng(0)
    shape = (samples, *space.input_shape(max(space.resolutions)))
    split = Split(generator.integers(0, 256, size=shape, dtype=np.uint8), np.arange(samples) % space.classes)
    return Dataset("noise", tuple(str(c) for c in range(space.classes)), split, split, split)


def ours(space: Space, batch: int, device: str) -> Callable[[int], None]:
    """The step of the product."""
    recipe = Recipe("step", "", (PHASE,), batch_size=batch, bf16=device == "cuda")
    trainer = Trainer(space, random_dataset(space, max(batch, space.classes)), recipe, 0, device=device)
    indices = torch.arange(batch, device=device)
    return lambda step: trainer.step(PHASE, indices, step, 0.01) and None


def plain(space: Space, batch: int, device: str) -> Callable[[int], None]:
    """The step as one would first write it."""
    supernet = Supernet(space, generator=torch.Generator().manual_seed(0)).to(device).train()
    optimiser = torch.optim.SGD(
        supernet.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=3e-5
    )
    dataset = random_dataset(space, max(batch, space.classes))
    images = torch.from_numpy(dataset.inputs("train", dataset.size))[:batch].to(device)
    labels = torch.from_numpy(dataset.train.labels)[:batch].to(device)

    def resized(size: int) -> torch.Tensor:
        return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)

    def step(number: int) -> None:
        optimiser.zero_grad()
        for position, architecture in enumerate(step_networks(space, PHASE, 0, number)):
            targets = None
            if position:
                with torch.no_grad():
                    targets = supernet(
                        resized(architecture.resolution), space.largest(architecture.resolution)
                    )
            logits = supernet(resized(architecture.resolution), architecture)
            loss = F.cross_entropy(logits, labels, label_smoothing=0.1)
            if targets is not None:
                loss = loss + F.cross_entropy(logits, targets.softmax(dim=1))
            loss.backward()
            float(loss.detach())
        optimiser.step()

    return step


STEPS = {"ours": ours, "plain": plain}


def peak_bytes(arguments: argparse.Namespace, which: str) -> int:
    """Peak memory of a few steps in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.supernet_step",
        "--memory-of",
        which,
        "--space",
        arguments.space,
    ]
    command += ["--batch", str(arguments.batch), "--device", arguments.device]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def measure_memory(arguments: argparse.Namespace, space: Space) -> int:
    """The same, inside that process."""
    step = STEPS[arguments.memory_of](space, arguments.batch, arguments.device)
    for number in range(4):
        step(number)
    if arguments.device == "cuda":
        return torch.cuda.max_memory_allocated()
    # Not ru_maxrss: a child starts with its parent's.
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def timed(step: Callable[[int], None], number: int, device: str) -> float:
    """Seconds of one step."""
    start = time.perf_counter()
    step(number)
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="cifar-mbv3")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument(
        "--seed", type=int, default=0, help="first step: decides which sub-networks are drawn"
    )
    parser.add_argument(
        "--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=("cpu", "cuda")
    )
    parser.add_argument("--memory-of", choices=sorted(STEPS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    space = space_named(arguments.space)
    if arguments.memory_of:
        print(measure_memory(arguments, space))
        return
    steps = {name: make(space, arguments.batch, arguments.device) for name, make in STEPS.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(arguments.seed, arguments.seed + arguments.steps):
        for name, step in steps.items():
            if number == arguments.seed:
                step(number)  # warm-up
            seconds[name].append(timed(step, number, arguments.device))
    total = {name: float(np.sum(values)) for name, values in seconds.items()}
    ratios = np.array(seconds["plain"]) / np.array(seconds["ours"])
    result: dict[str, Any] = {
        "speedup": total["plain"] / total["ours"],
        "speedup_median_step": float(np.median(ratios)),
        "samples_per_second": {
            name: arguments.batch * arguments.steps / value for name, value in total.items()
        },
        "peak_bytes": {name: peak_bytes(arguments, name) for name in steps},
        "device": torch.cuda.get_device_name() if arguments.device == "cuda" else "cpu",
        "space": arguments.space,
        "batch": arguments.batch,
        "steps": arguments.steps,
        "seed": arguments.seed,
        "threads": torch.get_num_threads(),
        "environment": environment(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
