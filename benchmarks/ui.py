"""`python -m benchmarks.ui`: the pages in a real Chromium: what they weigh, and how soon they are there.

Cold (no cache), the processor four times slower, 10 Mbit/s with 40 ms: first paint, home, four fronts of
ofa-mbv3. Then, at full speed and four times slower, the frames of a drag; and a cloud of 100,000 points.
Medians of several rounds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from benchmarks.environment import environment
from service.db import keys as key_rows
from service.db import supernets as supernet_rows
from service.db.models import now
from service.http.ui_files import ui_files
from service.startup import OWNER
from supernets.accuracy.predictor import QualityPredictor
from supernets.spaces.catalog import SPACES
from tests.service.api import CONTEXT, table_rows
from tests.ui.conftest import CHROMIUM, Site, running

SPACE = SPACES["ofa-mbv3"]
DEVICES = {"first": 1.0, "second": 2.5, "third": 6.0, "fourth": 15.0}
SLOWER = 4
NETWORK = {"offline": False, "latency": 40, "downloadThroughput": 10e6 / 8, "uploadThroughput": 10e6 / 8}
POINTS = 100_000
DRAG = """async () => {
  const lever = document.querySelector('.budget'), box = lever.getBoundingClientRect(), frames = [];
  const told = (x) => ({clientX: x, clientY: box.y + 100, pointerId: 1, bubbles: true});
  const send = (type, x) => lever.dispatchEvent(new PointerEvent(type, told(x)));
  lever.setPointerCapture = () => {}; lever.hasPointerCapture = () => true;
  send('pointerdown', box.x);
  for (let i = 0; i < 120; i++) {
    await new Promise(requestAnimationFrame);
    const begun = performance.now();
    send('pointermove', box.x + 2 * (i % 60));
    await new Promise((done) => {
      const c = new MessageChannel(); c.port1.onmessage = done; c.port2.postMessage(0);
    });
    frames.push(performance.now() - begun);
  }
  return frames;
}"""
LONGEST = """async () => {
  await new Promise((resolve) => setTimeout(resolve, 500));
  return window.tasks.length ? Math.max(...window.tasks) : 0;
}"""
WATCH = """window.tasks = [];
new PerformanceObserver((list) => list.getEntries().forEach((e) => window.tasks.push(e.duration)))
  .observe({type: 'longtask', buffered: true});"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="bespoke-ui-") as folder,
        furnished(Path(folder)) as site,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        found = {**weight(), **measured(browser, site, options.rounds)}
        browser.close()
    print(json.dumps({**found, "rounds": options.rounds, "environment": environment()}, indent=1))
    return 0


def weight() -> dict[str, Any]:
    """Bytes that a page can load, as they are and compressed."""
    loaded = [file for name, file in ui_files().files.items() if not name.endswith("LICENSE")]
    raw = len(ui_files().shell) + sum(len(file.data) for file in loaded)
    return {"raw_bytes": raw, "gzipped_bytes": sum(len(file.zipped) for file in loaded), "files": len(loaded)}


@contextmanager
def furnished(folder: Path) -> Iterator[Site]:
    """A service with four devices, whole tables of ofa-mbv3, and a supernet."""
    with running(folder / "data") as stack:
        site = Site(stack.url, folder / "data")
        rows = table_rows(SPACE)
        with site.client() as service:
            for name, factor in DEVICES.items():
                service.add_device(name, CONTEXT, "")
                scaled = [{**row, **{k: row[k] * factor for k in row if k.endswith("_ms")}} for row in rows]
                service.call("POST", f"/v1/devices/{name}/tables", json={"context": CONTEXT, "rows": scaled})
        random = np.random.default_rng(0)
        genes = SPACE.chain.sample(random, 200)
        values = 0.6 + 0.2 * genes.mean(axis=1) / genes.max() + random.normal(0, 1e-3, len(genes))
        with site.database() as session, session.begin():
            tenant = key_rows.tenant_named(session, OWNER)
            assert tenant is not None
            row = supernet_rows.find_or_add(
                session,
                tenant.id,
                "0" * 64,
                space=SPACE.name,
                dataset="digits",
                recipe="quick",
                seed=0,
                classes=SPACE.classes,
            )
            row.predictor = QualityPredictor.fit(SPACE, genes, values, folds=2).to_json()
            row.weights_sha256, row.ready_at = "0" * 64, now()
            site.supernet_id = row.id
        yield site


def measured(browser: Browser, site: Site, rounds: int) -> dict[str, Any]:
    """Medians, in ms; how many points the fronts have."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto(site.login())
    page.get_by_role("button", name="log out").wait_for()
    fronts = f"front?supernet={site.supernet_id}&devices={','.join(DEVICES)}"
    home = [cold(context, site, "", "section h2") for _ in range(rounds)]
    drawn = [cold(context, site, fronts, ".budget") for _ in range(rounds)]
    with site.client() as service:
        points = sum(len(service.front_columns(site.supernet_id, name)["genes"]) for name in DEVICES)
    return {
        "first_paint_ms": _median(paint for paint, _ in home),
        "home_ms": _median(usable for _, usable in home),
        "four_fronts_ms": _median(usable for _, usable in drawn),
        "points": points,
        "drag": {f"slower_{times}": drag(context, site, fronts, times) for times in (1, SLOWER)},
        "cloud_longest_task_ms": _median(cloud(context, site) for _ in range(rounds)),
    }


def cold(context: BrowserContext, site: Site, where: str, sign: str) -> tuple[float, float]:
    """(first paint, until the sign is there) of a page that nothing of was loaded before."""
    page = context.new_page()
    slow = slowed(page, SLOWER)
    slow.send("Network.enable")
    slow.send("Network.setCacheDisabled", {"cacheDisabled": True})
    slow.send("Network.emulateNetworkConditions", NETWORK)
    begun = time.perf_counter()
    page.goto(f"{site.url}/ui/#/{where}", wait_until="commit")
    page.locator(sign).first.wait_for()
    usable = 1000 * (time.perf_counter() - begun)
    paint = float(page.evaluate("() => performance.getEntriesByName('first-contentful-paint')[0].startTime"))
    page.close()
    return paint, usable


def slowed(page: Page, times: int) -> Any:
    tools = page.context.new_cdp_session(page)
    tools.send("Emulation.setCPUThrottlingRate", {"rate": times})
    return tools


def drag(context: BrowserContext, site: Site, fronts: str, times: int) -> dict[str, float]:
    """What our part of a frame takes while the budget is dragged over four fronts."""
    page = context.new_page()
    page.goto(f"{site.url}/ui/#/{fronts}")
    page.locator(".budget").wait_for()
    slowed(page, times)
    frames = sorted(page.evaluate(DRAG))
    page.close()
    return {
        "median_ms": round(statistics.median(frames), 2),
        "p95_ms": round(frames[int(0.95 * (len(frames) - 1))], 2),
    }


def cloud(context: BrowserContext, site: Site) -> float:
    """The longest the page stands still while it reads and draws 100,000 points."""
    page = context.new_page()
    random = np.random.default_rng(0)
    predicted = random.uniform(0.5, 0.9, POINTS)
    measured_ = predicted + random.normal(0, 0.01, POINTS)
    pairs = {
        "name": "additive",
        "predicted": predicted.tolist(),
        "measured": measured_.tolist(),
        "rmse": 0.01,
        "kendall_tau": 0.9,
    }
    body = json.dumps(pairs)
    page.route("**/predictor", lambda route: route.fulfill(body=body, content_type="application/json"))
    page.add_init_script(WATCH)
    page.goto(f"{site.url}/ui/#/supernets/{site.supernet_id}")
    page.get_by_role("img").last.wait_for()
    found = float(page.evaluate(LONGEST))
    page.close()
    return found


def _median(values: Iterator[float]) -> float:
    return round(statistics.median(values), 1)


if __name__ == "__main__":
    sys.exit(main())
