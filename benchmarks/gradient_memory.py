"""Peak memory of a gradient-search architecture step over that of training one path (the largest), on the CPU
allocator."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile

from benchmarks.environment import environment
from supernets.network import Supernet
from supernets.search.gradient.distribution import Pair
from supernets.search.gradient.gates import GatedPath
from supernets.spaces.catalog import space_named


def peak_bytes(call: Callable[[], None]) -> int:
    """Most bytes that torch holds at once within a call, beyond what it held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    held = peak = 0
    for event in sorted(profiler.profiler.kineto_results.events(), key=lambda e: e.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def peaks(pixels: int, batch: int, seed: int) -> tuple[int, int]:
    """(training the largest path, measuring it against another one by two-path gates), bytes; space
    `proxyless`."""
    space = replace(space_named("proxyless").with_classes(10), resolutions=(pixels,))
    generator = torch.Generator().manual_seed(seed)
    supernet = Supernet(space, generator=generator).train()
    x, y = torch.randn(batch, 3, pixels, pixels, generator=generator), torch.arange(batch) % 10
    largest = np.where(space.chain.gene_sizes > 1, 5, 0)
    others = np.where(space.chain.gene_sizes > 1, 2, 0)
    pair = Pair(
        torch.from_numpy(np.stack([largest, others], axis=1)), torch.zeros(len(largest), dtype=torch.int64)
    )

    def train() -> None:
        F.cross_entropy(supernet(x, space.architecture(largest)), y).backward()
        supernet.zero_grad(set_to_none=True)

    def measure() -> None:
        F.cross_entropy(GatedPath(supernet, space, pair)(x), y).backward()

    train()
    one_path = peak_bytes(train)
    supernet.requires_grad_(False)
    return one_path, peak_bytes(measure)


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pixels", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    one_path, architecture = peaks(arguments.pixels, arguments.batch, arguments.seed)
    result = {
        "one_path_bytes": one_path,
        "architecture_step_bytes": architecture,
        "gradient_memory_ratio": architecture / one_path,
        "pixels": arguments.pixels,
        "batch": arguments.batch,
        "seed": arguments.seed,
        "environment": environment(),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
