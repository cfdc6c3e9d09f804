"""Every page in a real browser: empty, in trouble, in both themes and narrow; answers that come too late.

What people do with the pages is in test_journeys.py."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from tests.service.api import CONTEXT, table_rows
from tests.ui.conftest import Site, Watched, shoot

pytestmark = pytest.mark.browser
Open = Callable[..., Watched]
NO_ANSWER = ("ERR_", "Failed to load resource")
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
    """Go there, and until that page is shown: the one before it has a heading too."""
    page.evaluate("where => { location.hash = `#/${where}`; }", where)
    page.locator(f'main[data-page="{where}"] h1').first.wait_for()


def address_holds(page: Any, budget: float) -> None:
    """The address follows the budget a moment later, so that a drag does not write it a hundred times."""
    for _ in range(100):
        if f"budget={budget}" in page.url:
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{page.url} does not hold the budget {budget}")


def budget_of(page: Any) -> float:
    return float(page.get_by_role("slider").get_attribute("aria-valuenow"))


def test_newcomer_is_led_by_three_steps(empty_site: Site, tab: Open) -> None:
    page = tab(empty_site).page
    page.get_by_role("heading", name="Three steps to your first network").wait_for()
    page.get_by_text("the same on the command line").first.click()
    page.get_by_text("bespoke profile").first.wait_for()
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
    with empty_site.client() as service:
        service.remove_device("shelf")


EMPTY = {  # page: what it says, and the way on
    "": ("Three steps to your first network", "Add a device"),
    "front": ("No supernet is trained yet", "Train one"),
    "jobs": ("No job was ordered yet", "Open the front"),
    "jobs?state=failed": ("No such jobs", "Open the front"),
    "devices": ("No device yet", "Add a device"),
    "supernets": ("None is trained yet", "Train"),
    "models": ("No network was delivered yet", "Open the front"),
    "compare": ("A trained supernet and a device with a table are needed", "Front"),
    "compare?tables=": ("Two tables are needed", "Devices"),
    "settings": ("No job crashed three times", ""),
}


def test_every_page_of_an_empty_service_says_so_and_leads_on(empty_site: Site, tab: Open) -> None:
    page = tab(empty_site).page
    for where, (says, leads) in EMPTY.items():
        visit(page, where)
        page.locator("main").get_by_text(says).first.wait_for()
        if leads:
            link, button = (page.locator("main").get_by_role(role, name=leads) for role in ("link", "button"))
            link.or_(button).first.wait_for()
    with empty_site.client() as service:
        service.add_device("bare", CONTEXT, "")
    visit(page, "devices/bare")
    page.get_by_text("It has no table yet: profile it with its agent, or import one.").wait_for()
    page.get_by_role("button", name="Profile what is missing").wait_for()
    with empty_site.client() as service:
        service.remove_device("bare")


def test_every_page_says_that_the_service_does_not_answer(site: Site, tab: Open) -> None:
    page = tab(site, expected=NO_ANSWER).page
    where_from = pages_of(site)
    visit(page, "")
    page.get_by_text("● live").wait_for()
    page.route("**/v1/**", lambda route: route.abort())
    with site.client() as service:
        service.add_device("unheard", CONTEXT, "")
    # The last known state stays, greyed, with its age.
    page.locator(".old").get_by_role("link", name="phone", exact=True).wait_for()
    page.get_by_role("alert").get_by_text("The service does not answer. Is it running?").first.wait_for()
    page.get_by_text("What you see is from").wait_for()
    page.get_by_text("database: ok, artifacts: ok").wait_for()  # which part is away, where one answers
    for name, where in where_from.items():
        if name == "add a device":
            continue  # a form, which says it when it is sent
        page.evaluate("where => { location.hash = `#/${where}`; }", where)
        trouble = page.locator(f'main[data-page="{where}"]').get_by_role("alert")
        trouble.get_by_text("The service does not answer. Is it running?").first.wait_for()
    visit(page, "enrol")
    page.get_by_label("name", exact=True).fill("nobody")
    page.get_by_label("runtime version").fill("1.0")
    page.get_by_role("button", name="Register it").click()
    page.get_by_role("alert").get_by_text("The service does not answer. Is it running?").wait_for()
    with site.client() as service:
        service.remove_device("unheard")


def test_a_table_under_review_is_said_with_its_finding_and_what_to_do(site: Site, tab: Open) -> None:
    rows = table_rows()
    rows[3] = {"operator": rows[3]["operator"], "median_ms": 1e-9}
    with site.client() as service:
        service.add_device("odd", CONTEXT, "")
        made = service.call("POST", "/v1/devices/odd/tables", json={"context": CONTEXT, "rows": rows}).json()
    assert made["state"] == "needs_review"
    page = tab(site, expected=REFUSED).page
    visit(page, "front?devices=odd")
    page.get_by_role("alert").get_by_text("review").first.wait_for()
    page.get_by_role("link", name="Look at odd").click()
    page.get_by_text("Its table needs a review, so nothing is predicted from it.").wait_for()
    page.get_by_role("heading", name="Findings").wait_for()
    page.get_by_text(rows[3]["operator"]).first.wait_for()
    page.get_by_text("bespoke tables accept odd 1").wait_for()
    visit(page, "devices")
    page.get_by_role("row", name=re.compile("odd")).get_by_text("needs review").wait_for()
    with site.client() as service:
        service.remove_device("odd")


# -- answers and events that come too late ---------------------------------------------------------------------


def test_a_late_answer_and_a_late_address_leave_the_next_page_alone(site: Site, tab: Open) -> None:
    page = tab(site).page
    visit(page, "front?devices=phone")
    page.get_by_role("slider").wait_for()
    held: list[Any] = []
    page.route("**/v1/searches", lambda route: held.append(route))  # noqa: PLW0108 (Playwright marks its handlers)
    page.get_by_role("button", name=re.compile("^Search ")).click()
    until(page, lambda: bool(held))
    page.get_by_role("slider").press("PageUp")  # the address follows 200 ms later
    visit(page, "devices")
    with page.expect_response("**/v1/searches") as answer:
        held[0].continue_()
    made = answer.value.json()["id"]
    page.wait_for_timeout(400)
    assert page.url.endswith("/ui/#/devices")
    page.get_by_role("heading", name="Devices").wait_for()
    with site.client() as service:
        service.cancel(made)


def test_a_refusal_of_a_session_that_ended_does_not_end_the_next_one(site: Site, tab: Open) -> None:
    page = tab(site, expected=REFUSED).page
    visit(page, "devices")
    held: list[Any] = []
    page.route("**/v1/limits", lambda route: held.append(route))  # noqa: PLW0108 (Playwright marks its handlers)
    visit(page, "enrol")  # asks for the limits
    until(page, lambda: bool(held))
    page.evaluate("localStorage.setItem('bespoke-proof', 'of the next session')")
    with page.expect_response("**/v1/limits"):
        held[0].fulfill(status=401, json={"title": "the session has ended", "status": 401})
    page.wait_for_timeout(300)
    assert page.get_by_role("button", name="Log in").count() == 0


def test_a_page_that_does_not_come_says_so_and_others_are_there_without_the_service(
    site: Site, tab: Open
) -> None:
    page = tab(site, log_in=False, expected=NO_ANSWER).page
    page.route("**/pages/enrol.js", lambda route: route.abort())
    page.goto(site.login())
    page.reload()
    page.get_by_role("button", name="log out").wait_for()
    page.evaluate("location.hash = '#/enrol'")
    page.get_by_role("alert").get_by_text("This page could not be loaded").wait_for()
    page.unroute("**/pages/enrol.js")
    page.get_by_role("button", name="Reload").click()
    page.get_by_role("heading", name="Add a device").wait_for()
    # Two seconds after the first page all others are there.
    page.wait_for_timeout(2500)
    page.route("**/ui/**", lambda route: route.abort())
    for where in ("compare", "keys", "supernets"):
        visit(page, where)


# -- what a budget limits besides the latency ------------------------------------------------------------------


def test_limits_on_p95_and_energy_are_ordered_repeated_and_on_the_card(site: Site, tab: Open) -> None:
    rows = [{**row, "energy_mj": row["median_ms"] / 10} for row in table_rows()]
    with site.client() as service:
        service.add_device("meter", CONTEXT, "")
        service.call("POST", "/v1/devices/meter/tables", json={"context": CONTEXT, "rows": rows})
    page = tab(site, expected=REFUSED).page
    visit(page, "front?devices=meter")
    page.get_by_text("limits, precision, pruning, confidence, verification, fine-tuning").click()
    page.get_by_label("p95, ms").fill("50")
    page.get_by_role("button", name=re.compile("^Search .* within its latency p95 ms")).click()
    page.get_by_role("alert").get_by_text(re.compile("measured with their p95")).first.wait_for()
    page.get_by_label("p95, ms").fill("")
    page.get_by_label("energy, mJ").fill("12.5")
    page.get_by_role("button", name=re.compile("^Search .* within its energy mj")).click()
    page.get_by_text("none is alive").wait_for()
    job = page.url.rsplit("/", 1)[1]
    with site.client() as service:
        assert service.job_request(job)["request"]["targets"][0]["budget"]["energy_mj"] == 12.5
    page.get_by_text("the same on the command line").click()
    page.get_by_text(re.compile("bespoke search .* --energy-mj 12.5")).wait_for()
    page.get_by_role("link", name="Run it again with changes").click()
    assert page.get_by_label("energy, mJ").input_value() == "12.5"
    hands = site.hands()
    hands.start(job)
    limits = {"latency_p95_ms": (48.0, 45.0), "energy_mj": (12.5, 2.25)}
    card = hands.deliver(job, site.supernet_id, "meter", 50.0, 41.0, limits)
    hands.succeed(job, {"models": [{"id": card["id"], "device": "meter", "budget_ms": 50.0}], "failures": []})
    visit(page, f"models/{card['id']}")
    page.get_by_text(
        "Kept 50 ms: measured 41 ms, latency p95 45 ms of 48 ms, energy 2.25 mJ of 12.5 mJ."
    ).wait_for()
    text = page.locator("main dl").first.inner_text()
    assert "half of all runs within 42 ms, 19 of 20 within 45 ms" in text
    assert "predicted 44.1 ms, at most 47.3 ms, measured 45 ms of 48 ms" in text
    over = hands.deliver(job, site.supernet_id, "meter", 50.0, 41.0, {"latency_p95_ms": (48.0, 52.0)})
    visit(page, f"models/{over['id']}")
    page.get_by_text("Broke 50 ms: measured 41 ms, latency p95 52 ms of 48 ms.").wait_for()
    with site.client() as service:
        for made in (card, over):
            service.call("DELETE", f"/v1/models/{made['id']}")
        service.remove_device("meter")


def until(page: Any, sign: Callable[[], bool]) -> None:
    for _ in range(600):
        if sign():
            return
        page.wait_for_timeout(50)
    raise AssertionError("it did not come")


def test_what_an_order_asked_for_is_in_its_form_again_or_is_said_to_be_missing(site: Site, tab: Open) -> None:
    with site.client() as service:
        target = {"device": "phone", "budget": {"latency_ms": 50.0}, "exclude": {"kernel": [7]}}
        order = {"supernet": site.supernet_id, "targets": [target], "verify": False, "robustness": True}
        job = service.search(order).id
    page = tab(site, expected=REFUSED).page
    visit(page, f"jobs/{job}")
    page.get_by_text("Neither the form nor the command has its exclude: say that again.").wait_for()
    page.get_by_text("the same on the command line").click()
    page.get_by_text(re.compile("bespoke search .* --robustness")).wait_for()
    page.get_by_role("link", name="Run it again with changes").click()
    assert page.get_by_label("test it on pictures changed to deceive it").is_checked()
    assert not page.get_by_label("measure it on the device").is_checked()
    page.get_by_label("blocks in").select_option("mixed")
    page.get_by_role("button", name=re.compile("^Search ")).click()
    page.get_by_role("alert").get_by_text(re.compile("int8")).first.wait_for()
    page.get_by_text("the same on the command line").click()
    page.get_by_text(re.compile("--precision mixed")).first.wait_for()


def test_the_command_of_a_profile_and_of_a_training_says_all_that_was_asked_for(
    site: Site, tab: Open
) -> None:
    with site.client() as service:
        service.add_device("shelf-board", CONTEXT, "")
        asked = {
            "space": "digits-mbv3",
            "resolutions": [8, 16],
            "precisions": ["float32", "int8"],
            "prune": True,
        }
        profile = service.profile_as("shelf-board", asked).id
        body = {"space": "digits-mbv3", "dataset": "digits", "recipe": "quick", "seed": 7, "memory_mb": 900}
        training = service.call("POST", "/v1/supernets", json={**body, "class_weights": "auto"}).json()["id"]
    page = tab(site, expected=REFUSED).page
    said = {
        profile: "bespoke profile --device shelf-board --elsewhere --space digits-mbv3 "
        "--resolution 8 --resolution 16 --precision mixed --prune",
        training: "bespoke supernets train digits-mbv3 digits --recipe quick --seed 7 "
        "--class-weights auto --memory-mb 900",
    }
    for job, command in said.items():
        visit(page, f"jobs/{job}")
        page.get_by_text("the same on the command line").click()
        page.get_by_text(command, exact=True).wait_for()
    with site.client() as service:
        for job in said:
            service.cancel(job)
        service.remove_device("shelf-board")


def test_what_happens_elsewhere_is_shown_without_reloading(site: Site, tab: Open) -> None:
    page = tab(site).page
    visit(page, "devices")
    page.get_by_text("● live").wait_for()
    with site.client() as service:
        service.add_device("newcomer", CONTEXT, "")
    page.get_by_role("link", name="newcomer").wait_for()
    page.wait_for_timeout(
        2500
    )  # what the page asked once more after its line was there is not what is tested
    with site.client() as service:
        service.remove_device("newcomer")
    page.get_by_role("link", name="newcomer").wait_for(state="detached")


@pytest.mark.parametrize("form", ["light", "dark", "narrow"])
def test_every_page_has_no_finding_of_axe_and_no_sideways_scroll(site: Site, tab: Open, form: str) -> None:
    options = {"narrow": {"viewport": {"width": 390, "height": 844}}}.get(form, {"color_scheme": form})
    page = tab(site, reduced_motion="reduce", **options).page
    findings = {}
    for name, where in pages_of(site).items():
        visit(page, where)
        settled(page)
        shoot(page, f"{name.replace(' ', '-')}-{form}")
        if not page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1"):
            findings[name] = "scrolls sideways"
        if problems := axe(page):
            findings[f"{name}, axe"] = problems
    assert not findings, "\n".join(f"{page}: {what}" for page, what in findings.items())


def settled(page: Any) -> None:
    """Until everything that the page asked for is on it."""
    until(page, lambda: page.locator("main .loading").count() == 0)
    page.wait_for_timeout(100)


def axe(page: Any) -> list[str]:
    """What axe finds, run over the DevTools protocol so that the page's own policy stays."""
    tools = page.context.new_cdp_session(page)
    if not page.evaluate("'axe' in window"):
        source = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
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
