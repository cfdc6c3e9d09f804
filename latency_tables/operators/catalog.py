"""Every operator family by name: the built-in ones and those of installed distributions.

See `docs/add_an_operator_family.md`. The catalog is filled when it is first asked for a family, so a module
that defines one may import `latency_tables.operators` while it is being loaded.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any, Final

from latency_tables.errors import InvalidOperator
from latency_tables.operators.bottleneck import Bottleneck
from latency_tables.operators.conv import Conv
from latency_tables.operators.cross_memory import CrossMemory
from latency_tables.operators.dequantize import Dequantize
from latency_tables.operators.encoder_attend import EncoderAttend
from latency_tables.operators.ffn import FeedForwardPart
from latency_tables.operators.head import Head
from latency_tables.operators.maxpool import MaxPool
from latency_tables.operators.mbconv import MBConv
from latency_tables.operators.operator import Operator, checked_family
from latency_tables.operators.quantize import Quantize
from latency_tables.operators.source_embed import SourceEmbed
from latency_tables.operators.step_attend import StepAttend
from latency_tables.operators.step_cross import StepCross
from latency_tables.operators.step_embed import StepEmbed
from latency_tables.operators.step_output import StepOutput

ENTRY_POINT_GROUP: Final = "bespoke.operator_families"

FAMILIES: dict[str, type[Operator]] = {
    family.family: family
    for family in (
        *(Conv, MBConv, Bottleneck, MaxPool, Head, Quantize, Dequantize),
        *(SourceEmbed, EncoderAttend, FeedForwardPart, CrossMemory),
        *(StepEmbed, StepAttend, StepCross, StepOutput),
    )
}


def register_family(family: Any) -> type[Operator]:
    """Add a family to the catalog of this process.

    Raises ValueError when its name is taken by another one, TypeError for a class that is no family: it must
    be a frozen dataclass derived from Operator with a name, a form and plain fields.
    """
    checked = checked_family(family)
    if FAMILIES.setdefault(checked.family, checked) is not checked:
        raise ValueError(
            f"an operator family named {checked.family!r} exists already; give the new one another name"
        )
    return checked


def register_installed_families() -> None:
    """Add the families that installed distributions offer as entry points `bespoke.operator_families`."""
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        register_family(entry.load())


def family_named(name: str) -> type[Operator]:
    """The family of that name. Raises InvalidOperator that lists the known ones."""
    try:
        return FAMILIES[name]
    except KeyError:
        raise InvalidOperator(
            f"unknown operator family; known are {', '.join(FAMILIES)}. Install the distribution that "
            "defines another one (docs/add_an_operator_family.md)"
        ) from None


register_installed_families()
