"""From a folded network to the one with some blocks in int8: ranges from training samples, by the method that
comes nearest to the float32 network on others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from torch import Tensor

from latency_tables.operators import Operator
from supernets.cut_out import PlainNetwork
from supernets.data.splits import evenly_spread
from supernets.delivery.export import layer_model
from supernets.delivery.int8_steps import INPUT, Step, int8_steps
from supernets.delivery.precision import FEWEST_SAMPLES, METHODS, PrecisionPlan, Rounding
from supernets.delivery.ranges import Range, ranges_of
from supernets.delivery.simulated import Int8Block, Levels, QuantisedNetwork, levels_of, stays_float
from supernets.errors import InvalidPrecision
from supernets.tasks.catalog import task_of
from supernets.tasks.data import Data
from supernets.training.memory import samples_at_once

_VALUES_KEPT: Final = 300_000  # of a tensor on all samples: its extremes are of all values

Found = dict[tuple[int, str], dict[str, Range]]
"""(layer, value) -> method -> range"""


@dataclass(frozen=True)
class Samples:
    """Inputs of the training split, (n, ...) each: to find ranges, and to judge them."""

    calibration: Tensor
    trial: Tensor

    @classmethod
    def of(cls, data: Data, condition: int, rounding: Rounding, operators: Sequence[Operator]) -> Samples:
        """Evenly spread, every other one for each of the two. Raises InvalidPrecision where there are too
        few."""
        there = len(data.split("train"))
        if there < FEWEST_SAMPLES:
            raise InvalidPrecision(
                f"data set {data.name!r} has {there} training samples, too few to find the ranges of int8 "
                f"values: {FEWEST_SAMPLES} are the least"
            )
        most = max(FEWEST_SAMPLES // 2, min(rounding.samples, samples_at_once(operators)))
        rows = evenly_spread(there, min(2 * most, there))
        inputs = [
            task_of(data).examples(data, "train", condition, part)[0] for part in (rows[::2], rows[1::2])
        ]
        return cls(*inputs)


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A folded network of which every planned combination of blocks can be had in int8: the ranges are those
    of the float32 network, so they belong to no plan.

    steps: of the layers that may be in int8, by number. found: their ranges by each method.
    """

    plain: PlainNetwork
    steps: Mapping[int, Sequence[Step]]
    found: Found
    methods: tuple[str, ...]
    rounding: Rounding
    samples: int

    @classmethod
    @torch.no_grad()
    def of(
        cls, plain: PlainNetwork, calibration: Tensor, rounding: Rounding, layers: Iterable[int] | None = None
    ) -> Calibrated:
        """plain: folded, in evaluation mode, on the CPU. layers: that may be in int8; None: all that have an
        int8 form. Raises InvalidPrecision for a layer that has none, and for values that are not finite.
        """
        methods = METHODS if rounding.method is None else (rounding.method,)
        steps = (
            _steps_there_are(plain)
            if layers is None
            else {number: steps_of(plain, number) for number in layers}
        )
        try:
            found = _calibrated(plain, steps, calibration, methods)
        except FloatingPointError as error:
            raise InvalidPrecision(f"the network cannot be computed in int8: {error}") from error
        return cls(plain, steps, found, methods, rounding, len(calibration))

    def at(self, plan: PrecisionPlan, method: str) -> QuantisedNetwork:
        """The network with blocks in int8 as planned. Raises InvalidPrecision for another network's plan."""
        if len(plan.precisions) != len(self.plain.operators):
            raise InvalidPrecision(
                f"the plan has {len(plan.precisions)} precisions, the network "
                f"{len(self.plain.operators)} operators"
            )
        blocks: dict[int, Int8Block] = {}
        last, closed = len(self.plain.operators) - 1, False
        for number in plan.int8:
            own = self.steps[number] if number in self.steps else steps_of(self.plain, number)
            before = blocks.get(number - 1)
            given = (
                Levels(self.found[number, INPUT][method]) if before is None else before.levels[before.output]
            )
            ranges = {name: one[method] for (at, name), one in self.found.items() if at == number}
            open_end = number == last and stays_float(own, self.plain.operators[number])
            closed = closed or open_end
            levels = levels_of(own, ranges, given, open_end)
            blocks[number] = Int8Block(own, levels, self.rounding.weight_bits)
        return QuantisedNetwork(self.plain, plan, blocks, self.rounding, method, closed, self.samples)

    @torch.no_grad()
    def best_method(self, plan: PrecisionPlan, trial: Tensor) -> str:
        """The method whose outputs lie nearest to the float32 network's."""
        if len(self.methods) == 1:
            return self.methods[0]
        wanted = self.plain(trial)
        errors = [float((self.at(plan, one)(trial) - wanted).square().mean()) for one in self.methods]
        return self.methods[int(np.argmin(errors))]


def quantise(
    plain: PlainNetwork, plan: PrecisionPlan, samples: Samples, rounding: Rounding
) -> QuantisedNetwork:
    """The network with blocks in int8 as planned. plain: folded, in evaluation mode, on the CPU.

    Raises InvalidPrecision for a plan of another length, a block that has no int8 form, values that are not
    finite.
    """
    known = [number for number in plan.int8 if number < len(plain.operators)]
    ready = Calibrated.of(plain, samples.calibration, rounding, known)
    return ready.at(plan, ready.best_method(plan, samples.trial))


def _steps_there_are(plain: PlainNetwork) -> dict[int, tuple[Step, ...]]:
    found = {}
    for number in range(len(plain.operators)):
        with suppress(InvalidPrecision):
            found[number] = steps_of(plain, number)
    return found


def steps_of(plain: PlainNetwork, number: int) -> tuple[Step, ...]:
    """The int8 steps of a layer. Raises InvalidPrecision, which names the operator."""
    op = plain.operators[number]
    try:
        return int8_steps(layer_model(plain.layers[number], op))
    except InvalidPrecision as error:
        raise InvalidPrecision(f"{op.text}: {error}") from error


def _calibrated(
    plain: PlainNetwork, steps: Mapping[int, Sequence[Step]], x: Tensor, methods: tuple[str, ...]
) -> Found:
    """Ranges of every value of these layers, from what the float32 network makes of x."""
    found: Found = {}

    def seen(number: int, name: str, value: Tensor) -> None:
        flat = value.reshape(-1)
        kept = flat[:: -(-len(flat) // _VALUES_KEPT)]
        ends = torch.stack([flat.min(), flat.max()])
        found[number, name] = ranges_of(torch.cat([kept, ends]).numpy(), methods)

    for number, layer in enumerate(plain.layers):
        if number not in steps:
            x = layer(x)
            continue
        before = steps.get(number - 1)
        if before is None:
            seen(number, INPUT, x)
        else:
            # What the layer before gives and what this one takes are one value.
            found[number, INPUT] = found.get((number - 1, before[-1].output)) or _input_of(x, methods)
        x = Int8Block(steps[number], {}, 8)(x, lambda name, value, at=number: seen(at, name, value))
    return found


def _input_of(x: Tensor, methods: tuple[str, ...]) -> dict[str, Range]:
    """Of an input whose levels are another value's, such as a pool's."""
    return ranges_of(x.reshape(-1)[:: -(-x.numel() // _VALUES_KEPT)].numpy(), methods)
