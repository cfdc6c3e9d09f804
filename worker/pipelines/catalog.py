"""Every kind of job and the pipeline that does it."""

from __future__ import annotations

from collections.abc import Callable

from service.db.documents import Fields
from service.db.states import JobKind
from worker.context import JobRun
from worker.pipelines.check import check
from worker.pipelines.profile import profile
from worker.pipelines.ready_supernet import supernet
from worker.pipelines.search.pipeline import search

PIPELINES: dict[str, Callable[[JobRun], Fields]] = {
    JobKind.SEARCH: search,
    JobKind.COMPRESS: search,
    JobKind.SUPERNET: supernet,
    JobKind.PROFILE: profile,
    JobKind.CHECK: check,
}
