"""Waiting for a job in a notebook or a script: a bar in one line, and an interrupt that ends the job too."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Final, TextIO

from service.client.calls import BespokeClient
from service.client.errors import ClientError
from service.client.jobs import Job

_WIDTH: Final = 24


def wait(
    calls: BespokeClient, job: Job, *, cancel: bool = True, out: TextIO | None = None, poll_s: float = 0.5
) -> Job:
    """The ended job. Raises JobUnfinished where it ends otherwise than well.

    cancel: an interrupt (Ctrl-C, the stop button) asks the job to stop before it is raised again. out: where
    the bar is drawn; None: standard error.
    """
    place = sys.stderr if out is None else out
    widest = 0

    def show(now: Job) -> None:
        nonlocal widest
        text = line(now)
        widest = max(widest, len(text))
        place.write(f"\r{text:<{widest}}")
        place.flush()

    try:
        return calls.wait(job.id, show, poll_s)
    except KeyboardInterrupt:
        if cancel:
            with suppress(ClientError):  # it may have ended in this very moment
                calls.cancel(job.id)
        raise
    finally:
        place.write("\n")


def line(job: Job) -> str:
    """`search ████████                 33 % score candidates, 12 s left`."""
    share = 1.0 if job.state == "succeeded" else min(1.0, max(0.0, job.fraction))
    full = round(_WIDTH * share)
    step = job.step.replace("_", " ") if job.state == "running" else job.state
    left = "" if job.eta_s is None or job.ended else f", {job.eta_s:.0f} s left"
    return f"{job.kind} {'█' * full}{'·' * (_WIDTH - full)} {100 * share:3.0f} % {step}{left}"
