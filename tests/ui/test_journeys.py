"""The journeys of a person through the pages, in a real browser, on both databases: the short form of each.

Where a journey needs a worker its rows are written by hand (tests/ui/hands.py); agents are real ones. The long
forms, with real workers, are in test_long_journeys.py; journey 15 is in test_pages.py and here.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx
import PIL.Image
import pytest
from sqlalchemy import update

from latency_tables.agent.runtimes.setup import Setup
from service.cli.app import run
from service.cli.runtimes import this_context
from service.db.models import AgentSession, ApiKey, LoginLink, now
from service.db.states import JobState
from tests.service.api import CONTEXT, table_rows
from tests.ui.conftest import Site, Watched, add_supernet, furnished, running, shoot
from tests.ui.test_pages import NO_ANSWER, REFUSED, address_holds, budget_of, until, visit

pytestmark = pytest.mark.browser
Open = Callable[..., Watched]


@contextmanager
def printed(line: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A line as a page prints it, run as it is printed, with the commands of this installation."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "HOME": str(log.parent)}
    with log.open("ab") as out:
        process = subprocess.Popen(
            ["sh", "-c", f"exec {line}"],
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
            cwd=log.parent,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def queued(place: Site, device: str = "phone", budget_ms: float = 50.0) -> str:
    """A search that waits, as a person orders it."""
    with place.client() as service:
        target = {"device": device, "budget": {"latency_ms": budget_ms}}
        return service.search({"supernet": place.supernet_id, "targets": [target], "verify": False}).id


def events_shown(page: Any) -> list[int]:
    return [int(text) for text in page.locator(".events:not(.log) li > .muted:first-child").all_inner_texts()]


# -- 1, 2: the way in -----------------------------------------------------------------------------------------


def test_1_a_link_that_is_used_or_old_says_what_to_do_and_leaves_no_token(place: Site, tab: Open) -> None:
    address = place.login()
    first = tab(place, log_in=False)
    first.page.goto(address)
    first.page.reload()
    first.page.get_by_role("heading", name="Home").wait_for()
    assert "login" not in first.page.url
    kept = first.page.evaluate(
        "JSON.stringify([localStorage, sessionStorage, history.state, document.cookie])"
    )
    assert address.split("=")[1] not in kept
    old = place.login()
    with place.database() as session, session.begin():
        session.execute(
            update(LoginLink)
            .where(LoginLink.used_at.is_(None))
            .values(expires_at=now() - timedelta(seconds=1))
        )
    for spent in (address, old):
        page = tab(place, log_in=False, expected=REFUSED).page
        page.goto("about:blank")
        page.goto(spent)
        page.get_by_text(re.compile("bespoke open")).first.wait_for()
        page.get_by_text(re.compile("used or is older than a minute")).wait_for()
        assert "login" not in page.url
    first.page.get_by_role("button", name="log out").click()
    first.page.get_by_label("key", exact=True).wait_for()
    first.page.go_back()
    assert first.page.get_by_role("heading", name="Home").count() == 0


def test_2_keys_that_do_not_fit_are_refused_and_a_session_outlives_tab_reload_and_restart(
    own_database: str, tab: Open, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    with running(folder, own_database) as stack:
        site = Site(stack.url, folder, database_url=own_database)
        port = int(stack.url.rsplit(":", 1)[1])
        with site.client() as service:
            expired = service.create_key("expired", ["jobs:read", "catalog:read"])
            theirs = service.call("POST", "/v1/tenants", json={"name": f"other{port}"}).json()["key"]
            service.add_device("ours", CONTEXT, "")
        with site.database() as session, session.begin():
            past = now() - timedelta(minutes=1)
            session.execute(update(ApiKey).where(ApiKey.id == expired["id"]).values(expires_at=past))
        page = tab(site, log_in=False, expected=(*REFUSED, *NO_ANSWER)).page
        for key in ("bespoke_key_wrong", expired["key"]):
            page.get_by_label("key", exact=True).fill(key)
            page.get_by_role("button", name="Log in").click()
            page.get_by_role("alert").get_by_text("not known here").wait_for()
        page.get_by_label("key", exact=True).fill(site.key())
        page.get_by_role("button", name="Log in").click()
        visit(page, "devices")
        page.get_by_role("link", name="ours").wait_for()
        page.reload()
        again = page.context.new_page()
        again.goto(f"{site.url}/ui/#/devices")
        for one in (page, again):
            one.get_by_role("link", name="ours").wait_for()
        assert site.key() not in page.evaluate("JSON.stringify(localStorage) + document.cookie")
        foreign = tab(site, log_in=False, expected=(*REFUSED, *NO_ANSWER)).page
        foreign.get_by_label("key", exact=True).fill(theirs)
        foreign.get_by_role("button", name="Log in").click()
        foreign.get_by_role("button", name="log out").wait_for()
        visit_any(foreign, "devices/ours")
    page.get_by_text("not live").wait_for()
    with running(folder, own_database, port=port):
        page.get_by_text("● live").wait_for(timeout=40_000)
        page.reload()
        page.get_by_role("link", name="ours").wait_for()


# -- 3, 4, 5: from nothing to a device ------------------------------------------------------------------------


def test_3_a_newcomer_is_led_and_each_step_ticks_itself_off(
    own_database: str, tab: Open, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    with running(folder, own_database) as stack:
        site = Site(stack.url, folder, database_url=own_database)
        page = tab(site, expected=NO_ANSWER).page
        page.get_by_role("heading", name="Three steps to your first network").wait_for()
        steps = page.locator(".begin li")
        assert steps.count() == 3
        page.get_by_role("link", name="Add a device").first.click()
        page.get_by_label("name", exact=True).fill("shelf")
        page.get_by_role("button", name="Register it").click()
        page.get_by_role("button", name="Show me the two lines").wait_for()
        with site.client() as service:
            context = service.device("shelf")["context"]
            assert context["runtime_version"] == version("onnxruntime"), "what an agent from here would time"
            service.call("POST", "/v1/devices/shelf/tables", json={"context": context, "rows": table_rows()})
        visit(page, "")
        page.locator(".begin li.ticked").filter(has_text="Profile a device").wait_for()
        page.get_by_role("link", name="Train digits-mbv3 on digits").click()
        page.get_by_role("button", name="Train", exact=True).click()
        page.get_by_role("heading", name="supernet job").wait_for()
        with site.database() as session, session.begin():
            site.supernet_id = add_supernet(session)
        visit(page, "")
        page.locator(".begin li.ticked").filter(has_text="Train a supernet").wait_for()
        page.get_by_role("link", name="Open the front").click()
        page.get_by_role("button", name=re.compile("^Search ")).click()
        page.get_by_text("none is alive").wait_for()
        job = page.url.rsplit("/", 1)[1]
        hands = site.hands()
        hands.start(job)
        with site.client() as service:
            asked = service.job_request(job)["request"]["targets"][0]
        card = hands.deliver(
            job, site.supernet_id, "shelf", asked["budget"]["latency_ms"], asked["budget"]["latency_ms"] * 0.9
        )
        hands.succeed(
            job,
            {
                "models": [{"id": card["id"], "device": "shelf", "budget_ms": card["budget_ms"]}],
                "failures": [],
            },
        )
        page.get_by_role("table", name="delivered networks").get_by_role("link", name="shelf").click()
        page.get_by_text("Kept").wait_for()
        visit(page, "")
        page.get_by_role("heading", name="Newest networks").wait_for()
        assert page.locator(".begin").count() == 0, "the three steps are done"


@pytest.fixture
def enrolled(place: Site) -> Iterator[str]:
    name = f"lab{time.time_ns() % 10**9}"
    with place.client() as service:
        service.add_device(name, this_context(Setup()).as_dict(), "")
    yield name
    with place.client() as service:
        service.remove_device(name)


def line_of(page: Any, name: str) -> str:
    visit(page, f"enrol?name={name}")
    page.get_by_role("button", name="Show me the two lines").click()
    found = page.get_by_text(
        re.compile(r"bespoke agent --server http://127.0.0.1:\d+ --token bespoke_enrol_")
    ).first
    found.wait_for()
    return str(found.inner_text())


def test_4_and_5_the_printed_line_connects_its_end_is_said_and_it_comes_back(
    place: Site, tab: Open, enrolled: str, tmp_path: Path
) -> None:
    page = tab(place).page
    line = line_of(page, enrolled)
    with printed(line, tmp_path / "agent.log") as agent:
        page.get_by_role("heading", name="Connected").wait_for(timeout=60_000)
        seen = time.time()
        with place.database() as session:
            begun = (
                session.query(AgentSession)
                .order_by(AgentSession.created_at.desc())
                .first()
                .created_at.timestamp()
            )
        assert seen - begun < 4.0, "said within two seconds, and as much again for a busy machine"
        page.get_by_role("button", name="Profile what is missing").wait_for()
        visit(page, f"devices/{enrolled}")
        page.get_by_text("agent here").wait_for()
        os.killpg(agent.pid, signal.SIGKILL)
        page.get_by_text("no agent").first.wait_for(timeout=30_000)
    assert "Traceback" not in (tmp_path / "agent.log").read_text()
    again = line_of(page, enrolled)
    with printed(again, tmp_path / "agent.log"):
        page.get_by_role("heading", name="Connected").wait_for(timeout=60_000)


# -- 6: training ----------------------------------------------------------------------------------------------


def test_6_the_curve_grows_live_and_is_the_same_in_another_tab(place: Site, tab: Open) -> None:
    with place.client() as service:
        seed = time.time_ns() % 10**6
        job = service.train_supernet("digits-mbv3", "digits", "quick", seed).id
        supernet = service.job_request(job)["request"]["supernet_id"]
    hands = place.hands()
    hands.start(job)
    watched = tab(place)
    page = watched.page
    visit(page, f"supernets/{supernet}")
    page.get_by_text("No numbers were kept").wait_for()
    for epoch in range(1, 4):
        more = {
            "validation": {"largest": 0.5 + epoch / 10, "smallest": 0.4 + epoch / 10},
            "rate": 0.01 / epoch,
        }
        hands.progress(
            job,
            epoch / 10,
            f"epoch {epoch}",
            100.0 - epoch,
            phase="full",
            epoch=epoch,
            epochs=10,
            loss=1 / epoch,
            **more,
        )
        if epoch > 1:
            page.get_by_role("img", name=re.compile(f"loss, {epoch} reports")).wait_for()
    label = page.get_by_role("img", name=re.compile("loss, ")).get_attribute("aria-label")
    other = page.context.new_page()
    other.goto(page.url)
    other.get_by_role("img", name=re.compile("loss, ")).wait_for()
    assert other.get_by_role("img", name=re.compile("loss, ")).get_attribute("aria-label") == label
    picture = "() => document.querySelector('main canvas').toDataURL()"
    light = page.evaluate(picture)
    page.get_by_label("theme").select_option("dark")
    until(page, lambda: page.evaluate(picture) != light)  # drawn again in the colours of the theme
    page.get_by_label("theme").select_option("system")
    visit(page, f"jobs/{job}")
    page.get_by_text("1:37 min left").wait_for()
    hands.progress(job, 0.9, "epoch 9", 4.0, phase="full", epoch=9, epochs=10, loss=0.1)
    page.get_by_text("4 s left").wait_for()
    shoot(page, "job-running")
    page.get_by_text("the same on the command line").click()
    page.get_by_text(f"bespoke supernets train digits-mbv3 digits --recipe quick --seed {seed}").wait_for()
    page.get_by_role("link", name="Run it again with changes").click()
    until(page, lambda: page.get_by_label("seed").input_value() == str(seed))
    hands.fail(job, "training_lost", "ended by the test")


# -- 7, 12: the front -----------------------------------------------------------------------------------------


def test_7_drag_keys_and_number_agree_and_a_double_click_is_one_job(place: Site, tab: Open) -> None:
    page = tab(place).page
    visit(page, "front?devices=phone,board")
    slider = page.get_by_role("slider")
    slider.wait_for()
    with place.client() as service:
        fronts = {name: service.front(place.supernet_id, name)["points"] for name in ("phone", "board")}
    slider.focus()
    for key in ("ArrowRight", "PageUp", "ArrowLeft", "PageDown", "PageUp", "End", "Home"):
        page.keyboard.press(key)
        budget, text = budget_of(page), slider.get_attribute("aria-valuetext")
        for name, points in fronts.items():
            kept = [p["accuracy"] for p in points if (p["upper_ms"] or p["latency_ms"]) <= budget]
            shown = re.search(rf"{name}: ([\d.]+) %", text)
            assert (shown is None) == (not kept), (key, budget, text)
            assert shown is None or abs(float(shown[1]) - 100 * max(kept)) < 0.0051, (budget, text)
    before, box = budget_of(page), slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 150)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 220, box["y"] + 150, steps=5)
    page.mouse.up()
    assert budget_of(page) > before
    page.locator(".network li").first.wait_for()
    shoot(page, "front")
    number = page.get_by_label("budget", exact=False).first
    assert math.isclose(float(number.input_value()), budget_of(page), rel_tol=1e-6)
    least = fronts["board"][0]["latency_ms"]
    page.get_by_role("spinbutton").first.fill(str(least / 2))
    page.keyboard.press("Enter")
    page.get_by_text("board cannot keep").wait_for()
    page.get_by_role("button", name=re.compile("^Take ")).first.click()
    assert budget_of(page) >= least
    with place.client() as service:
        known = {job.id for job in service.jobs()}
    page.get_by_role("button", name=re.compile("^Search ")).dblclick()
    page.get_by_text("none is alive").wait_for()
    with place.client() as service:
        (made,) = {job.id for job in service.jobs()} - known
        service.cancel(made)


def test_12_four_devices_on_one_chart_their_link_their_csv_and_their_picture(
    place: Site, tab: Open, tmp_path: Path
) -> None:
    names = ["phone", "board", "slow", "slower"]
    with place.client() as service:
        for name, factor in (("slow", 9.0), ("slower", 20.0)):
            service.add_device(name, CONTEXT, "")
            rows = [{**row, **{k: row[k] * factor for k in row if k.endswith("_ms")}} for row in table_rows()]
            service.call("POST", f"/v1/devices/{name}/tables", json={"context": CONTEXT, "rows": rows})
        points = {name: service.front(place.supernet_id, name)["points"] for name in names}
    try:
        page = tab(place, accept_downloads=True).page
        visit(page, f"front?devices={','.join(names)}")
        page.get_by_role("slider").focus()
        page.keyboard.press("PageUp")
        budget = budget_of(page)
        address_holds(page, budget)
        other = tab(place).page
        other.goto(page.url)
        other.get_by_role("slider").wait_for()
        assert budget_of(other) == budget
        assert all(other.get_by_role("checkbox", name=name, exact=True).is_checked() for name in names)
        rows = other.get_by_role("table", name=re.compile("best network")).locator("tbody tr")
        assert (
            rows.all_inner_texts()
            == page.get_by_role("table", name=re.compile("best network"))
            .locator("tbody tr")
            .all_inner_texts()
        )
        with page.expect_download() as download:
            page.get_by_role("button", name="CSV").click()
        found = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
        for name in names:
            mine = [row for row in found if row["device"] == name]
            assert len(mine) == len(points[name])
            for row, point in zip(mine, points[name], strict=True):
                assert float(row["latency_ms"]) == pytest.approx(point["latency_ms"], rel=1e-4)
                assert float(row["accuracy"]) == pytest.approx(point["accuracy"], abs=1e-6)
        for kind in ("PNG", "SVG"):
            with page.expect_download() as download:
                page.get_by_role("button", name=kind).click()
            download.value.save_as(tmp_path / kind)
        drawn = PIL.Image.open(tmp_path / "PNG").convert("RGB")
        assert len(drawn.getcolors(1 << 20) or []) > 20, "not empty"
        assert (tmp_path / "SVG").read_text().count("<polyline") == len(names)
        page.get_by_role("button", name="Each of them on every device").click()
        page.get_by_role("table", name="each network on every device").wait_for()
        page.get_by_text(re.compile("Best for all|None of them keeps")).wait_for()
        shoot(page, "front-four")
        for one in (page, other):  # an open page would ask for the devices that are deleted next
            one.goto("about:blank")
    finally:
        with place.client() as service:
            for name in names[2:]:
                service.remove_device(name)


# -- 8, 9, 10: jobs -------------------------------------------------------------------------------------------


def test_8_no_event_is_lost_or_doubled_when_the_service_restarts(
    own_database: str, tab: Open, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    with running(folder, own_database) as stack:
        site, port = furnished(stack, folder, own_database), int(stack.url.rsplit(":", 1)[1])
        job, hands = queued(site), site.hands()
        hands.start(job)
        hands.step(job, "score_subnetworks")
        page = tab(site, expected=(*REFUSED, *NO_ANSWER)).page
        visit(page, f"jobs/{job}")
        page.get_by_text("step started").first.wait_for()
    hands.step(job, "score_subnetworks", elapsed_s=3.2)
    with running(folder, own_database, port=port):
        page.get_by_text("● live").wait_for(timeout=40_000)
        for number in range(3):
            hands.progress(job, 0.3 * number, f"part {number}")
        card = hands.deliver(job, site.supernet_id, "phone", 50.0, 41.0)
        hands.succeed(
            job, {"models": [{"id": card["id"], "device": "phone", "budget_ms": 50.0}], "failures": []}
        )
        page.get_by_role("heading", name="Result").wait_for(timeout=20_000)
        with site.client() as service:
            told = [e["sequence"] for e in service.events(job)]
        page.locator(".events:not(.log) li").nth(
            len(told) - 1
        ).wait_for()  # the last event may come a moment later
        assert events_shown(page) == told
        page.get_by_role("list", name="steps").get_by_text("3 s").wait_for()
        page.get_by_role("table", name="delivered networks").get_by_role("link", name="phone").click()
        page.get_by_text("Kept 50 ms: measured 41 ms").wait_for()


def test_9_cancel_ends_on_the_page_and_an_ended_job_says_so(place: Site, tab: Open) -> None:
    job = queued(place)
    page = tab(place).page
    visit(page, f"jobs/{job}")
    page.get_by_role("button", name="Cancel this job").click()
    page.get_by_role("heading").get_by_text("cancelled").wait_for()
    late = queued(place)
    stale = tab(place, log_in=True, expected=(*REFUSED, *NO_ANSWER)).page
    stale.route("**/v1/events", lambda route: route.abort())
    stale.reload()
    visit(stale, f"jobs/{late}")
    stale.get_by_role("button", name="Cancel this job").wait_for()
    with place.client() as service:
        service.cancel(late)
    stale.get_by_role("button", name="Cancel this job").click()
    stale.get_by_role("alert").get_by_text(re.compile("ended|cancelled")).first.wait_for()


@pytest.mark.parametrize(
    ("code", "detail", "action", "leads_to"),
    [
        ("infeasible_budget", "no network is that fast", "Choose another budget", "Front"),
        ("no_table", "the device has no table", "Measure the device", "Add a device"),
        ("needs_review", "its table needs a review", "Look at the table", "Devices"),
        ("too_few_networks", "seven more networks", "Measure more networks", "Devices"),
    ],
)
def test_10_a_failed_job_shows_cause_and_a_next_action_that_works(
    place: Site, tab: Open, code: str, detail: str, action: str, leads_to: str
) -> None:
    job, hands = queued(place), place.hands()
    hands.start(job)
    hands.fail(job, code, detail)
    page = tab(place).page
    visit(page, f"jobs/{job}")
    page.get_by_role("alert").get_by_text(detail).wait_for()
    page.get_by_role("link", name=action).click()
    page.get_by_role("heading", name=leads_to).first.wait_for()
    visit(page, f"jobs/{job}")
    page.get_by_role("link", name="Run it again with changes").click()
    page.get_by_role("slider").wait_for()
    assert budget_of(page) == 50.0


def test_10_quarantined_and_waiting_jobs_show_why_and_what_to_do(place: Site, tab: Open) -> None:
    job, hands = queued(place), place.hands()
    page = tab(place).page
    visit(page, f"jobs/{job}")
    page.get_by_text("none is alive").wait_for()
    shoot(page, "job-waiting")
    hands.start(job)
    hands.say(job, "Segmentation fault in the test", step="score_subnetworks", source="torch child")
    hands.fail(job, "quarantined", "Three attempts ended in a crash", JobState.QUARANTINED)
    page.get_by_text(re.compile("bespoke quarantine requeue")).wait_for()
    page.get_by_role("list", name="log").get_by_text("Segmentation fault in the test").wait_for()
    visit(page, "settings")
    page.get_by_role("table", name="quarantined jobs").get_by_text(
        "Three attempts ended in a crash"
    ).wait_for()
    visit(page, "")
    page.get_by_text("quarantined").first.wait_for()


# -- 11: the delivered network --------------------------------------------------------------------------------


def test_11_every_number_is_the_apis_the_file_is_the_cards_and_runs_as_the_page_says(
    place: Site, tab: Open, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job, hands = queued(place), place.hands()
    hands.start(job)
    card = hands.deliver(job, place.supernet_id, "phone", 50.0, 41.2345)
    matrix = {
        "devices": ["phone", "board"],
        "networks": [
            {
                "id": card["id"],
                "device": "phone",
                "budget_ms": 50.0,
                "latency_ms": {"phone": 40.1, "board": 201.3},
            }
        ],
    }
    hands.succeed(
        job,
        {
            "models": [{"id": card["id"], "device": "phone", "budget_ms": 50.0}],
            "failures": [],
            "matrix": matrix,
        },
    )
    page = tab(place, accept_downloads=True).page
    visit(page, f"models/{card['id']}")
    page.get_by_text("Kept 50 ms: measured 41.2 ms").wait_for()
    text = page.locator("main").inner_text()
    for shown in (
        "predicted 40 ms",
        "at most 43.3 ms",
        "95.56 %",
        "360 samples",
        "96.10 %",
        "95.80 %",
        "1.45 k",
        "14.4 k",
    ):
        assert shown in text, shown
    with page.expect_download() as download:
        page.get_by_role("button", name=re.compile("^Download ONNX")).click()
    download.value.save_as(tmp_path / "model.onnx")
    page.get_by_text("SHA-256 is the card's").wait_for()
    assert hashlib.sha256((tmp_path / "model.onnx").read_bytes()).hexdigest() == card["file"]["sha256"]
    (tmp_path / "run.py").write_text(page.locator("pre.snippet").inner_text())
    PIL.Image.new("L", (30, 20), 128).save(tmp_path / "digit.png")
    done = subprocess.run(
        [sys.executable, "run.py", "model.onnx", "digit.png"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert re.fullmatch(r"digit\.png \d\n", done.stdout), done.stderr
    rows = (
        page.get_by_role("table", name="latency of each network on each device")
        .locator("tbody tr")
        .all_inner_texts()
    )
    assert run(["--data-dir", str(place.data_dir), "jobs", "matrix", job, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["networks"][0]["latency_ms"]
    assert [f"{value:.3g} ms" for value in told.values()] == re.findall(r"[\d.]+ ms", rows[0])[1:]
    shoot(page, "network")
    held: list[Any] = []
    page.route("**/network?device=board", lambda route: held.append(route))  # noqa: PLW0108 (Playwright marks its handlers)
    beside = page.get_by_role("combobox", name="beside its cost on")
    beside.select_option("board")
    until(page, lambda: bool(held))
    with page.expect_event("requestfailed"):  # nobody waits for that answer any more
        beside.select_option("")
    page.unroute("**/network?device=board")
    beside.select_option("board")
    page.locator(".side h3", has_text="board").wait_for()
    shoot(page, "networks-beside")


def test_11_a_file_that_is_gone_says_whom_to_ask(place: Site, tab: Open) -> None:
    job, hands = queued(place), place.hands()
    hands.start(job)
    card = hands.deliver(job, place.supernet_id, "phone", 50.0, 41.2345)
    hands.succeed(job, {"models": [{"id": card["id"], "device": "phone", "budget_ms": 50.0}], "failures": []})
    page = tab(place, expected=("status of 503",)).page
    visit(page, f"models/{card['id']}")
    (kept,) = (place.data_dir / "artifacts").rglob(card["file"]["sha256"])
    kept.rename(kept.with_suffix(".away"))
    try:
        page.get_by_role("button", name=re.compile("^Download ONNX")).click()
        page.get_by_role("alert").get_by_text("bespoke doctor").wait_for()
    finally:
        kept.with_suffix(".away").rename(kept)
    page.get_by_role("button", name=re.compile("^Download ONNX")).click()
    page.get_by_text("SHA-256 is the card's").wait_for()


# -- 13, 14: who may what -------------------------------------------------------------------------------------


def test_13_a_key_that_may_only_read_sees_no_action_and_ends_with_its_key(place: Site, tab: Open) -> None:
    with place.client() as service:
        made = service.create_key("reader", ["catalog:read", "jobs:read", "devices:read", "models:read"])
    page = tab(place, log_in=False, expected=REFUSED).page
    page.get_by_label("key", exact=True).fill(made["key"])
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("● live").wait_for()
    visit(page, "front?devices=phone")
    page.get_by_role("slider").wait_for()
    assert not page.get_by_role("button", name=re.compile("^Search ")).is_visible()
    assert page.get_by_role("link", name="Keys").count() == 0
    status = page.evaluate(
        """async () => (await fetch('../v1/devices', {method: 'POST', body: '{}', headers: {
            'Content-Type': 'application/json', 'X-Bespoke-Proof': localStorage.getItem('bespoke-proof')}})).status"""
    )
    assert status == 403
    with place.client() as service:
        service.revoke_key(made["id"])
    revoked = time.monotonic()
    page.get_by_label("key", exact=True).wait_for()
    assert time.monotonic() - revoked < 3.0, "within a second, and the way to the page"


def test_14_hostile_texts_stay_texts_everywhere(place: Site, tab: Open) -> None:
    bad = "<img src=x onerror=alert(1)> \u202e\u05d0\u05d1 {{7*7}} ${7*7} " + "x" * 800
    bad = bad.replace(
        "\u202e", ""
    )  # the service takes no control characters; direction comes from the letters
    job, hands = queued(place), place.hands()
    with place.client() as service:
        service.add_device("hostile", CONTEXT, bad)
        service.name_job(job, name=bad[:128], note=bad[:900])
    hands.start(job)
    hands.say(job, bad * 12, step=bad[:40])
    hands.progress(job, 0.5, bad)
    hands.fail(job, "training_lost", bad)
    try:
        page = tab(place).page
        for where in ("devices/hostile", f"jobs/{job}", "jobs", ""):
            visit(page, where)
            page.get_by_text("<img src=x onerror=alert(1)>").first.wait_for()
            assert page.locator("main img").count() == 0
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1"), where
    finally:
        with place.client() as service:
            service.remove_device("hostile")


def test_14_no_other_origin_acts_for_a_session_and_no_secret_lies_about(place: Site, tab: Open) -> None:
    watched = tab(place)
    page = watched.page
    kept = page.evaluate(
        "JSON.stringify([document.documentElement.outerHTML, localStorage, sessionStorage, location.href])"
    )
    proof = page.evaluate("localStorage.getItem('bespoke-proof')")
    assert place.key() not in kept
    cookies = {c["name"]: c["value"] for c in page.context.cookies()}
    (cookie,) = cookies.values()
    assert cookie not in kept, "scripts cannot read it"
    base, device = place.url, {"name": "forged", "description": "", "context": CONTEXT}
    whole = {"X-Bespoke-Proof": proof, "Cookie": "; ".join(f"{k}={v}" for k, v in cookies.items())}
    attempts = {
        "cookie alone": {"Cookie": whole["Cookie"]},
        "proof alone": {"X-Bespoke-Proof": proof},
        "other site": {**whole, "Sec-Fetch-Site": "cross-site"},
        "other port": {**whole, "Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"},
        "other origin": {**whole, "Origin": "https://elsewhere.example"},
    }
    for name, headers in attempts.items():
        answer = httpx.post(f"{base}/v1/devices", json=device, headers=headers, trust_env=False)
        assert answer.status_code in (401, 403), name
    with place.client() as service:
        assert "forged" not in [d["name"] for d in service.devices()]
    for where in (
        "jobs/job_" + "0" * 32,
        "models/mod_" + "0" * 32,
        "devices/nobody",
        "supernets/sup_" + "0" * 32,
        "nowhere",
    ):
        watched.expected = REFUSED
        visit_any(page, where)
    logs = "".join(file.read_text(errors="replace") for file in (place.data_dir / "logs").iterdir())
    assert all(secret not in logs for secret in (proof, cookie, place.key()))


def visit_any(page: Any, where: str) -> None:
    """A page that is not there says so, and leads back."""
    page.evaluate("where => { location.hash = `#/${where}`; }", where)
    shown = page.locator(f'main[data-page="{where}"]')
    shown.get_by_role("alert").or_(shown.get_by_role("heading", name="No such page")).first.wait_for()
    shown.locator("a.button").first.wait_for()


# -- 15: everybody --------------------------------------------------------------------------------------------


def test_15_by_keyboard_alone_at_two_hundred_percent(place: Site, tab: Open) -> None:
    page = tab(
        place, viewport={"width": 640, "height": 400}, device_scale_factor=2, reduced_motion="reduce"
    ).page
    page.keyboard.press("g")
    page.keyboard.press("f")
    page.get_by_role("heading", name="Front", exact=True).wait_for()
    page.get_by_role("slider").wait_for()
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.getAttribute('role')") == "slider":
            break
    before = budget_of(page)
    page.keyboard.press("PageUp")
    assert budget_of(page) > before
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1")
    with place.client() as service:
        known = {job.id for job in service.jobs()}
    for _ in range(60):
        page.keyboard.press("Tab")
        if str(page.evaluate("document.activeElement.innerText")).startswith("Search "):
            break
    page.keyboard.press("Enter")
    page.get_by_text("none is alive").wait_for()
    with place.client() as service:
        (made,) = {job.id for job in service.jobs()} - known
        service.cancel(made)
    page.keyboard.press("?")
    page.get_by_role("dialog", name="keys").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog", name="keys").wait_for(state="detached")
    page.keyboard.press("/")
    page.get_by_role("searchbox", name="search by name or id").wait_for()
    page.keyboard.type("phone")
    page.get_by_role("dialog", name="search").get_by_role("link", name="phone").first.wait_for()


def test_15_a_dialog_opened_as_another_closes_stays_open(place: Site, tab: Open) -> None:
    page = tab(place).page
    page.keyboard.press("?")
    page.get_by_role("dialog", name="keys").wait_for()
    # Both in one task of the page: the event "close" of the first comes when the second is already asked for.
    page.evaluate("""() => {
        document.querySelector("dialog[aria-label=keys]").close();
        document.body.dispatchEvent(new KeyboardEvent("keydown", { key: "/", bubbles: true }));
    }""")
    page.get_by_role("searchbox", name="search by name or id").wait_for()
    page.wait_for_timeout(300)
    assert page.get_by_role("searchbox", name="search by name or id").is_visible()


def test_15_seven_tabs_at_once_all_answer(place: Site, tab: Open) -> None:
    page = tab(place).page
    tabs = [page] + [page.context.new_page() for _ in range(6)]
    for one in tabs[1:]:
        one.goto(f"{place.url}/ui/#/devices")
    for one in tabs[1:]:
        one.get_by_role("link", name="phone").wait_for()
        one.get_by_text("● live").wait_for()


def test_15_a_cloud_of_a_hundred_thousand_points_is_thinned_and_drawn(place: Site, tab: Open) -> None:
    page = tab(place).page
    size = 100_000
    values = [0.5 + 0.4 * ((i * 7919) % size) / size for i in range(size)]
    body = json.dumps({
        "name": "additive", "predicted": values, "measured": [v + 0.02 * math.sin(i) for i, v in enumerate(values)],
        "rmse": 0.014, "kendall_tau": 0.97,
    })  # fmt: skip
    page.route("**/predictor", lambda route: route.fulfill(body=body, content_type="application/json"))
    visit(page, f"supernets/{place.supernet_id}")
    page.get_by_role("img", name=re.compile("100000 networks")).wait_for()
    page.get_by_text("Each of 100000 networks").wait_for()
