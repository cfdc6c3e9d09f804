"""What `bespoke apply` reads: devices, supernets and searches in one YAML file, checked here and never by
the server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, ValidationError

from service.cli.yaml_lines import Fault, FileRefused, Lined, read_yaml
from service.schemas.devices import DeviceIn, ProfileIn
from service.schemas.searches import SearchIn, SupernetIn
from service.schemas.strict import Name, Short, Strict

_SUPERNET_ID: Final = re.compile(r"[a-z]{1,8}_[0-9a-f]{32}", re.ASCII)
_LISTS: Final = ("devices", "supernets", "searches")


class DeviceEntry(DeviceIn):
    """A device; table: a file beside this one; profile: what its agent is to measure."""

    table: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    unit: Literal["ms", "us", "ns", "s"] = "ms"
    profile: ProfileIn | None = None


class SupernetEntry(SupernetIn):
    """A supernet; name: what searches of this file call it."""

    name: Name


class SearchEntry(SearchIn):
    """A search; supernet: the name of one in this file, or the id of one that is there."""

    name: Short
    supernet: Annotated[str, Field(min_length=1, max_length=128)] | None = None


class JobsFile(Strict):
    """The whole file."""

    devices: Annotated[list[DeviceEntry], Field(max_length=200)] = Field(default_factory=list)
    supernets: Annotated[list[SupernetEntry], Field(max_length=200)] = Field(default_factory=list)
    searches: Annotated[list[SearchEntry], Field(max_length=200)] = Field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """A file that was read and found right. lined: to say in which line something stands."""

    path: Path
    wanted: JobsFile
    lined: Lined

    def place(self, kind: str, index: int) -> str:
        """`jobs.yaml:12`, where an entry begins."""
        return f"{self.path.name}:{self.lined.line_of((kind, index))}"

    def table_file(self, device: DeviceEntry) -> Path | None:
        return None if device.table is None else self.path.parent / device.table


def read_plan(path: Path) -> Plan:
    """Raises FileRefused that names every wrong line."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise FileRefused(path.name, [Fault(1, "the file is not text in UTF-8")]) from None
    lined = read_yaml(text, path.name)
    if not isinstance(lined.value, dict):
        raise FileRefused(path.name, [Fault(1, f"wanted are {', '.join(_LISTS)}, each with a list")])
    try:
        wanted = JobsFile.model_validate(lined.value)
    except ValidationError as error:
        raise FileRefused(path.name, [_fault(lined, one) for one in error.errors()]) from None
    plan = Plan(path, wanted, lined)
    faults = [*_twice(plan), *_nowhere(plan)]
    if faults:
        raise FileRefused(path.name, faults)
    return plan


def _fault(lined: Lined, error: Any) -> Fault:
    """One of pydantic's errors at its line; parts of its place that are no part of the file (names of
    unions) are left out.
    """
    path: tuple[str | int, ...] = ()
    for part in error["loc"]:
        if (*path, part) in lined.lines:
            path = (*path, part)
    where = ".".join(str(part) for part in path if isinstance(part, str))
    if error["type"] == "extra_forbidden":
        return Fault(
            lined.line_of(path),
            f"{path[-1] if path else error['loc'][-1]!r} is not a field that is known here",
        )
    if error["type"] == "missing":
        return Fault(lined.line_of(path), f"{where + ': ' if where else ''}{error['loc'][-1]!r} is missing")
    message = str(error["msg"]).removeprefix("Value error, ")
    return Fault(lined.line_of(path), f"{where}: {message}" if where else message)


def _twice(plan: Plan) -> list[Fault]:
    faults = []
    for kind in _LISTS:
        first: dict[str, int] = {}
        for index, entry in enumerate(getattr(plan.wanted, kind)):
            line = plan.lined.line_of((kind, index))
            if entry.name in first:
                faults.append(Fault(line, f"{kind}: {entry.name!r} is in line {first[entry.name]} already"))
            first.setdefault(entry.name, line)
    return faults


def _nowhere(plan: Plan) -> list[Fault]:
    """Supernets that a search names and that are not in the file, and tables that are no files."""
    faults, known = [], {entry.name for entry in plan.wanted.supernets}
    for index, search in enumerate(plan.wanted.searches):
        if (
            search.supernet is not None
            and search.supernet not in known
            and not _SUPERNET_ID.fullmatch(search.supernet)
        ):
            line = plan.lined.line_of(("searches", index, "supernet"))
            faults.append(
                Fault(line, f"no supernet of this file is called {search.supernet!r}, and it is no id of one")
            )
    for index, device in enumerate(plan.wanted.devices):
        file = plan.table_file(device)
        if file is not None and not file.exists():
            faults.append(
                Fault(plan.lined.line_of(("devices", index, "table")), f"{device.table} is not there")
            )
    return faults
