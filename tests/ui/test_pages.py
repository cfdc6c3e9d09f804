"""The pages in a real browser: logging in, the front under the cursor, orders, hostile texts, every page in
every form."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from tests.service.api import CONTEXT
from tests.ui.conftest import Site, Watched, shoot

pytestmark = pytest.mark.browser
Open = Callable[..., Watched]
REFUSED = (
    "status of 40",
    "status of 42",
)  # what the browser says of an answer that the page shows as trouble


def pages_of(site: Site) -> dict[str, str]:
    with site.client() as service:
        jobs = [job.id for job in service.jobs(limit=1)]
        devices = [d for d in service.devices() if d["table_id"]]
    found = {
        "home": "",
        "jobs": "jobs",
        "devices": "devices",
        "supernets": "supernets",
        "networks": "models",
        "keys": "keys",
        "add a device": "enrol",
    }
    found |= {
        "front": "front?devices=phone,board",
        "device": "devices/phone",
        "supernet": f"supernets/{site.supernet_id}",
        "connect": "enrol?name=board",
        "settings": "settings",
        "compare supernets": "compare",
        "compare tables": "compare?tables=" + ",".join(f"{d['name']}:{d['table_id']}" for d in devices),
    }
    return found | ({"job": f"jobs/{jobs[0]}"} if jobs else {})


def visit(page: Any, where: str) -> None:
    page.evaluate("where => { location.hash = `#/${where}`; }", where)
    page.locator("main h1").first.wait_for()


def address_holds(page: Any, budget: float) -> None:
    """The address follows the budget a moment later, so that a drag does not write it a hundred times."""
    for _ in range(100):
        if f"budget={budget}" in page.url:
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{page.url} does not hold the budget {budget}")


def budget_of(page: Any) -> float:
    return float(page.get_by_role("slider").get_attribute("aria-valuenow"))


def test_serves_own_link_logs_in_once_and_leaves_no_token(site: Site, tab: Open) -> None:
    address = site.login()
    first = tab(site, log_in=False)
    first.page.goto(address)
    first.page.reload()
    first.page.get_by_role("heading", name="Home").wait_for()
    assert "login" not in first.page.url
    second = tab(site, log_in=False, expected=REFUSED)
    second.page.goto(address)
    second.page.reload()
    second.page.get_by_label("key", exact=True).wait_for()
    third = tab(site, log_in=False, expected=REFUSED)
    third.page.goto("about:blank")
    third.page.goto(address)
    third.page.get_by_text("The link was used").or_(third.page.get_by_text("the link was used")).wait_for()
    first.page.get_by_role("button", name="log out").click()
    first.page.get_by_label("key", exact=True).wait_for()
    first.page.go_back()
    assert first.page.get_by_role("heading", name="Home").count() == 0


def test_a_key_logs_in_and_a_second_tab_stays_in(site: Site, tab: Open) -> None:
    watched = tab(site, log_in=False, expected=REFUSED)
    field = watched.page.get_by_label("key", exact=True)
    field.fill("bespoke_key_wrong")
    watched.page.get_by_role("button", name="Log in").click()
    watched.page.get_by_role("alert").get_by_text("not known here").wait_for()
    field.fill((site.data_dir / "owner.key").read_text().strip())
    watched.page.get_by_role("button", name="Log in").click()
    watched.page.get_by_role("button", name="log out").wait_for()
    key = (site.data_dir / "owner.key").read_text().strip()
    assert key not in watched.page.evaluate("JSON.stringify(localStorage) + document.cookie")
    again = watched.page.context.new_page()
    again.goto(f"{site.url}/ui/#/devices")
    again.get_by_role("link", name="phone").wait_for()


def test_newcomer_is_led_by_three_steps(empty_site: Site, tab: Open) -> None:
    page = tab(empty_site).page
    page.get_by_role("heading", name="Three steps to your first network").wait_for()
    page.get_by_text("bespoke profile").first.wait_for(state="attached")
    shoot(page, "home-empty")
    page.get_by_role("link", name="Add a device").first.click()
    page.get_by_label("name", exact=True).fill("shelf")
    page.get_by_role("button", name="Register it").click()
    page.get_by_role("button", name="Show me the two lines").click()
    page.get_by_text(
        re.compile(r"bespoke agent --server http://127.0.0.1:\d+ --token bespoke_enrol_")
    ).first.wait_for()
    page.get_by_text("The token works once, for another").wait_for()
    assert page.get_by_text("too old").count() == 0
    shoot(page, "enrol")
    visit(page, "front")
    page.get_by_text("No device has a latency table yet").wait_for()


def test_drag_keys_and_number_agree_and_the_picks_are_the_solvers(site: Site, tab: Open) -> None:
    page = tab(site).page
    visit(page, "front?devices=phone,board")
    slider = page.get_by_role("slider")
    slider.wait_for()
    with site.client() as service:
        fronts = {name: service.front(site.supernet_id, name)["points"] for name in ("phone", "board")}
    slider.focus()
    for key in ("ArrowRight", "PageUp", "ArrowLeft", "PageDown", "PageUp"):
        page.keyboard.press(key)
        budget = budget_of(page)
        text = slider.get_attribute("aria-valuetext")
        for name, points in fronts.items():
            best = max(
                (p["accuracy"] for p in points if (p["upper_ms"] or p["latency_ms"]) <= budget), default=None
            )
            shown = re.search(rf"{name}: ([\d.]+) %", text)
            assert (shown is None) == (best is None)
            assert best is None or shown is None or abs(float(shown[1]) - 100 * best) < 0.0051, (budget, text)
    before = budget_of(page)
    box = slider.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 150)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 120, box["y"] + 150, steps=5)
    page.mouse.up()
    assert budget_of(page) > before
    assert math.isclose(
        float(page.get_by_label("budget", exact=False).first.input_value()), budget_of(page), rel_tol=1e-6
    )
    page.locator(".network li").first.wait_for()
    shoot(page, "front")
    least = fronts["board"][0]["latency_ms"]
    page.get_by_role("spinbutton").first.fill(str(least / 2))
    page.keyboard.press("Enter")
    page.get_by_text("board cannot keep").wait_for()
    page.get_by_role("button", name=re.compile("^Take ")).first.click()
    assert budget_of(page) >= least


def test_a_copied_link_shows_the_same(site: Site, tab: Open) -> None:
    page = tab(site).page
    visit(page, "front?devices=phone,board")
    page.get_by_role("slider").focus()
    page.keyboard.press("PageUp")
    budget = budget_of(page)
    address_holds(page, budget)
    other = tab(site).page
    other.goto(page.url)
    other.get_by_role("slider").wait_for()
    assert budget_of(other) == budget
    assert all(other.get_by_role("checkbox", name=name).is_checked() for name in ("phone", "board"))


def test_search_submitted_with_a_double_click_is_one_job(site: Site, tab: Open) -> None:
    page = tab(site).page
    visit(page, "front?devices=phone")
    with site.client() as service:
        before = len(list(service.jobs()))
    page.get_by_role("button", name=re.compile("^Search ")).dblclick()
    page.get_by_text("none is alive").wait_for()
    with site.client() as service:
        jobs = list(service.jobs())
    assert len(jobs) == before + 1
    shoot(page, "job-waiting")
    page.get_by_role("button", name="Cancel this job").click()
    page.get_by_role("heading").get_by_text("cancelled").wait_for(timeout=5000)
    assert service_state(site, jobs[0].id) == "cancelled"


def service_state(site: Site, job_id: str) -> str:
    with site.client() as service:
        return service.job(job_id).state


def test_what_happens_elsewhere_is_shown_without_reloading(site: Site, tab: Open) -> None:
    page = tab(site).page
    visit(page, "devices")
    page.get_by_text("● live").wait_for()
    with site.client() as service:
        service.add_device("newcomer", CONTEXT, "")
    page.get_by_role("link", name="newcomer").wait_for(timeout=5000)
    with site.client() as service:
        service.remove_device("newcomer")


def test_a_key_that_may_only_read_sees_no_action_and_ends_with_its_key(site: Site, tab: Open) -> None:
    with site.client() as service:
        made = service.create_key("reader", ["catalog:read", "jobs:read", "devices:read", "models:read"])
    watched = tab(site, log_in=False, expected=REFUSED)
    page = watched.page
    page.get_by_label("key", exact=True).fill(made["key"])
    page.get_by_role("button", name="Log in").click()
    page.get_by_text("● live").wait_for()
    visit(page, "front?devices=phone")
    page.get_by_role("slider").wait_for()
    assert not page.get_by_role("button", name=re.compile("^Search ")).is_visible()
    assert page.get_by_role("link", name="Keys").count() == 0
    with site.client() as service:
        service.revoke_key(made["id"])
    page.get_by_label("key", exact=True).wait_for(timeout=5000)


def test_hostile_texts_stay_texts(site: Site, tab: Open) -> None:
    bad = "<img src=x onerror=alert(1)> \u05d0\u05d1 " + "x" * 900
    with site.client() as service:
        service.add_device("hostile", CONTEXT, bad)
    page = tab(site).page
    visit(page, "devices/hostile")
    page.get_by_text("<img src=x onerror=alert(1)>").wait_for()
    assert page.locator("main img").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    with site.client() as service:
        service.remove_device("hostile")


@pytest.mark.parametrize("form", ["light", "dark", "narrow"])
def test_every_page_has_no_finding_of_axe_and_no_sideways_scroll(site: Site, tab: Open, form: str) -> None:
    options = {"narrow": {"viewport": {"width": 390, "height": 844}}}.get(form, {"color_scheme": form})
    page = tab(site, reduced_motion="reduce", **options).page
    findings = {}
    for name, where in pages_of(site).items():
        visit(page, where)
        page.wait_for_timeout(700)
        shoot(page, f"{name.replace(' ', '-')}-{form}")
        if not page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1"):
            findings[name] = "scrolls sideways"
        if problems := axe(page):
            findings[f"{name}, axe"] = problems
    assert not findings, "\n".join(f"{page}: {what}" for page, what in findings.items())


def axe(page: Any) -> list[str]:
    """What axe finds, run over the DevTools protocol so that the page's own policy stays."""
    source = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
    tools = page.context.new_cdp_session(page)
    tools.send("Runtime.evaluate", {"expression": source})
    told = (
        "r.violations.map(v => `${v.id}: ${v.nodes[0].html.slice(0, 200)} "
        "${v.nodes[0].failureSummary.slice(0, 200)}`)"
    )
    run = f"axe.run(document, {{resultTypes: ['violations']}}).then(r => JSON.stringify({told}))"
    asked = {"expression": run, "awaitPromise": True}
    found: list[str] = json.loads(tools.send("Runtime.evaluate", asked)["result"]["value"])
    tools.detach()
    return found
