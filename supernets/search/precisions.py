"""The precisions of one network's blocks: every plan that no other beats in latency and in what it loses.

Both add up over blocks, and over the conversions where two neighbours differ, so the whole front follows
block by block (dynamic programming over the precision at the boundary), without trying 2^blocks plans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from supernets.errors import InvalidSearch

_MOST_KEPT: Final = 4096


@dataclass(frozen=True)
class BlockCosts:
    """Of one operator. int8_ms: None where it has no int8 form. quantize_ms, dequantize_ms: of its *input*,
    where it and the block before differ. lost: of the score in int8."""

    float32_ms: float
    int8_ms: float | None
    quantize_ms: float
    dequantize_ms: float
    lost: float = 0.0


@dataclass(frozen=True)
class Planned:
    """int8: whether each operator is. latency_ms: a sum of rows; lost: a sum too."""

    latency_ms: float
    lost: float
    int8: tuple[bool, ...]


def plans(blocks: Sequence[BlockCosts], closing_ms: float = 0.0) -> list[Planned]:
    """The front, the quickest first; float32 goes in. closing_ms: of making the output float32 again where
    the last block leaves 8 bits.

    Exact. Raises InvalidSearch where more than 4096 plans would have to be kept at once.
    """
    if not blocks:
        raise InvalidSearch("a network without blocks has no precisions to choose")
    states = {False: [Planned(0.0, 0.0, ())], True: list[Planned]()}
    for block in blocks:
        states = {
            False: _front(
                [_with(p, block.float32_ms, 0.0, False) for p in states[False]]
                + [_with(p, block.dequantize_ms + block.float32_ms, 0.0, False) for p in states[True]]
            ),
            True: []
            if block.int8_ms is None
            else _front(
                [_with(p, block.int8_ms, block.lost, True) for p in states[True]]
                + [_with(p, block.quantize_ms + block.int8_ms, block.lost, True) for p in states[False]]
            ),
        }
        if max(map(len, states.values())) > _MOST_KEPT:
            raise InvalidSearch(f"more than {_MOST_KEPT} plans of this network are equally good")
    ends = [Planned(p.latency_ms + closing_ms, p.lost, p.int8) for p in states[True]]
    return _front(states[False] + ends)


def _with(plan: Planned, latency_ms: float, lost: float, int8: bool) -> Planned:
    return Planned(plan.latency_ms + latency_ms, plan.lost + lost, (*plan.int8, int8))


def _front(found: list[Planned]) -> list[Planned]:
    """Without those that another beats, the quickest first."""
    kept: list[Planned] = []
    for plan in sorted(found, key=lambda p: (p.latency_ms, p.lost)):
        if not kept or plan.lost < kept[-1].lost:
            kept.append(plan)
    return kept
