"""docs/notebook.ipynb, cell by cell in a real kernel, against a live service. The worker's part is written
by hand.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ui.conftest import Site, furnished, running

NOTEBOOK = Path(__file__).parents[3] / "docs" / "notebook.ipynb"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with running(tmp_path / "data") as stack:
        yield furnished(stack, tmp_path / "data")


def work(site: Site, ended: threading.Event, done: list[dict[str, Any]]) -> None:
    """The search that the notebook orders, done as a worker leaves it."""
    with site.client() as service:
        while not ended.is_set():
            for job in service.jobs(state="queued"):
                hands, target = site.hands(), service.job_request(job.id)["request"]["targets"][0]
                hands.start(job.id)
                budget = target["budget"]["latency_ms"]
                card = hands.deliver(job.id, site.supernet_id, target["device"], budget, budget * 0.9)
                hands.succeed(
                    job.id, {"models": [{"id": card["id"], "device": target["device"], "budget_ms": budget}]}
                )
                done.append(card)
            time.sleep(0.1)


def test_the_notebook_runs_and_shows_what_it_says(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nbclient, nbformat = (pytest.importorskip(name) for name in ("nbclient", "nbformat"))
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("BESPOKE_URL", site.url)
    monkeypatch.setenv("BESPOKE_KEY", site.key())
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("PYTHONPATH", str(NOTEBOOK.parents[1]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not kept in the repository"
    ended, done = threading.Event(), []
    worker = threading.Thread(target=work, args=(site, ended, done))
    worker.start()
    try:
        nbclient.NotebookClient(
            notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
    finally:
        ended.set()
        worker.join()
    shown = [
        output["data"]["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    assert len(shown) == 7, "devices, supernet, device, front, pick, job, card show themselves"
    assert any("<svg" in text for text in shown)
    assert not any("<script" in text for text in shown)
    data = (tmp_path / "model.onnx").read_bytes()
    assert hashlib.sha256(data).hexdigest() == done[0]["file"]["sha256"]
    assert os.environ["BESPOKE_KEY"] not in nbformat.writes(notebook)
