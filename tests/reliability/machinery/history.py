"""What happened, checked against what must be: nothing acknowledged is lost, nothing ends twice, no byte is
wrong."""

from __future__ import annotations

import hashlib
import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from service.db.models import Artifact, Job, JobEvent
from service.db.states import JobState
from service.errors import ArtifactCorrupt, ArtifactMissing
from tests.reliability.machinery.lab import Lab
from tests.reliability.machinery.stub_worker import payload


@dataclass(frozen=True)
class History:
    """Verdict over one laboratory. All lists are empty when the product keeps its promise."""

    acknowledged: int
    lost: list[str]  # acknowledged, and without a good end
    finished_twice: list[str]
    damaged: list[str]  # files or results that are not what they must be
    findings: list[str]  # of the doctor
    rerun_steps: int
    step_starts: int
    crashes_seen: int
    recovery_s: list[float] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.finished_twice or self.damaged or self.findings)


def check(
    lab: Lab, acknowledged: Mapping[str, dict[str, Any]], kills: Sequence[tuple[float, int]] = ()
) -> History:
    """Read the whole history. acknowledged: job id -> its request. kills: (monotonic time, process id)."""
    with lab.sessions() as session:
        jobs = {row.id: row for row in session.scalars(select(Job))}
        events = list(session.scalars(select(JobEvent).order_by(JobEvent.job_id, JobEvent.sequence)))
        files = set(session.scalars(select(Artifact.sha256)))
    starts = journal(lab)
    return History(
        acknowledged=len(acknowledged),
        lost=[job for job in acknowledged if job not in jobs or jobs[job].state != JobState.SUCCEEDED],
        finished_twice=_twice(events),
        damaged=_damaged(lab, jobs, acknowledged, files),
        findings=[str(found) for found in lab.examine()],
        rerun_steps=len(starts) - len({(s["job"], s["step"]) for s in starts}),
        step_starts=len(starts),
        crashes_seen=sum(event.kind == "crashed" for event in events),
        recovery_s=_recoveries(starts, kills),
    )


def journal(lab: Lab) -> list[dict[str, Any]]:
    """Every start of a step, as the workers wrote it; a line cut by a kill is not a line."""
    if not lab.journal.exists():
        return []
    lines = lab.journal.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines if line.endswith(b"}")]


def _twice(events: Collection[JobEvent]) -> list[str]:
    ended = Counter(
        event.job_id
        for event in events
        if event.kind in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)
    )
    return [job for job, times in ended.items() if times > 1]


def _damaged(
    lab: Lab, jobs: Mapping[str, Job], requests: Mapping[str, dict[str, Any]], files: Collection[str]
) -> list[str]:
    wrong = []
    for sha256 in files:
        try:
            lab.store.verify(sha256)
        except (ArtifactMissing, ArtifactCorrupt) as error:
            wrong.append(str(error))
    for job, request in requests.items():
        result = jobs[job].result if job in jobs else None
        if result is None:
            continue
        steps = range(1, int(request.get("steps", 4)) + 1)
        expected = [hashlib.sha256(payload(request["seed"], number)).hexdigest() for number in steps]
        if result["files"] != expected:
            wrong.append(f"{job} has another result than a run without kills")
    return wrong


def _recoveries(starts: Collection[dict[str, Any]], kills: Sequence[tuple[float, int]]) -> list[float]:
    """For every job that a kill interrupted: seconds until another process went on with it."""
    by_job: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for start in sorted(starts, key=lambda s: s["at"]):
        by_job[start["job"]].append(start)
    found = []
    for at, pid in kills:
        for steps in by_job.values():
            for before, after in zip(steps, steps[1:], strict=False):
                if before["pid"] == pid and after["pid"] != pid and before["at"] <= at <= after["at"]:
                    found.append(after["at"] - at)
    return found


def quantiles(seconds: Sequence[float]) -> dict[str, float]:
    """Median and worst, in seconds."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    p95 = ordered[int(0.95 * (len(ordered) - 1))]
    return {
        "median": round(statistics.median(ordered), 3),
        "p95": round(p95, 3),
        "worst": round(ordered[-1], 3),
    }
