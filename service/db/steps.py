"""Queries about remembered steps: what any job has computed, by the hash of its inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from service.db.models import StepResult


def remembered(session: Session, digests: Sequence[str]) -> dict[str, object]:
    """Digest -> result, for those of the steps that some job has done."""
    query = select(StepResult.digest, StepResult.result).where(StepResult.digest.in_(digests))
    return {digest: result for digest, result in session.execute(query)}  # noqa: C416 (rows are no pairs to mypy)


def keep(session: Session, name: str, results: Mapping[str, object]) -> None:
    """Remember results by the digest of their inputs; they replace those that a version could not read.

    Raises Conflict at the commit where another job stored the same step at the same moment.
    """
    for digest, result in results.items():
        session.merge(StepResult(digest=digest, step=name, result=result))
