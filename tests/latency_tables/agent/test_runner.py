"""Networks run in a child process: real ones are timed, bad ones cost the child only."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from latency_tables.agent.client import Client
from latency_tables.agent.errors import MeasuringFailed
from latency_tables.agent.loop import Agent, Options
from latency_tables.agent.runner import Job, Limits, Network, measure_in_child
from latency_tables.agent.state import StateFolder
from latency_tables.inputs import InputSpec
from latency_tables.measuring.profiling import Settings
from latency_tables.measuring.suspension import Suspensions
from tests.latency_tables.agent.fake_service import FakeService
from tests.latency_tables.agent.networks import convolution, heavy

QUICK = Settings(rounds=6, least_rounds=6, limit_s=0.5, least_s=0.0)


@pytest.fixture
def networks(tmp_path):
    found = {}
    for name, channels, size in (("small", 4, 8), ("large", 64, 64)):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(convolution(channels, shape=(1, 3, size, size)))
        found[name] = Network(path, (InputSpec("x", (1, 3, size, size)),))
    return found


def test_measures_real_networks(networks):
    seen = []
    readings = measure_in_child(Job(networks, sentinel="small", settings=QUICK), seen.append)
    assert readings["large"].measurement.median_ms > 2 * readings["small"].measurement.median_ms > 0
    assert readings["small"].measurement.count >= 6 and seen[-1] == 1.0


def test_a_shape_left_out_is_read_from_the_network(networks):
    job = Job({"small": Network(networks["small"].path)}, settings=QUICK)
    assert measure_in_child(job)["small"].measurement.median_ms > 0


def test_wrong_shape_missing_file_and_rubbish_end_the_child_only(networks, tmp_path):
    rubbish = tmp_path / "rubbish.onnx"
    rubbish.write_bytes(b"rubbish")
    for bad in (
        Network(networks["small"].path, (InputSpec("x", (1, 4, 8, 8)),)),
        Network(tmp_path / "none"),
        Network(rubbish),
    ):
        with pytest.raises(MeasuringFailed):
            measure_in_child(Job({"bad": bad}, settings=QUICK))


def test_memory_is_limited(networks):
    with pytest.raises(MeasuringFailed):
        measure_in_child(Job(networks, settings=QUICK, limits=Limits(memory_mib=64)))


def test_a_silent_child_is_ended(networks):
    endless = Settings(warm_up_calls=10_000_000)
    with pytest.raises(MeasuringFailed, match="silent"):
        measure_in_child(Job(networks, settings=endless, limits=Limits(silent_s=2.0)))


def test_the_child_ends_with_its_parent():
    child = subprocess.Popen(
        [sys.executable, "-m", "latency_tables.agent.child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    child.stdin.close()
    assert child.wait(timeout=30) == 2
    child.stdout.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits are POSIX")
def test_limits_hold_in_the_child(tmp_path):
    code = (
        "from latency_tables.agent.child import limit_resources; import resource; limit_resources(2048, 60)\n"
        "print(resource.getrlimit(resource.RLIMIT_AS)[0], resource.getrlimit(resource.RLIMIT_FSIZE)[0])\n"
        "with open('written-by-a-test', 'wb', buffering=0) as f:\n"
        " try:\n  f.write(b'x'); print('wrote')\n except OSError: print('refused')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.split() == [str(2048 * 2**20), "0", "refused"]


def test_what_a_child_has_started_does_not_outlive_it_and_keeps_nobody_waiting(tmp_path, monkeypatch):
    """A runtime may fork: the copy holds the pipe open, and the agent would wait for the pipe's end for
    ever."""
    started = tmp_path / "pid"
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys, time\n"
        "if '-m' in sys.orig_argv and 'latency_tables.agent.child' in sys.orig_argv and os.fork() == 0:\n"
        f"    open({str(started)!r}, 'w').write(str(os.getpid()))\n"
        "    time.sleep(300)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "n.onnx").write_bytes(b"no network")
    with pytest.raises(MeasuringFailed):
        measure_in_child(Job({"n": Network(tmp_path / "n.onnx")}))
    pid = int(started.read_text())
    deadline = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _runs(pid)


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_readings_of_a_device_that_was_suspended_in_mid_session_say_so(networks):
    asleep = iter([0, 3600_000_000_000])
    job = Job({"small": networks["small"]}, settings=QUICK)
    (reading,) = measure_in_child(job, suspensions=Suspensions(lambda: next(asleep))).values()
    assert "suspended" in reading.flags and reading.measurement.median_ms < 100


def test_nodes_come_with_the_readings(networks):
    readings = measure_in_child(Job(networks, settings=QUICK))
    assert all(r.nodes.keys() == {"CPUExecutionProvider"} for r in readings.values())
    assert "suspended" not in readings["small"].flags


def test_networks_that_do_not_fit_into_memory_together_are_measured_in_halves(tmp_path):
    """With a real limit on the address space: six networks of 48 MiB at once do not fit, a few of them do."""
    files = [heavy(48, seed) for seed in range(6)]
    service = FakeService(files, sentinel=False, shape=(1, 1))
    client = Client("http://service.example", transport=service.transport, sleep=lambda seconds: None)
    said = []
    options = Options(settings=QUICK, group_mib=1000, limits=Limits(memory_mib=500))
    agent = Agent(client, StateFolder(tmp_path), options, said.append)
    agent.start("http://service.example", "token-1")
    assert agent.run(once=True) == len(files)
    assert service.answers.keys() == service.tasks.keys()
    assert any("trying halves" in line for line in said)
