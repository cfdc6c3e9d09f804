"""The agent's work: enrol or resume, ask for tasks, measure a group, keep the results, post them, again.

Results are on disk before they are posted and leave the disk when the service has acknowledged them, so the
agent may be killed or cut off anywhere: it goes on at the first task that is not answered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from latency_tables.agent import environment as device
from latency_tables.agent.client import Client
from latency_tables.agent.errors import (
    AgentError,
    BusyDevice,
    DeviceChanged,
    MeasuringFailed,
    Refused,
    SessionClosed,
    StaleTask,
    UnknownField,
)
from latency_tables.agent.graph import check_network
from latency_tables.agent.protocol import (
    Conditions,
    File,
    Plan,
    Task,
    answer_of,
    failure_of,
    named,
    of_first_version,
)
from latency_tables.agent.runner import Job, Limits, Network, measure_in_child
from latency_tables.agent.runtimes.probe import Found, found
from latency_tables.agent.runtimes.setup import Setup
from latency_tables.agent.state import State, StateFolder
from latency_tables.measuring.profiling import Reading, Settings

PLAN_LIMIT: Final = 500
POST_ITEMS: Final = 100
ALIVE_S: Final = 10.0
SENTINEL: Final = "sentinel"
SENTINEL_COPIES: Final = 4  # besides the first
ALONE_TRIES: Final = 3
"""How often a network that fails is tried alone: twice beside the sentinel, then without, for the sentinel
may be what fails."""
RETRY_S: Final = 2.0  # a neighbour that took the memory may be gone by then

Measure = Callable[[Job, Callable[[float], None]], dict[str, Reading]]


@dataclass(frozen=True)
class Options:
    """How the agent works. group, group_mib: networks measured together in one session, by number and by size
    of their files.

    A session holds as many as memory takes, so that a spell of the machine hits all rows of a table alike.
    most_load: runnable processes for each core above which the agent does not start; None: it starts anyway.
    """

    setup: Setup = field(default_factory=Setup)
    group: int = 400
    group_mib: int = Limits.memory_mib // 4  # a runtime holds weights twice, packed and as they came
    seed: int = 0
    settings: Settings = field(default_factory=Settings)
    limits: Limits = field(default_factory=Limits)
    most_load: float | None = None


class Agent:
    """One enrolled agent. Single-threaded; its state folder belongs to it alone."""

    def __init__(
        self,
        client: Client,
        folder: StateFolder,
        options: Options,
        report: Callable[[str], None] = lambda line: None,
        measure: Measure = measure_in_child,
        see: Callable[[int], dict[str, Any]] = device.environment,
        sleep: Callable[[float], None] = time.sleep,
        find: Callable[[Setup], Found] = found,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client, self._folder, self._options, self._report = client, folder, options, report
        self._measure, self._see, self._sleep, self._now = measure, see, sleep, now
        self._find = find
        self._found: Found | None = None
        self._failed: dict[str, str] = {}
        self._unusable_sentinels: set[str] = set()
        self._old_service = False
        self._answered, self._busy_s, self._alive_at = 0, 0.0, 0.0
        self._state: State | None = None

    def start(self, server: str, token: str | None) -> State:
        """Resume the session in the state folder, or enrol with a one-time token.

        Raises BusyDevice or UnusableRuntime, with the token unspent.
        """
        state = self._folder.load()
        if state is not None and state.server != server:
            raise AgentError(
                f"this state folder belongs to {state.server}; name another one with --state-dir"
            )
        self._found = self._find(self._options.setup)
        if state is None:
            state = self._enrol(server, token, self._found)
        else:
            self._check_load()
        self._client.agent_key, self._state = state.agent_key, state
        self._check_device()
        return state

    def _enrol(self, server: str, token: str | None, runtime: Found) -> State:
        if token is None:
            raise AgentError(
                "a new agent needs --token; ask the service for one (POST /v1/devices/NAME/enrolments)"
            )
        self._check_load()
        seen = self._see(self._options.setup.threads)
        environment = {
            **seen,
            "fingerprint": device.fingerprint(seen),
            "nodes_by_provider": dict(runtime.nodes),
        }
        enrolment = self._client.enrol(token, runtime.context.as_dict(), environment)
        state = State(
            server=server,
            device=enrolment.device,
            session_id=enrolment.session_id,
            agent_key=enrolment.agent_key,
            fingerprint=device.fingerprint(seen),
            expires_at=enrolment.expires_at,
        )
        self._folder.save(state)
        return state

    def run(self, once: bool = False) -> int:
        """Answer tasks; with `once` until there are none, else for ever. Returns how many tasks were
        answered."""
        state = self._session()
        try:
            while True:
                self._post_pending()
                plan = self._client.plan(PLAN_LIMIT)
                tasks = [task for task in plan.tasks if task.id not in self._failed]
                if tasks:
                    self._check_session(plan)
                    self._work(plan, self._next_group(tasks))
                elif once:
                    return self._finish()
                else:
                    self._sleep(min(60.0, max(0.2, plan.poll_s)))
        except SessionClosed:
            self._folder.forget()
            self._folder.drop_files()
            self._report(f"session {state.session_id} is closed")
            raise

    def _finish(self) -> int:
        if self._failed:
            raise MeasuringFailed(
                f"{len(self._failed)} network(s) could not be measured on this device; "
                f"{next(iter(self._failed.values()))}"
            )
        self._folder.drop_files()
        return self._answered

    def _session(self) -> State:
        if self._state is None:
            raise AgentError("start the agent first")
        return self._state

    def _check_session(self, plan: Plan) -> None:
        if plan.session_id != self._session().session_id:
            raise SessionClosed("the service has begun another session; ask for a new enrolment token")

        named = plan.context
        if self._found is not None and named is not None and named != self._found.context.as_dict():
            mine = self._found.context.as_dict()
            differing = "; ".join(
                f"{k}: {named.get(k)} there, {mine[k]} here" for k in mine if named.get(k) != mine[k]
            )
            raise DeviceChanged(
                f"this session measures in another context ({differing}); start the agent with the options "
                "it was enrolled with"
            )

    def _check_device(self) -> None:
        if device.fingerprint(self._see(self._options.setup.threads)) != self._session().fingerprint:
            raise DeviceChanged(
                "processor, governor, affinity, threads or versions changed since the session began; "
                "undo the change, or enrol again with a new token"
            )

    def _check_load(self) -> None:
        load, most = self._load(), self._options.most_load
        if most is not None and load > most:
            raise BusyDevice(
                f"this device is too busy to be measured: {load:.1f} runnable processes a core over the "
                "last minute, at most "
                f"{most:.1f} are accepted; stop other programs and start the agent again, or leave "
                "--max-load out"
            )

    def _load(self) -> float:
        """Runnable processes a core, this one among them; 0 where the system does not tell."""
        return float(self._see(self._options.setup.threads).get("load") or 0.0)

    def _next_group(self, tasks: Sequence[Task]) -> list[Task]:
        """The first tasks that fit together into memory, operators and whole networks alike.

        An untimed call goes before the timed ones of every visit, so that a network finds the caches as it
        would alone.
        """
        memory_mib = self._see(self._options.setup.threads).get("memory_mib") or 0
        most = min(self._options.group_mib, memory_mib // 8 or self._options.group_mib) * 2**20
        group: list[Task] = []
        size = 0
        for task in tasks:
            size += task.file.size_bytes
            if group and (len(group) >= self._options.group or size > most):
                break
            # At least one: a file larger than memory allows must fail by itself, not wait for ever.
            group.append(task)
        return group

    def _work(self, plan: Plan, group: Sequence[Task], tries: int = ALONE_TRIES) -> None:
        """Measure a group and post its results; a group that fails is halved until the network at fault is
        found. That one is tried `tries` times alone; then the service is told, so that its job does not wait
        for it."""
        asked = self._now()
        sentinel = self._sentinel(plan) if tries > 1 else None
        for file in (*(task.file for task in group), *([sentinel] if sentinel else [])):
            self._fetch(file)
        started, load = self._now(), self._load()
        try:
            readings = self._measure(self._job(sentinel, group), self._progress(plan, group, started))
        except MeasuringFailed as error:
            if len(group) == 1 and tries > 1:
                self._report(f"{named(group[0])} failed ({error}); trying it once more")
                self._sleep(RETRY_S)
                self._work(plan, group, tries - 1)
                return
            if len(group) == 1:
                self._give_up(group[0], str(error))
                return
            self._report(f"{len(group)} networks together failed ({error}); trying halves")
            self._work(plan, group[: len(group) // 2])
            self._work(plan, group[len(group) // 2 :])
            return
        if tries == 1 and (unusable := self._sentinel(plan)) is not None:
            self._unusable_sentinels.add(unusable.sha256)
            self._report("the network that others are watched by cannot be measured here; going on without")
        ended = self._now()
        self._busy_s += ended - started
        self._answered += len(group)
        self._check_device()
        if sentinel is not None:
            self._know(sentinel, readings[SENTINEL])
        conditions = Conditions(
            group=self._session().sequence,
            load=max(load, self._load()),
            watched=sentinel is not None,
            reference_ms=self._session().reference_ms,
            transfer_s=started - asked,
            measuring_s=ended - started,
        )
        self._keep(group, readings, conditions)
        self._post_pending()
        self._folder.drop_files(frozenset({sentinel.sha256} if sentinel else ()))

    def _give_up(self, task: Task, reason: str) -> None:
        """Tell people and the service that this device cannot run a task's network."""
        self._failed[task.id] = f"{named(task)}: {reason}"
        self._report(f"{named(task)} cannot be measured: {reason}")
        self._post_later({"items": [], "failures": [failure_of(task, reason)]})
        self._post_pending()

    def _sentinel(self, plan: Plan) -> File | None:
        """The plan's sentinel; where it has none (a delivered network is verified), the one that is known
        already. None where this device cannot run it."""
        sentinel, known = plan.sentinel, self._session().sentinel
        if sentinel is None and known is not None and self._folder.has_file(known["sha256"]):
            sentinel = File(known["sha256"], known["size_bytes"])
        return None if sentinel is None or sentinel.sha256 in self._unusable_sentinels else sentinel

    def _know(self, sentinel: File, reading: Reading) -> None:
        """Remember the fastest that the sentinel was ever seen: so fast the device is when nobody disturbs
        it."""
        state, own = self._session(), {"sha256": sentinel.sha256, "size_bytes": sentinel.size_bytes}
        known = state.reference_ms if state.sentinel == own else None
        state.sentinel, state.reference_ms = own, min(known or reading.sentinel_ms, reading.sentinel_ms)

    def _fetch(self, file: File) -> None:
        """Download, verify, check, store; what is stored already was checked when it came."""
        if self._folder.has_file(file.sha256):
            return
        data = self._client.download(file)
        check_network(data)
        self._folder.keep_file(file.sha256, data)

    def _job(self, sentinel: File | None, group: Sequence[Task]) -> Job:
        networks = {task.id: Network(self._folder.file(task.file.sha256), task.inputs) for task in group}
        if sentinel is not None:
            networks = {SENTINEL: Network(self._folder.file(sentinel.sha256)), **networks}
        return Job(
            networks=networks,
            sentinel=SENTINEL if sentinel else None,
            reference_ms=self._reference_ms(sentinel),
            copies=SENTINEL_COPIES if sentinel else 0,
            setup=self._found.setup if self._found else self._options.setup,
            seed=self._options.seed + self._session().sequence,
            settings=self._options.settings,
            limits=self._options.limits,
        )

    def _reference_ms(self, sentinel: File | None) -> float | None:
        known = self._session().sentinel
        same = sentinel is not None and known is not None and known["sha256"] == sentinel.sha256
        return self._session().reference_ms if same else None

    def _keep(self, group: Sequence[Task], readings: Mapping[str, Reading], conditions: Conditions) -> None:
        """Results to disk, as the bodies that will be posted."""
        for at in range(0, len(group), POST_ITEMS):
            some = group[at : at + POST_ITEMS]
            self._post_later({"items": [answer_of(task, readings[task.id], conditions) for task in some]})

    def _post_later(self, told: Mapping[str, Any]) -> None:
        """To disk, as the next body that will be posted."""
        state = self._session()
        session = {"session_id": state.session_id, "sequence": state.sequence}
        state.pending.append({**session, "fingerprint": state.fingerprint, **told})
        state.sequence += 1
        self._folder.save(state)

    def _post_pending(self) -> None:
        state = self._session()
        while state.pending:
            body = of_first_version(state.pending[0]) if self._old_service else state.pending[0]
            try:
                # An older service takes no word of networks that cannot be measured.
                if body["items"] or body.get("failures"):
                    self._client.post(body)
            except StaleTask:
                self._report("these tasks were issued anew or withdrawn meanwhile; asking again")
            except UnknownField as error:
                if body["items"] and self._old_service:
                    raise
                if body["items"]:
                    self._old_service = True
                    self._report(
                        f"this service is older than the agent ({error}); posting medians and quartiles "
                        "alone. Update the service"
                    )
                    continue
            except Refused as error:
                self._report(f"the service refused results: {error}")
                raise
            self._posted()

    def _posted(self) -> None:
        """The first body need not be posted any more."""
        self._session().pending.pop(0)
        self._folder.save(self._session())

    def _progress(self, plan: Plan, group: Sequence[Task], started: float) -> Callable[[float], None]:
        """Lines with percent and time left, at most one in two seconds; and signs of life."""
        total = self._answered + max(plan.remaining, len(group))
        last = started

        def tell(fraction: float) -> None:
            nonlocal last
            now = self._now()
            if now - self._alive_at > ALIVE_S:
                self._alive_at = now
                self._client.alive()
            if now - last < 2 and fraction < 1:
                return
            last = now
            done = self._answered + fraction * len(group)
            spent = self._busy_s + now - started
            left = spent / done * (total - done) if done else 0.0
            self._report(f"measured {int(done)} of {total} ({done / total:.0%}), about {left:.0f} s left")

        return tell
