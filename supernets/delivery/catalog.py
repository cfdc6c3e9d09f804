"""What is delivered for which context: every format of files by name, built in or of an installed
distribution.

No torch here: the service asks it too. See `docs/add_a_format.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from latency_tables.measurement import Context
from supernets.delivery.archive_format import ArchiveFormat
from supernets.delivery.format import EMBEDDED, ONNX, SEPARATE, Delivery, Format
from supernets.delivery.onnx_format import PRECISIONS, OnnxFormat
from supernets.delivery.precision import FLOAT32
from supernets.errors import UnservableContext

if TYPE_CHECKING:
    from supernets.spaces.space import Space

__all__ = [
    "EMBEDDED",
    "FORMATS",
    "ONNX",
    "PRECISIONS",
    "SEPARATE",
    "Delivery",
    "check_precisions",
    "common_delivery",
    "delivery_of",
    "format_named",
    "format_of",
    "refusal",
    "register_format",
    "remark",
]

ENTRY_POINT_GROUP: Final = "bespoke.formats"
FORMATS: dict[str, Format] = {form.name: form for form in (OnnxFormat(), ArchiveFormat())}
"""The last one that holds the networks of a space is asked first; `onnx`, the first, serves what no other
claims."""


def register_format(form: Format) -> None:
    """Add a format to this process. Raises ValueError when another one has its name."""
    if FORMATS.setdefault(form.name, form) is not form:
        raise ValueError(f"a format named {form.name!r} exists already; give the new one another name")


def register_installed_formats() -> None:
    """Add what installed distributions name under `bespoke.formats`. Raises TypeError for what is no
    Format."""
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        form = entry.load()
        if not isinstance(form, Format):
            raise TypeError(f"entry point {entry.value!r} of group {ENTRY_POINT_GROUP} is not a Format")
        register_format(form)


def format_named(name: str) -> Format:
    """The format of that name. Raises UnservableContext that lists the known ones."""
    try:
        return FORMATS[name]
    except KeyError:
        raise UnservableContext(
            f"unknown format {name[:64]!r}; known are {', '.join(FORMATS)}; install the one that is missing"
        ) from None


def format_of(delivery: Delivery, space: Space) -> Format:
    """The format of files of that form for networks of a space; the first that holds them where the named one
    does not, as deliveries of before have it. Raises UnservableContext."""
    named = format_named(delivery.format)
    return named if named.holds(space) else _holding(space)[0]


def _holding(space: Space | None) -> list[Format]:
    """Formats of networks of a space; of all that run once for an input, where none is named."""
    return [
        form
        for form in FORMATS.values()
        if (form.name != ArchiveFormat.name if space is None else form.holds(space))
    ]


def _claimed(context: Context, space: Space | None = None) -> tuple[Format, Delivery]:
    """The format that the context is the business of, and the form of its files. Raises UnservableContext."""
    for form in reversed(_holding(space)):
        found = form.serves(context)
        if found is not None:
            return form, replace(found, format=form.name)
    raise UnservableContext(f"no format of files serves the runtime {context.runtime[:64]!r}")


def delivery_of(context: Context, space: Space | None = None) -> Delivery:
    """The form of files for that context, of networks of a space; None: whatever can be delivered there.
    Raises UnservableContext, with the reason, where none can be delivered."""
    return _claimed(context, space)[1]


def check_precisions(contexts: Sequence[Context], precisions: Sequence[str]) -> None:
    """Raises UnservableContext, with the reason, where files for these contexts cannot hold blocks of those
    precisions."""
    if contexts and any(one != FLOAT32 for one in precisions):
        form = common_delivery(contexts)
        format_named(form.format).check_int8(form)


def remark(context: Context) -> str | None:
    """What is to be checked before a file is used there; None where what the runtime opens is known, or where
    nothing can be delivered at all."""
    try:
        return _claimed(context)[0].remark(context)
    except UnservableContext:
        return None


def refusal(context: Context) -> str | None:
    """Why no file can be delivered for that context; None where one can."""
    try:
        delivery_of(context)
    except UnservableContext as error:
        return str(error)
    return None


def common_delivery(contexts: Sequence[Context], space: Space | None = None) -> Delivery:
    """The form that all these contexts open: one network of a space for several devices; without any, the
    usual one. Raises UnservableContext."""
    if not contexts:
        return Delivery(format=_holding(space)[0].name)
    found = [delivery_of(context, space) for context in contexts]
    if len({(one.format, one.precision, one.batch_size) for one in found}) > 1:
        told = ", ".join(sorted({f"{d.format} in {d.precision} with batch {d.batch_size}" for d in found}))
        raise UnservableContext(
            f"one file cannot serve devices of different formats, precision or batch size ({told}); search "
            "for each"
        )
    return replace(found[0], opset=min(d.opset for d in found), ir_version=min(d.ir_version for d in found))


register_installed_formats()
