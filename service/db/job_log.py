"""What a job's worker and its child said: the last lines of each job, in order."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from service.db.models import LogLine

KEPT: Final = 2000  # lines of a job
LONGEST: Final = 2000  # characters of a line
_SLACK: Final = 200  # lines beyond KEPT before the oldest are deleted
_SECRETS: Final = re.compile(
    r"bespoke_[a-z]+_[\w-]{8,}"  # our keys and tokens
    r"|(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"  # user and password of an address
    r"|(?i:(?<=bearer )[\w.~+/-]{8,}=*)"
)


def readable(text: str) -> str:
    """A line as it may be kept: printable, bounded, without anything that looks like a secret."""
    printable = "".join(c if c.isprintable() or c == "\t" else "\ufffd" for c in text.rstrip()[: LONGEST * 2])
    return _SECRETS.sub("[secret]", printable)[:LONGEST]


def append(session: Session, job_id: str, step: str, source: str, lines: Sequence[str]) -> None:
    """Add lines; what is older than the last 2,000 or so is forgotten."""
    kept = [readable(line) for line in lines[-KEPT:]]
    session.add_all([LogLine(job_id=job_id, step=step[:64], source=source[:16], text=text) for text in kept])
    session.flush()
    newest = select(LogLine.position).where(LogLine.job_id == job_id).order_by(LogLine.position.desc())
    if session.scalar(newest.offset(KEPT + _SLACK).limit(1)) is not None:
        least = session.scalar(newest.offset(KEPT - 1).limit(1))
        session.execute(delete(LogLine).where(LogLine.job_id == job_id, LogLine.position < least))


def listed(session: Session, job_id: str, after: int, limit: int) -> Sequence[LogLine]:
    """Lines behind a position, in order; of the last 2,000 alone."""
    oldest = (
        select(LogLine.position)
        .where(LogLine.job_id == job_id)
        .order_by(LogLine.position.desc())
        .offset(KEPT - 1)
        .limit(1)
    )
    first = session.scalar(oldest) or 0
    wanted = select(LogLine).where(
        LogLine.job_id == job_id, LogLine.position > after, LogLine.position >= first
    )
    return session.scalars(wanted.order_by(LogLine.position).limit(limit)).all()
