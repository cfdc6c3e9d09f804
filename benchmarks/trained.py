"""What benchmarks of trained networks are asked for alike."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from latency_tables.dense import Array
from supernets.spaces.architecture import Architecture
from supernets.training.evaluation import Evaluator


def options(about: str | None, *, recipe: str, resolution: int | None = 16) -> argparse.ArgumentParser:
    """A parser that knows which networks: space, data set, recipe, seeds and where trained ones are kept.

    resolution: of the networks, None where the benchmark has several.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="digits-mbv3")
    parser.add_argument("--dataset", default="digits")
    if resolution is not None:
        parser.add_argument("--resolution", type=int, default=resolution)
    parser.add_argument("--recipe", default=recipe)
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--folder", type=Path, help="keeps what was trained")
    return parser


def seeded(asked: argparse.Namespace) -> Iterator[tuple[int, Path, Callable[[str], None]]]:
    """(seed, folder for what is trained, says how far it is) of each seed; one thread from here on."""
    torch.set_num_threads(1)
    say = clock()
    with TemporaryDirectory() as temporary:
        for seed in range(asked.seed, asked.seed + asked.seeds):
            yield seed, (asked.folder or Path(temporary)) / f"{asked.space}-{asked.dataset}-{seed}", say
            say(f"seed {seed}")


def mean_likelihoods(evaluator: Evaluator, architectures: Sequence[Architecture]) -> Array:
    """Mean log-likelihood of a sample, (networks,); -inf of a task without. evaluator: that keeps them."""
    evaluator.qualities(architectures)
    groups = [evaluator.likelihoods(one) for one in architectures]
    return np.array([-np.inf if one is None else one.mean() for one in groups])


def clock() -> Callable[[str], None]:
    """Says a line on the error output, with the seconds since now."""
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:7.0f} s {text}", file=sys.stderr, flush=True)

    return say
