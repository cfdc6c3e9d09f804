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
from supernets.delivery.format import Opened, outputs

_FEWEST_VALUES: Final = 2  # of an input of whole numbers of which it is not said how many there are
_ROUNDED_ERROR: Final = 0.15
_ROUNDED_AGREEMENT: Final = 0.97
"""A file whose products saturate, or with one wrong scale, lies beyond both (tests/supernets/delivery/
test_int8.py); sound ones of random weights were seen up to 0.09."""


@dataclass(frozen=True)
class Parity:
    """Of a network and its file over random inputs: largest absolute difference, largest absolute output.

    Sums err in proportion to what is summed, so the limit is a share of the largest output where that
    exceeds 1. tolerance: that share; it belongs to the format and its precision. rounded: of a network with
    blocks in int8 what decides instead, for one value that falls on the other side of half a level moves
    outputs by more than any limit on the largest difference that would still find a wrong file.
    """

    max_abs_error: float
    max_abs_logit: float
    tolerance: float
    rounded: RoundedParity | None = None

    @property
    def holds(self) -> bool:
        """Whether the file computes the network."""
        if self.rounded is not None:
            return self.rounded.holds
        return self.max_abs_error <= self.tolerance * max(1.0, self.max_abs_logit)


@dataclass(frozen=True)
class RoundedParity:
    """Of a network in int8, simulated, and its file over training samples.

    relative_error: root mean square of the differences over the outputs' own deviation. top1_agreement: share
    of samples with the same largest output; those whose two largest lie nearer than the error tell nothing,
    and count as agreeing.
    """

    relative_error: float
    top1_agreement: float
    samples: int

    @property
    def holds(self) -> bool:
        """Whether the file computes the network."""
        return self.relative_error <= _ROUNDED_ERROR and self.top1_agreement >= _ROUNDED_AGREEMENT


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


def compared_rounded(network: nn.Module, opened: Opened, fed: Tensor, inputs: Tensor) -> Parity:
    """Of a network in int8 over samples. fed: what the file takes, (n, ...); inputs: what the network
    does."""
    found = outputs(opened, fed.numpy()).astype(np.float64)
    with torch.no_grad():
        wanted = network(inputs).double().numpy()
    difference = found - wanted
    error, largest = float(np.abs(difference).max()), float(np.abs(wanted).max())
    if not np.isfinite(error):
        return Parity(float("inf"), largest, 0.0, RoundedParity(float("inf"), 0.0, len(found)))
    typical = float(np.sqrt(np.square(difference).mean()))
    flat_found, flat_wanted = (one.reshape(-1, one.shape[-1]) for one in (found, wanted))
    best = np.sort(flat_wanted, axis=1)[:, -2:]
    told = best[:, -1] - best[:, 0] > 2 * typical
    same = flat_found.argmax(axis=1) == flat_wanted.argmax(axis=1)
    agreement = float(np.mean(same | ~told))
    relative = typical / max(float(wanted.std()), 1e-12)
    return Parity(error, largest, 0.0, RoundedParity(relative, agreement, len(found)))


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
