"""`python -m tests.worker.stub_worker`: the real engine with a pipeline of stub length for jobs of kind
`search`.

Request: {"steps": n, "step_s": seconds, "behave": None | "fail" | "bug" | "transient" | "exit" | "child_segv"
| "hang"}.
"""

import os
import sys
import time

from service.db.artifacts import register
from service.settings import Settings
from supernets.errors import ExportFailed
from worker.compute.child import Child
from worker.pipelines import catalog

TRIES = []


def stub(run):
    files = []
    for number in range(run.request["steps"]):

        def work(number=number):
            run.pause(run.request.get("step_s", 0.0))
            if number == 1:
                misbehave(run, run.request.get("behave"))
            sha256, size_bytes = run.context.store.put(
                f"{run.request.get('seed', 0)}/{number}".encode() * 1000
            )
            run.write(lambda s: register(s, sha256, size_bytes, "report") and None)
            return {"sha256": sha256}

        inputs = {"seed": run.request.get("seed", 0), "number": number}
        files.append(run.step(f"stub_{number}", inputs, dict[str, str], work)["sha256"])
        run.progress("stub", (number + 1) / run.request["steps"], f"step {number + 1}", always=True)
    return {"files": files}


def misbehave(run, how):
    if how == "fail":
        raise ExportFailed("this graph cannot be exported; choose another one")
    if how == "bug":
        raise KeyError("secret of the inside")
    if how == "transient":
        TRIES.append(time.monotonic())
        if len(TRIES) < 3:
            raise OSError("the disk is full for a moment")
    if how == "exit":
        os._exit(1)
    if how == "child_segv":
        log = run.context.work_folder("logs") / "child.txt"
        with Child("stub", ["tests.worker.stub_child", "segv"], log=log, check=run.check) as child:
            list(child.messages())
    if how == "hang":
        log = run.context.work_folder("logs") / "child.txt"
        with Child("stub", ["tests.worker.stub_child", "hang"], log=log, check=run.check) as child:
            list(child.messages())


def main():
    catalog.PIPELINES["search"] = stub
    from worker.engine import Engine

    Engine(Settings()).run()


if __name__ == "__main__":
    sys.exit(main())
