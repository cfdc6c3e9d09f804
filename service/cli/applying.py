"""Bringing a service to what a jobs file says: what is there already stays, what is missing is made, nothing
is removed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from latency_tables.errors import BespokeError
from latency_tables.formats import csv_rows
from latency_tables.formats.native_json import context_from
from service.cli.jobs_file import DeviceEntry, Plan, SearchEntry, SupernetEntry
from service.cli.table_files import read_tables, table_files
from service.client import ApiProblem, BespokeClient, Job
from service.schemas.devices import ProfileIn
from supernets.delivery.precision import ASKED, FLOAT32
from supernets.errors import InvalidArchitecture, UnknownSpace
from supernets.spaces.catalog import space_named

MARK: Final = "applied"  # in the note of a job, with the digest of what it was made from
UNCHANGED: Final = "unchanged"
_RECENT: Final = 20  # jobs that an estimate rests on
_BAD_ENDS: Final = ("failed", "cancelled", "quarantined")


class NotApplied(BespokeError):
    """An entry of the file that the service cannot be brought to; what stands before it in the file was
    done.
    """


@dataclass
class Line:
    """What was done for one entry, or would be. seconds: what it will take, from what such jobs took here;
    None: not known.
    """

    kind: str
    name: str
    action: str
    detail: str = ""
    id: str | None = None
    seconds: float | None = None
    wrong: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class Applying:
    """One pass over a plan. follow: how a job is waited for (not in a dry run)."""

    service: BespokeClient
    plan: Plan
    dry: bool
    again: bool
    follow: Callable[[Job, str], Job]
    supernets: dict[str, str] = field(default_factory=dict)  # name in the file -> id, where there is one
    profiles: dict[str, Job] = field(default_factory=dict)  # device -> its job, which searches wait for

    def run(self) -> Iterator[Line]:
        """Do it, in the order of devices, supernets, searches. Raises NotApplied, ApiProblem."""
        for index, device in enumerate(self.plan.wanted.devices):
            yield from self._device(device, self.plan.place("devices", index))
        for supernet in self.plan.wanted.supernets:
            yield self._supernet(supernet)
        for index, search in enumerate(self.plan.wanted.searches):
            yield self._search(search, self.plan.place("searches", index))

    # -- devices -----------------------------------------------------------------------------------

    def _device(self, wanted: DeviceEntry, place: str) -> Iterator[Line]:
        found = _or_none(lambda: self.service.device(wanted.name))
        context = wanted.context.model_dump()
        if found is None:
            if not self.dry:
                self.service.add_device(wanted.name, context, wanted.description)
            yield Line("device", wanted.name, "register")
        elif found["context"] != context:
            differs = ", ".join(
                f"{key} {found['context'].get(key)}"
                for key in context
                if found["context"].get(key) != context[key]
            )
            raise NotApplied(
                f"{place}: {wanted.name} is registered with {differs}; latencies of two contexts never mix: "
                "name another device"
            )
        elif found["description"] != wanted.description:
            if not self.dry:
                self.service.describe_device(wanted.name, wanted.description)
            yield Line("device", wanted.name, "describe")
        else:
            yield Line("device", wanted.name, UNCHANGED)
        file = self.plan.table_file(wanted)
        if file is not None:
            yield self._table(wanted, file, found)
        if wanted.profile is not None:
            yield self._profile(wanted, wanted.profile, found)

    def _table(self, wanted: DeviceEntry, file: Path, found: dict[str, Any] | None) -> Line:
        notes: list[str] = []
        table = read_tables(
            table_files([file]), context_from(wanted.context.model_dump()), wanted.unit, notes.append
        )
        used = next((t for t in (found or {}).get("tables", []) if t["in_use"]), None)
        if used is not None and used["digest"] == table.digest:
            return Line(
                "table", wanted.name, UNCHANGED, f"version {used['version']} has these rows", used["id"]
            )
        detail = "; ".join([f"{len(table.rows)} rows of {wanted.table}", *notes])
        if self.dry:
            return Line("table", wanted.name, "import", detail)
        made = self.service.upload_table(wanted.name, csv_rows.write(table), "text/csv")
        return Line(
            "table",
            wanted.name,
            "import",
            f"{detail}; {made['explanation']}",
            made["id"],
            wrong=not made["in_use"],
        )

    def _profile(self, wanted: DeviceEntry, asked: ProfileIn, found: dict[str, Any] | None) -> Line:
        space = _named(asked)
        coverage = (found or {}).get("coverage", [])
        if any(covered["space"] == space and _covers(covered, asked) for covered in coverage):
            return Line("profile", wanted.name, UNCHANGED, f"its table covers {space}")
        rows, seconds = len(self.service.operators(asked.space)), self._as_before("profile", f'"{space}"')
        agent = (found or {}).get("agent") or {}
        missing = (
            "" if agent.get("present") else f"; no agent is there: `bespoke devices enrol {wanted.name}`"
        )
        detail = f"up to {rows} operators and {asked.networks} whole networks of {space}{missing}"
        if self.dry:
            return Line("profile", wanted.name, "measure", detail, seconds=seconds)
        key = _digest("profile", wanted.name, asked.model_dump(), (found or {}).get("table_id"))
        job = self.service.profile_as(wanted.name, asked.model_dump(exclude_none=True), key)
        self.profiles[wanted.name] = job
        return Line("profile", wanted.name, "measure", detail, job.id, seconds)

    # -- supernets ---------------------------------------------------------------------------------

    def _supernet(self, wanted: SupernetEntry) -> Line:
        inputs = wanted.model_dump(exclude={"name"})
        # What the service takes where nothing is said, so that what is there is known again.
        inputs["recipe"] = wanted.recipe or ("standard" if wanted.parent is None else "transfer")
        same = [s for s in self.service.supernets() if all(s[key] == inputs[key] for key in inputs)]
        detail = f"{wanted.space} on {wanted.dataset}, recipe {inputs['recipe']}, seed {wanted.seed}"
        for state in ("ready", "training", "waiting"):
            found = next((s for s in same if s["state"] == state), None)
            if found is not None:
                self.supernets[wanted.name] = found["id"]
                return Line("supernet", wanted.name, UNCHANGED, f"{detail}: {state}", found["id"])
        seconds = self._as_before("supernet", wanted.space)
        if self.dry:
            return Line("supernet", wanted.name, "train", detail, seconds=seconds)
        job = self.service.train_supernet(wanted.space, wanted.dataset, wanted.recipe, wanted.seed)
        self.supernets[wanted.name] = str(self.service.job_request(job.id)["request"]["supernet_id"])
        return Line("supernet", wanted.name, "train", detail, job.id, seconds)

    # -- searches ----------------------------------------------------------------------------------

    def _search(self, wanted: SearchEntry, place: str) -> Line:
        digest = self._digest_of(wanted)
        earlier = next(iter(self.service.jobs(kind="search", text=f"{MARK} {digest[:16]}", limit=1)), None)
        if earlier is not None and not (self.again and earlier.state in _BAD_ENDS):
            if earlier.state in _BAD_ENDS:
                detail = f"it ended {earlier.state} before; change it, or queue it once more with --again"
                return Line("search", wanted.name, UNCHANGED, detail, earlier.id, wrong=True)
            return Line("search", wanted.name, UNCHANGED, f"its job is {earlier.state}", earlier.id)
        request = wanted.model_dump(exclude={"name", "supernet"}, exclude_none=True)
        source = (
            wanted.supernet
            if wanted.supernet is None
            else self.supernets.get(wanted.supernet, wanted.supernet)
        )
        seconds = self._as_before("search", source)
        if self.dry:
            detail, wrong = self._forecast(wanted, source)
            return Line("search", wanted.name, "search", detail, seconds=seconds, wrong=wrong)
        for device in {member.device for target in wanted.targets for member in target.members()} & set(
            self.profiles
        ):
            self.follow(self.profiles.pop(device), f"profile {device}")  # a search needs its table
        key = f"{MARK}-{digest}" + (f"-after-{earlier.id}" if earlier is not None else "")
        try:
            job = self.service.search({**request, **({} if source is None else {"supernet": source})}, key)
        except ApiProblem as problem:
            raise NotApplied(f"{place}: search {wanted.name}: {problem}") from None
        self.service.name_job(job.id, name=wanted.name, note=f"{MARK} {digest[:16]}")
        return Line("search", wanted.name, "search", f"{len(wanted.targets)} target(s)", job.id, seconds)

    def _digest_of(self, wanted: SearchEntry) -> str:
        """Of all that a search rests on in the file: its own entry, its supernet's inputs, the tables of its
        devices.
        """
        named = {entry.name: entry for entry in self.plan.wanted.supernets}
        supernet = (
            named[wanted.supernet].model_dump(exclude={"name"})
            if wanted.supernet in named
            else wanted.supernet
        )
        names = {member.device for target in wanted.targets for member in target.members()}
        files = [self.plan.table_file(d) for d in self.plan.wanted.devices if d.name in names]
        tables = [
            hashlib.sha256(file.read_bytes()).hexdigest()
            for file in files
            if file is not None and file.is_file()
        ]
        return _digest(wanted.model_dump(exclude={"name", "supernet"}), supernet, tables)

    def _forecast(self, wanted: SearchEntry, supernet: str | None) -> tuple[str, bool]:
        """What each target can be expected to give, and whether one cannot be had at all."""
        told, wrong = [], False
        for member in (member for target in wanted.targets for member in target.members()):
            budget = member.budget.fastest_ms or 0.0
            front = None if supernet is None else self._front(supernet, member.device)
            if front is None:
                told.append(f"{member.device}: known once its table and the supernet are there")
                continue
            held = front["upper_ms"] or front["latency_ms"]
            kept = [a for latency, a in zip(held, front["accuracy"], strict=True) if latency <= budget]
            wrong = wrong or not kept
            least = f"cannot keep {budget:g} ms: from {front['reachable_ms']['min']:.4g} ms on"
            best = f"{100 * max(kept):.2f} % predicted within {budget:g} ms" if kept else least
            told.append(f"{member.device}: {best}")
        return "; ".join(told) or "limits alone, no device", wrong

    def _front(self, supernet: str, device: str) -> dict[str, Any] | None:
        return _or_none(lambda: self.service.front_columns(supernet, device))

    def _as_before(self, kind: str, text: str | None) -> float | None:
        """The longest of such jobs that succeeded here lately, in seconds; None where there is none."""
        jobs = self.service.jobs(state="succeeded", kind=kind, limit=_RECENT, text=text)
        return max((took for job in jobs if (took := seconds_of(job)) is not None), default=None)


def seconds_of(job: Job) -> float | None:
    """How long a job ran."""
    started, ended = job.raw.get("started_at"), job.raw.get("ended_at")
    return (
        None
        if not started or not ended
        else (datetime.fromisoformat(ended) - datetime.fromisoformat(started)).total_seconds()
    )


def _named(asked: ProfileIn) -> str:
    """The space as coverage names it: a sentence is part of the name."""
    if asked.generation is None:
        return asked.space
    try:
        return space_named(asked.space).generating(asked.generation.model_dump()).name
    except (UnknownSpace, InvalidArchitecture):  # the service says what is wrong with it
        return asked.space


def _covers(covered: dict[str, Any], asked: ProfileIn) -> bool:
    """Whether a table holds all rows that a profile would measure."""
    wanted: set[str] = set(asked.precisions) if asked.precisions else {FLOAT32}
    kind = next(name for name, theirs in ASKED.items() if set(theirs) == wanted)
    if asked.prune and kind != FLOAT32:
        return False  # coverage tells of pruned blocks in float32 alone; who has all measures nothing again
    sizes = covered["resolutions"] if kind == FLOAT32 else covered.get("precisions", {}).get(kind)
    sizes = covered.get("pruned") if asked.prune else sizes
    return set(asked.resolutions or covered["of"]) <= set(sizes or [])


def _digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _or_none(ask: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """What is there; None for 404, and for what cannot be answered yet (422)."""
    try:
        return ask()
    except ApiProblem as problem:
        if problem.status in (404, 422):
            return None
        raise
