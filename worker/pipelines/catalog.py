"""Every kind of job and the pipeline that does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from worker.context import JobRun
from worker.pipelines.train_supernet import supernet

PIPELINES: dict[str, Callable[[JobRun], dict[str, Any]]] = {"supernet": supernet}
