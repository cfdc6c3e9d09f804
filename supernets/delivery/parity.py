"""Whether a file computes the network that it was written from: torch against the file's runtime."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn

from latency_tables.inputs import InputSpec
from supernets.cut_out import PlainNetwork
from supernets.data.preprocessing import Preprocessing
from supernets.delivery.format import Opened

_FEWEST_VALUES: Final = 2  # of an input of whole numbers of which it is not said how many there are


@dataclass(frozen=True)
class Parity:
    """Of a network and its file over random inputs: largest absolute difference, largest absolute output.

    Sums err in proportion to what is summed, so the limit is a share of the largest output where that
    exceeds 1. tolerance: that share; it belongs to the format and its precision.
    """

    max_abs_error: float
    max_abs_logit: float
    tolerance: float

    @property
    def holds(self) -> bool:
        """Whether the file computes the network."""
        return self.max_abs_error <= self.tolerance * max(1.0, self.max_abs_logit)


def compared(
    network: nn.Module,
    opened: Opened,
    tolerance: float,
    *,
    samples: int = 16,
    generator: torch.Generator | None = None,
    preprocessing: Preprocessing | None = None,
) -> Parity:
    """Over random inputs, a batch at a time; infinite where either is not finite.

    Inputs are normal, or pictures of noise like the data where the file takes bytes; then `preprocessing`
    leads to the network's.
    """
    plain = copy.deepcopy(network).cpu().eval()
    known = network.inputs if isinstance(network, PlainNetwork) else opened.inputs
    below = [spec.below for spec in known]
    error = largest = 0.0
    with torch.no_grad():
        for _ in range(samples):
            pairs = [
                _fed(replace(given, below=most), generator, preprocessing)
                for given, most in zip(opened.inputs, below, strict=True)
            ]
            found = opened.run(*(fed for fed, _ in pairs))
            wanted = plain(*(x for _, x in pairs)).numpy()
            difference = np.abs(found - wanted).max()
            if not np.isfinite(difference):
                return Parity(float("inf"), largest, tolerance)
            error, largest = max(error, float(difference)), max(largest, float(np.abs(wanted).max()))
    return Parity(error, largest, tolerance)


def _fed(
    given: InputSpec, generator: torch.Generator | None, preprocessing: Preprocessing | None
) -> tuple[Any, Tensor]:
    """(what an input of a file is fed with, what the network is fed with instead)."""
    if given.dtype == "uint8" and preprocessing is not None:
        pixels = _pictures(torch.randn(given.shape, generator=generator).numpy(), preprocessing)
        return pixels, torch.from_numpy(preprocessing.finish(pixels))
    x = random_input(given, generator)
    return x.numpy(), x.float() if x.is_floating_point() else x


def random_input(spec: InputSpec, generator: torch.Generator | None) -> Tensor:
    """A batch of an input: normal numbers, or whole numbers of those there are."""
    dtype = getattr(torch, spec.dtype)
    if dtype.is_floating_point:
        return torch.randn(spec.shape, generator=generator).to(dtype)
    below = min(spec.below or _FEWEST_VALUES, torch.iinfo(dtype).max)
    return torch.randint(below, spec.shape, generator=generator, dtype=dtype)


def _pictures(noise: Any, preprocessing: Preprocessing) -> Any:
    """Kept pictures (N, C, H, W) with about the mean and deviation of the data: what lies far outside tells
    nothing of them."""
    mean, deviation = (np.reshape(v, (-1, 1, 1)) for v in (preprocessing.mean, preprocessing.deviation))
    return np.clip(np.rint(noise * deviation + mean), 0, 255).astype(np.uint8)
