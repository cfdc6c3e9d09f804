"""The worker's hands on torch: operations of `worker.compute.operations`, done in a child that is started
when first needed."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

from worker.compute.child import POLL_S, Child, silence_limit_s
from worker.context import Run
from worker.errors import ChildCrashed

Report = Callable[[int, int], None]
Follow = Callable[[dict[str, Any]], None]


class Laboratory:
    """One child for all operations of a run; use as a context manager. After a crash the next call starts a
    new child."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._child: Child | None = None

    def __enter__(self) -> Laboratory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def call(
        self,
        operation: str,
        arguments: dict[str, Any],
        report: Report | None = None,
        follow: Follow | None = None,
    ) -> dict[str, Any]:
        """Do an operation; what it puts into the artifact store it names by SHA-256. follow: gets all that it
        says of itself.

        Raises StepFailed for an error of the operation, ChildCrashed, and whatever ends the run.
        """
        child = self._child or self._start()
        context = self._run.context
        places = {
            "store": str(context.store.root),
            "data_dir": str(context.work_folder("data")),
            "registered": {name: str(path) for name, path in context.settings.datasets.items()},
        }
        child.send({"call": operation, "arguments": {"places": places, **arguments}})
        try:
            for message in child.messages():
                if message.get("event") == "result":
                    result: dict[str, Any] = message["result"]
                    return result
                if message.get("event") == "progress" and report is not None:
                    report(int(message["done"]), int(message["total"]))
                if message.get("event") == "progress" and follow is not None:
                    follow(message)
            raise ChildCrashed(operation, 0, 0, "it ended without a result")
        except BaseException:
            self._close()
            raise

    def _start(self) -> Child:
        while not self._run.context.laboratories.acquire(timeout=POLL_S):
            self._run.check()
        settings = self._run.context.settings
        silence_s = silence_limit_s(settings)
        log = self._run.context.work_folder("logs") / "laboratory.txt"
        memory_bytes = settings.step_memory_mb << 20
        module = ["worker.compute.child_process", str(silence_s)]
        timeout_s = settings.step_timeout_s
        try:
            self._child = Child(
                "laboratory",
                module,
                log=log,
                check=self._run.check,
                tell=self._run.say,
                memory_bytes=memory_bytes,
                timeout_s=timeout_s,
            )
        except BaseException:
            self._run.context.laboratories.release()
            raise
        return self._child

    def _close(self) -> None:
        if self._child is not None:
            self._child.close()
            self._child = None
            self._run.context.laboratories.release()
