"""Through the real worker: a fine-tuning whose process keeps a limit on its memory, one that cannot, and lite
residuals that are delivered as an agent measured them."""

import re
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from supernets.delivery.export import OnnxFile, onnx_session
from tests.end_to_end.test_search_job import card_of, search
from tests.end_to_end.test_strategies import targets_of
from tests.worker.installation import Installation
from tests.worker.simulated_agent import SimulatedAgent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
LIMITS = {"targets": [{"budget": {"macs": 400_000}}], "strategy": "exact", "candidates": 1, "verify": False}


@pytest.fixture
def installation(tmp_path, migrated_sqlite):
    with Installation(tmp_path, migrated_sqlite) as made:
        yield made


class Watch:
    """Most memory of every process of an installation, as the system counts it, and when it was there."""

    def __init__(self, installation):
        self.installation, self.seen = installation, {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *reason):
        self._stop.set()
        self._thread.join()

    def _loop(self):
        while not self._stop.wait(0.02):
            for pid in self.installation.children():
                with suppress(OSError):
                    text = Path(f"/proc/{pid}/status").read_text()
                    found = re.search(r"VmHWM:\s+(\d+)", text)
                    if found is not None:
                        first, _, most = self.seen.get(pid, (time.time(), 0, 0.0))
                        self.seen[pid] = (first, time.time(), max(most, int(found[1]) / 1024))

    def peak_mb(self, when):
        """Of what was there then besides the worker."""
        workers = [worker.pid for worker in self.installation.workers]
        return max(
            most
            for pid, (first, last, most) in self.seen.items()
            if first <= when <= last and pid not in workers
        )


def test_a_fine_tuning_keeps_its_limit_or_says_the_least_that_works(installation):
    supernet = installation.supernet("trial")
    installation.start_worker()

    def tuned(memory_mb):
        asked = {"supernet_id": supernet, **LIMITS, "tune_epochs": 2, "memory_mb": memory_mb}
        job = installation.wait(installation.submit("search", asked), 900)
        assert job.state == "succeeded", job.error
        return job, card_of(installation, job.result["models"][0]["id"])["tuning"]

    _, refused = tuned(100)
    assert not refused["kept"] and "no method keeps 100 MB" in refused["failure"], refused
    least = int(re.search(r"memory_mb=(\d+)", refused["failure"])[1])
    assert 100 < least < 900
    with Watch(installation) as watch:
        job, kept = tuned(least + 40)
    assert kept["failure"] is None and kept["memory"]["limit_mb"] == least + 40
    assert 100 < kept["memory"]["peak_mb"] <= least + 40
    said = [e["at"].timestamp() for e in installation.events(job.id, "progress") if e["step"] == "fine_tune"]
    assert watch.peak_mb((said[0] + said[-1]) / 2) <= least + 40, (
        "as the system counts it, not only by its own account"
    )


def test_lite_residuals_are_in_the_file_and_measured_with_it(installation, tmp_path):
    supernet, targets = installation.supernet("trial"), targets_of(installation)[1:2]
    installation.start_worker()
    options = {"candidates": 1, "tune_epochs": 12, "train": "lite"}
    unmeasured = search(installation, supernet, targets, verify=False, **options).result["models"][0]
    card = card_of(installation, unmeasured["id"])
    assert "no latency table" in card["tuning"]["failure"] and not card["tuning"]["kept"]
    with SimulatedAgent(installation, [targets[0][1]]) as agent:
        job = search(installation, supernet, targets, verify=True, **options)
    assert agent.answered.count("verify") >= 2, (
        "the file with its modules is measured besides the one without"
    )
    delivered = card_of(installation, job.result["models"][0]["id"])
    tuning = delivered["tuning"]
    assert tuning["kept"] and tuning["train"] == "lite" and "measured" in tuning["priced_by"], tuning
    assert delivered["latency"]["chosen_by"] == "measurement" and delivered["latency"]["verified"]
    assert delivered["file"]["macs"] > card["file"]["macs"]
    assert delivered["file"]["parameters"] > card["file"]["parameters"]
    assert delivered["file"]["parity_max_abs_error"] <= 1e-4
    assert delivered["accuracy"]["measured"] > card["accuracy"]["measured"]
    file = installation.store.read(delivered["file"]["sha256"])
    assert OnnxFile(onnx_session(file)).inputs[0].dtype == "float32"
