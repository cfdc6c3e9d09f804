"""What a worker tidies up every hour: records and checkpoints of what ended long ago, files that no row
names."""

from __future__ import annotations

import shutil
from datetime import timedelta
from pathlib import Path
from typing import Final

from dbos import DBOSClient

from service.artifacts import ArtifactStore
from service.db import artifacts, happenings
from service.db import jobs as job_rows
from service.db.models import now
from service.db.session import Sessions

TIDY_S: Final = 3600.0
KEPT: Final = timedelta(days=7)
MOST_AT_ONCE: Final = 1000
TRAININGS: Final = "trainings-"  # and a job's id: the folder of checkpoints of what it trains for itself
FILE_AGE_S: Final = 86_400.0  # far longer than any step takes from writing a file to naming it in a row
_OVER: Final = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")


def prune(client: DBOSClient, kept: timedelta = KEPT) -> int:
    """Delete the engine's records of workflows that ended longer ago; how many. Our own tables keep the
    jobs."""
    before = (now() - kept).isoformat()
    ended = client.list_workflows(
        status=list(_OVER), completed_before=before, limit=MOST_AT_ONCE, load_input=False, load_output=False
    )
    if ended:
        client.delete_workflows([status.workflow_id for status in ended])
    return len(ended)


def forget_happenings(sessions: Sessions) -> int:
    """Delete what `GET /v1/events` need not tell any more; how many rows."""
    with sessions.begin() as session:
        return happenings.forget(session)


def sweep_files(sessions: Sessions, store: ArtifactStore, older_than_s: float = FILE_AGE_S) -> int:
    """Remove what crashes left in the store; how many files. A remembered step whose file is swept is done
    again."""
    with sessions() as session:
        registered = artifacts.sizes(session)
    return len(store.sweep(registered, older_than_s))


def sweep_trainings(sessions: Sessions, work: Path, kept: timedelta = KEPT) -> int:
    """Remove the checkpoints of trainings whose job ended longer ago, or is not there any more; how many
    jobs'."""
    found = {folder.name.removeprefix(TRAININGS): folder for folder in work.glob(f"{TRAININGS}*")}
    with sessions() as session:
        needed = job_rows.unfinished_or_recent(session, found, kept)
    # A folder whose job nobody knows is swept too: it was deleted, or the database is another one.
    over = [folder for job_id, folder in found.items() if job_id not in needed]
    for folder in over:
        shutil.rmtree(folder, ignore_errors=True)
    return len(over)
