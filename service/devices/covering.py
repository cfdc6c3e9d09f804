"""What of the search spaces a latency table covers, what it lacks, and what one table covers that another
does not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from latency_tables.operators.operator import FLOAT
from latency_tables.table import LatencyTable
from supernets.delivery.precision import MIXED
from supernets.errors import NoTable
from supernets.spaces.lowering import all_operators, needed_operators
from supernets.spaces.space import Space

NAMED: Final = 5
Covered = Mapping[Space, Sequence[int]]


@dataclass(frozen=True)
class Lack:
    """What a table lacks of a space at one resolution. missing: canonical texts, sorted."""

    space: Space
    resolution: int
    needed: int
    missing: tuple[str, ...]

    def __str__(self) -> str:
        named, more = ", ".join(self.missing[:NAMED]), len(self.missing) - NAMED
        return (
            f"{of(self.space)} at {self.resolution} px lacks {len(self.missing)} of {self.needed} operators: "
            f"{named}" + (f" and {more} more" if more > 0 else "")
        )


def of(space: Space) -> str:
    """How a space is named where its number of classes matters, and its precisions where int8 is one; and
    that it may be pruned."""
    rounded = "" if space.precisions == (FLOAT,) else f" in {' or '.join(space.precisions)}"
    pruned = ", pruned" if space.pruned else ""
    return f"{space.name} with {space.classes} classes{rounded}{pruned}"


def _command(space: Space) -> str:
    """What measures the rows of a space."""
    if _usual(space):
        return "bespoke profile"
    asked = MIXED if len(space.precisions) > 1 else space.precisions[0]
    precision = "" if space.precisions == (FLOAT,) else f" --precision {asked}"
    return f"bespoke profile --space {space.name}{precision}{' --prune' if space.pruned else ''}"


def _usual(space: Space) -> bool:
    """Whether a profile measures its rows that is asked for nothing further."""
    return space.precisions == (FLOAT,) and not space.pruned


def lack_at(table: LatencyTable, space: Space, resolution: int) -> Lack:
    needed = needed_operators(space, resolution)
    missing = sorted(op.text for op in needed - table.rows.keys())
    return Lack(space, resolution, len(needed), tuple(missing))


def nearest_lack(table: LatencyTable, spaces: Iterable[Space]) -> Lack | None:
    """Where least is missing for a space that the table holds some of; None where it holds nothing of any, or
    all of one."""
    lacks = [lack_at(table, space, resolution) for space in spaces for resolution in space.resolutions]
    begun = [lack for lack in lacks if len(lack.missing) < lack.needed]
    found = min(begun, key=lambda lack: (len(lack.missing) / lack.needed, len(lack.missing)), default=None)
    return found if found is not None and found.missing else None


def lost(before: Covered, now: Covered) -> dict[Space, tuple[int, ...]]:
    """Resolutions that are not covered any more, by space."""
    found = {space: tuple(r for r in sizes if r not in now.get(space, ())) for space, sizes in before.items()}
    return {space: sizes for space, sizes in found.items() if sizes}


def pixels(resolutions: Sequence[int]) -> str:
    """`8, 12 and 16 px`; long lists are cut."""
    shown = [str(r) for r in resolutions[:6]]
    if len(resolutions) > len(shown):
        return f"{', '.join(shown)}, ... ({len(resolutions)} resolutions) px"
    return (" and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]) + " px"


def no_table(space: Space, table: LatencyTable | None = None) -> NoTable:
    """What to say where no table of a device holds every operator of any resolution of a space; `table` is
    the one in use."""
    nearest = None if table is None else nearest_lack(table, [space])
    if nearest is not None:
        return NoTable(
            f"no latency table of the device covers {space.name} at any resolution. Nearest: {nearest}. "
            f"Measure them (`{_command(space)}`, or POST /v1/devices/{{name}}/profiles) or add them "
            "to the table (`bespoke tables import --add`); what needs them can be left out too "
            "(`--exclude-missing`, or `missing: exclude` of a target)",
            nearest.missing,
        )
    needed = all_operators(space, space.resolutions[0])
    missing = () if _usual(space) else tuple(op.text for op in needed)
    named = f" ({', '.join(missing[:NAMED])} and {len(missing) - NAMED} more)" if missing else ""
    return NoTable(
        f"no latency table of the device holds any of the {len(needed)} operators of {of(space)}{named}; "
        f"measure them (`{_command(space)}`, or POST /v1/devices/{{name}}/profiles) or register a table",
        missing,
    )
