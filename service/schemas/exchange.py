"""A device as one file: context, every version of its latency table, the whole networks measured on it."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import Field, StringConstraints

from service.schemas.devices import ContextIn, Count
from service.schemas.strict import JsonObject, Line, MeasuredIn, Name, Sha256, Strict

MOST: Final = 1_000_000  # the size of the file is what is limited: BESPOKE_MAX_TABLE_BYTES

Finite = Annotated[float, Field(ge=-1e9, le=1e9)]
Share = Annotated[float, Field(ge=0, le=1e9)]
Resolution = Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,4}$")]


class SessionsIn(Strict):
    """`Sessions.to_json`."""

    count: Annotated[int, Field(ge=0, le=10**6)]
    spread: Share
    degrees: Annotated[int, Field(ge=1, le=10**6)]
    share: Annotated[float, Field(ge=0, le=1)]


class CalibrationIn(Strict):
    """What goes with a transferred table: `Calibration.to_json`."""

    intercept_ms: Finite
    slope: Annotated[float, Field(gt=0, le=1e9)]
    lines: Annotated[
        dict[Resolution, Annotated[list[Finite], Field(min_length=2, max_length=2)]], Field(max_length=64)
    ]
    networks: Annotated[int, Field(ge=0, le=10**6)]
    error: Share | None
    worst: Share | None
    ratios: Annotated[list[Annotated[float, Field(gt=0, le=1e9)]], Field(max_length=10**6)]
    transferred: bool = True
    sessions: SessionsIn | None = None


class TableInFile(Strict):
    """One version of the table. rows: as in a latency profile. calibration: of a transferred table alone."""

    digest: Sha256
    source: Literal["upload", "agent", "transfer"]
    state: Literal["ready", "needs_review"]
    calibration: CalibrationIn | None = None
    rows: Annotated[list[Any], Field(min_length=1, max_length=1_000_000)]


class NetworkInFile(MeasuredIn):
    """A whole network as it was measured. together: networks of one number were measured in one session."""

    space: Name
    classes: Count
    architecture: JsonObject
    together: Annotated[int, Field(ge=0, le=10**6)] | None = None


class DeviceFile(Strict):
    """The file. tables, networks: the oldest first, every one. sha256: of everything else as canonical
    JSON."""

    format: Literal["bespoke-device"]
    version: Literal[1]
    name: Name
    description: Line
    context: ContextIn
    tables: Annotated[list[TableInFile], Field(max_length=MOST)]
    networks: Annotated[list[NetworkInFile], Field(max_length=MOST)]
    sha256: Sha256
