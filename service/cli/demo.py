"""`bespoke demo`: the whole way once, on this machine, through the real parts."""

from __future__ import annotations

import json
import threading
import time
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Protocol

import numpy as np
import typer

from latency_tables.agent.runtimes.setup import Setup
from latency_tables.errors import BespokeError
from service.cli.local_agent import LocalAgent, ensure_device
from service.cli.models import accuracy_cells, latency_cells
from service.cli.pictures import draw_front
from service.cli.profile import THIS_MACHINE, measure, say_measured
from service.cli.screen import errors, follow, grid, percent, result, say
from service.cli.serve import one_time_link
from service.cli.supervisor import Stack
from service.client import BespokeClient, JobUnfinished, find_access
from service.client.jobs import Json

SPACE: Final = "digits-mbv3"
DATASET: Final = "digits"
SHARES: Final = {"tight": 0.08, "middle": 0.5, "loose": 0.92}  # of the reachable range, from its lower end
_STEPS: Final = 6
_TRIES: Final = 3


class DemoFailed(BespokeError):
    """The demonstration could not be shown to its end."""


@dataclass(frozen=True)
class Shown:
    """A delivered network and how it did here. correct: share of unseen digits."""

    label: str
    card: Json
    file: Path
    correct: float

    @property
    def kept(self) -> bool:
        return keeps(self.card)


def demo(
    data_dir: Annotated[
        Path | None,
        typer.Option(
            help="Folder for everything; kept, so that a second run is quick; left out: demo, or demo-text."
        ),
    ] = None,
    text: Annotated[
        bool,
        typer.Option("--text", help="Networks that write: how English words are spoken, instead of digits."),
    ] = False,
    recipe: Annotated[
        str, typer.Option(help="Training recipe; standard takes three times as long.")
    ] = "quick",
    open_pages: Annotated[
        bool, typer.Option("--open", help="Leave the service running and open its pages, until Ctrl-C.")
    ] = False,
) -> None:
    """Show everything once: profile this machine, train a supernet on handwritten digits, deliver three
    networks.

    Starts the service on a free port with its data in a folder, measures this machine with the real agent,
    searches a tight, a middle and a loose latency budget, runs the ONNX files on digits they have never seen
    and stops the service. Exit status 0 only if every network, measured on this machine, keeps its budget.

    Example: [cyan]bespoke demo[/]  about ten minutes on two cores; a minute the second time

    Example: [cyan]bespoke demo --text[/]  transformers that pronounce words; four to twenty minutes
    """
    if text:
        from service.cli.demo_text import demo_text

        if open_pages:
            raise typer.BadParameter("--open is of the demonstration with pictures; leave --text out")
        demo_text(data_dir or Path("demo-text"), recipe)
        return
    data_dir, started = data_dir or Path("demo"), time.monotonic()
    with tended(Stack(data_dir, port=0, log_dir=data_dir / "logs")) as stack:
        access = find_access(stack.url, data_dir=data_dir)
        with BespokeClient.from_access(access) as service:
            shown, points, failures = _walk(service, data_dir, recipe)
        _step(_STEPS, "results:" if open_pages else "results; the service stops:")
        _results(data_dir, shown, points)
        errors.print(f"[dim]{time.monotonic() - started:.0f} s in all.[/]")
        if open_pages:
            stay(stack.url, data_dir)
    if not open_pages:
        errors.print(
            f"[dim]Look around: `bespoke serve --data-dir {data_dir}`, then "
            f"`bespoke --data-dir {data_dir} open`: its pages, with this front under the cursor.[/]"
        )
    if complaint := what_failed(shown, failures):
        raise DemoFailed(complaint)


def _results(data_dir: Path, shown: Sequence[Shown], points: Sequence[Json]) -> None:
    _print(shown)
    picture = data_dir / "front.png"
    draw_front(picture, "This machine: every budget at once", points, [s.card for s in shown])
    for item in shown:
        say(f"{item.label:6}  {item.file}")
    say(f"picture {picture}")
    result(
        {"networks": [s.card for s in shown], "files": [str(s.file) for s in shown], "picture": str(picture)}
    )


def stay(url: str, data_dir: Path) -> None:
    """Show the pages in a browser, logged in, and leave the service running until Ctrl-C."""
    address = one_time_link(url, data_dir)
    if not webbrowser.open(address):
        say(address)
    errors.print(f"The service runs at {url}/ui/ until you press Ctrl-C.")
    with suppress(KeyboardInterrupt):
        threading.Event().wait()


class Kept(Protocol):
    """A network that was shown."""

    @property
    def kept(self) -> bool:
        """Whether it kept its budget when it was measured."""
        ...


def what_failed(shown: Sequence[Kept], failures: Sequence[Json]) -> str:
    """Why this machine was shown less than was asked for, and what to do; empty where every budget was kept.

    failures: the targets without a network, as the result of the search job lists them.
    """
    problems = [failure["error"]["detail"] for failure in failures]
    if not all(s.kept for s in shown):
        problems.append("a network did not keep its budget when it was measured")
    if not problems:
        return ""
    return (
        f"{'; '.join(problems)}, in {_TRIES} searches, each of which knew what the ones before had measured"
    )


def _walk(service: BespokeClient, data_dir: Path, recipe: str) -> tuple[list[Shown], list[Json], list[Json]]:
    """What was delivered, the front's points, and the budgets that no network kept, as the job's result says
    them."""
    _step(1, f"the service runs at {service.url}, logs in {data_dir / 'logs'}")
    ensure_device(service, THIS_MACHINE, Setup())
    with LocalAgent(service, THIS_MACHINE) as agent:
        _step(2, "this machine is measured: operators first, then whole networks")
        say_measured(service, THIS_MACHINE, measure(service, agent, THIS_MACHINE, SPACE))
        _step(3, "one supernet is trained for all budgets")
        trained = follow(service, service.train_supernet(SPACE, DATASET, recipe, 0), "train")
        supernet = trained_id(trained.result)
        points = service.front(supernet, THIS_MACHINE)["points"]
        budgets = choose_budgets(points)
        _step(4, "searching " + ", ".join(f"{label} {budget:g} ms" for label, budget in budgets.items()))
        cards, failures = searched(service, {"supernet": supernet}, budgets)
    _step(5, "running the ONNX files on digits that no training has seen")
    return (
        [_run(service, data_dir, label, cards[label]) for label in budgets if label in cards],
        points,
        failures,
    )


def searched(
    service: BespokeClient, request: Json, budgets: dict[str, float]
) -> tuple[dict[str, Json], list[Json]]:
    """(label -> card, targets that have no network); what broke its budget is searched again, knowing what
    was measured. request: of a search, but for its targets."""
    cards: dict[str, Json] = {}
    failures: list[Json] = []
    for attempt in range(_TRIES):
        wanted = {label: ms for label, ms in budgets.items() if label not in cards or not keeps(cards[label])}
        if not wanted:
            break
        if attempt:
            errors.print(
                f"searching again for {', '.join(wanted)}: what was measured corrects the predictions now"
            )
        targets = [{"device": THIS_MACHINE, "budget": {"latency_ms": ms}} for ms in wanted.values()]
        try:
            done = follow(service, service.search({**request, "targets": targets}), "search")
        except JobUnfinished as failed:
            failures = [{"error": {"detail": str(failed)}}]
            continue
        failures = done.result["failures"]
        by_budget = {
            card["budget_ms"]: card for card in (service.model(m["id"]) for m in done.result["models"])
        }
        cards |= {label: by_budget[ms] for label, ms in wanted.items() if ms in by_budget}
    return cards, failures


def keeps(card: Json) -> bool:
    """Whether a network kept its budget when it was measured."""
    latency = card["latency"]
    return bool(latency.get("verified")) and latency["measured_ms"] <= card["budget_ms"]


def trained_id(result: Json) -> str:
    """Id of the supernet that a training job made."""
    return str(result.get("supernet_id") or (result.get("supernet") or {})["id"])


def choose_budgets(points: Sequence[Json]) -> dict[str, float]:
    """A tight, a middle and a loose budget in ms, three digits each, from the range that can be promised.

    points: the front; its upper bounds are used where enough networks were measured for them.
    """
    reach = [p["latency_ms"] if p.get("upper_ms") is None else p["upper_ms"] for p in points]
    low, high = min(reach), max(reach)
    return {label: float(f"{low + share * (high - low):.3g}") for label, share in SHARES.items()}


def _run(service: BespokeClient, data_dir: Path, label: str, card: Json) -> Shown:
    file = data_dir / f"{label}.onnx"
    service.download_model(card["id"], file)
    (data_dir / f"{label}.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return Shown(label, card, file, held_out_accuracy(file))


def held_out_accuracy(file: Path) -> float:
    """Share of the test digits that the network in the file gets right, run by ONNX Runtime."""
    import onnxruntime

    from supernets.data.catalog import load_digits

    session = onnxruntime.InferenceSession(file.read_bytes(), providers=["CPUExecutionProvider"])
    feed = session.get_inputs()[0]
    data = load_digits()
    # The split that neither training nor search has seen; fed as any consumer would.
    images = data.inputs("test", int(feed.shape[-1]))
    batch = feed.shape[0] if isinstance(feed.shape[0], int) else len(images)
    right = 0
    for start in range(0, len(images) - batch + 1, batch):
        logits = session.run(None, {feed.name: images[start : start + batch]})[0]
        right += int((np.argmax(logits, axis=1) == data.test.labels[start : start + batch]).sum())
    return right / (len(images) // batch * batch)


def _print(shown: Sequence[Shown]) -> None:
    rows = []
    for item in shown:
        predicted, _ = accuracy_cells(item.card)
        verdict = (
            "[green]kept[/]"
            if item.kept
            else "[red]broken[/]"
            if item.card["latency"].get("measured_ms")
            else "[red]not measured[/]"
        )
        rows.append(
            (
                item.label,
                *latency_cells(item.card),
                verdict,
                predicted,
                percent(item.correct, 2),
                f"{item.card['file']['size_bytes'] / 1024:.0f}",
            )
        )
    columns = (
        "budget", ">ms", ">predicted ms", ">upper ms", ">measured ms", "budget",
        ">predicted acc.", ">measured acc.", ">size KiB",
    )  # fmt: skip
    grid("networks from one supernet, on this machine", columns, rows)


@contextmanager
def tended(stack: Stack) -> Iterator[Stack]:
    """A running stack whose workers are restarted in the background while the caller does something else."""
    over = threading.Event()

    def tend() -> None:
        while not over.wait(0.5):
            try:
                stack.tend()
            except BespokeError as error:
                errors.print(str(error))
                return

    with stack:
        keeper = threading.Thread(target=tend, name="tend", daemon=True)
        keeper.start()
        try:
            yield stack
        finally:
            over.set()
            keeper.join()


def _step(number: int, text: str) -> None:
    errors.print(f"[bold]{number}/{_STEPS}[/] {text}")
