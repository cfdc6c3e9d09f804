"""The long forms of the journeys: a real worker trains and searches, a real agent measures this machine, on
both databases.

That a killed agent goes on where it was is in tests/end_to_end/test_agent_killed.py; what the page says of it is
journey 5 in test_journeys.py."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image
import pytest

from tests.ui.conftest import Site, Watched, running
from tests.ui.test_journeys import NO_ANSWER, events_shown, line_of, printed
from tests.ui.test_pages import visit

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(3600)]
Open = Callable[..., Watched]
LONG_MS = 1_500_000


@dataclass
class Works:
    """A service with a worker, and its stack."""

    site: Site
    stack: Any


@pytest.fixture
def works(own_database: str, tmp_path: Path) -> Iterator[Works]:
    with running(tmp_path / "data", own_database, workers=1, agent_present_s=5) as stack:
        yield Works(Site(stack.url, tmp_path / "data", database_url=own_database), stack)


def register(page: Any, name: str) -> str:
    """By mouse, as the wizard has it; the line to paste."""
    visit(page, "enrol")
    page.get_by_label("name", exact=True).fill(name)
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Register it").click()
    page.get_by_role("button", name="Show me the two lines").wait_for()
    return line_of(page, name)


def test_3_4_6_8_11_from_nothing_to_a_verified_network_by_mouse(
    works: Works, tab: Open, tmp_path: Path
) -> None:
    page = tab(works.site, accept_downloads=True, expected=("status of 422",)).page
    page.get_by_role("heading", name="Three steps to your first network").wait_for()
    with printed(register(page, "shelf"), tmp_path / "agent.log"):
        page.get_by_role("heading", name="Connected").wait_for(timeout=120_000)
        page.get_by_role("button", name="Profile what is missing").click()
        page.get_by_role("heading", name="profile job").wait_for()
        page.get_by_role("progressbar").wait_for(timeout=120_000)
        page.get_by_role("heading").get_by_text("done").wait_for(timeout=LONG_MS)
        visit(page, "devices/shelf")
        page.get_by_role("heading", name="Predicted against measured").wait_for()
        visit(page, "supernets?train=1")
        page.get_by_role("combobox", name="recipe").select_option("trial")
        page.get_by_role("button", name="Train", exact=True).click()
        page.get_by_role("heading", name="supernet job").wait_for()
        with works.site.client() as service:
            supernet = service.job_request(page.url.rsplit("/", 1)[1])["request"]["supernet_id"]
        visit(page, f"supernets/{supernet}")
        page.get_by_role("img", name=re.compile("loss, ")).wait_for(timeout=LONG_MS)
        page.locator("h1").get_by_text("ready").wait_for(timeout=LONG_MS)
        visit(page, "front?devices=shelf")
        page.get_by_role("button", name=re.compile("^Search ")).click()
        page.get_by_role("heading", name="Result").wait_for(timeout=LONG_MS)
        job = page.url.rsplit("/", 1)[1]
        with works.site.client() as service:
            assert events_shown(page) == [e["sequence"] for e in service.events(job)][-300:]
            assert service.job_log(job), "the worker said something"
        page.get_by_role("table", name="delivered networks").get_by_role("link", name="shelf").click()
        page.get_by_text(re.compile("^(Kept|Broke) .*measured")).wait_for()
    with works.site.client() as service:
        card = service.model(page.url.rsplit("/", 1)[1])
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile("^Download ONNX")).click()
    download.value.save_as(tmp_path / "model.onnx")
    page.get_by_text("SHA-256 is the card's").wait_for()
    assert hashlib.sha256((tmp_path / "model.onnx").read_bytes()).hexdigest() == card["file"]["sha256"]
    (tmp_path / "run.py").write_text(page.locator("pre.snippet").inner_text())
    PIL.Image.new("L", (8, 8), 128).save(tmp_path / "digit.png")
    command = [sys.executable, "run.py", "model.onnx", "digit.png"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert re.fullmatch(r"digit\.png \d\n", done.stdout), done.stderr
    visit(page, "")
    assert page.locator(".begin").count() == 0


def wait_for(sign: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not sign():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_6_9_a_training_outlives_its_worker_without_a_gap_and_ends_when_told(works: Works, tab: Open) -> None:
    page = tab(works.site, expected=NO_ANSWER).page
    visit(page, "supernets?train=1")
    page.get_by_role("combobox", name="recipe").select_option("standard")
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_role("heading", name="supernet job").wait_for()
    job = page.url.rsplit("/", 1)[1]
    with works.site.client() as service:
        supernet = service.job_request(job)["request"]["supernet_id"]

        def epochs() -> list[int]:
            return [point["epoch"] for point in service.history(supernet)]

        wait_for(lambda: max(epochs(), default=0) >= 3, 900)
        process = works.stack._workers[0].process
        os.killpg(process.pid, signal.SIGKILL)
        last = max(epochs())
        wait_for(lambda: max(epochs()) >= last + 2, 900)
        told = epochs()
        assert set(range(1, max(told) + 1)) <= set(told), "no epoch is missing"
        page.get_by_role("button", name="Cancel this job").click()
        page.get_by_role("heading").get_by_text("cancelled").wait_for()
        assert service.job(job).state == "cancelled"
