"""The stack of `bespoke serve`: real processes that are killed, restarted and drained."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.cli.supervisor import Stack, StackFailed, running_at

PATIENCE_S = 60.0


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return (
        Path(f"/proc/{pid}/stat").exists()
        and Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    )


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BESPOKE_URL", "BESPOKE_KEY", "BESPOKE_DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)


def test_a_worker_that_is_killed_is_started_again_and_all_end_with_the_stack(tmp_path: Path) -> None:
    said: list[str] = []
    with Stack(tmp_path / "data", port=0, log_dir=tmp_path / "logs", say=said.append) as stack:
        assert running_at(tmp_path / "data") == stack.url
        first = stack._workers[0].process
        assert first is not None
        first.kill()
        wait_for(lambda: stack.tend() or (stack._workers[0].process is not first))
        second, api = stack._workers[0].process, stack._api.process
        assert second is not None and api is not None
        assert "status -9" in said[0]
    assert gone(second.pid) and gone(api.pid)
    assert not (tmp_path / "data" / "server.json").exists()


def test_a_dead_api_ends_the_stack_with_its_last_words(tmp_path: Path) -> None:
    with Stack(tmp_path / "data", port=0, workers=0, log_dir=tmp_path / "logs") as stack:
        assert stack._api.process is not None
        stack._api.process.kill()
        stack._api.process.wait()
        with pytest.raises(StackFailed, match="last words"):
            stack.tend()


def test_two_servers_on_one_folder_or_one_port_are_refused(tmp_path: Path) -> None:
    with Stack(tmp_path / "data", port=0, workers=0, log_dir=tmp_path / "logs") as stack:
        with pytest.raises(StackFailed, match="already runs"), Stack(tmp_path / "data", port=0, workers=0):
            pass
        port = int(stack.url.rsplit(":", 1)[1])
        with (
            pytest.raises(StackFailed, match="cannot be bound"),
            Stack(tmp_path / "other", port=port, workers=0, log_dir=tmp_path / "logs2"),
        ):
            pass


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked at in /proc")
def test_killing_serve_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "service.cli.entry",
        "serve",
        "--data-dir",
        str(tmp_path),
        "--port",
        "0",
        "--workers",
        "0",
    ]
    serve = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: running_at(tmp_path))
        api = int(Path(f"/proc/{serve.pid}/task/{serve.pid}/children").read_text().split()[0])
        serve.send_signal(signal.SIGKILL)
        serve.wait()
        wait_for(lambda: gone(api))
        wait_for(lambda: not (tmp_path / "server.json").exists())
    finally:
        serve.kill()
        serve.wait()
