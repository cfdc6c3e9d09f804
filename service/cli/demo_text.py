"""`bespoke demo --text`: the whole way once for networks that write, on this machine, by the real parts."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from latency_tables.agent.runtimes.setup import Setup
from service.cli.demo import DemoFailed, choose_budgets, keeps, searched, tended, trained_id, what_failed
from service.cli.local_agent import LocalAgent, ensure_device
from service.cli.models import latency_cells
from service.cli.pictures import draw_front
from service.cli.profile import THIS_MACHINE, measure, say_measured
from service.cli.screen import errors, follow, grid, percent, result, say
from service.cli.supervisor import Stack
from service.client import BespokeClient, find_access
from service.client.jobs import Json

SPACE: Final = "hat-small"
DATASET: Final = "pronunciations"
SENTENCE: Final = {"source_tokens": 9, "target_tokens": 8, "beam": 4}
"""A word of eight letters and seven phonemes, each with END: a little above the mean of the data set."""
WORDS: Final = 10
NETWORKS: Final = 20
"""Whole networks that are measured: an upper bound of 95 % needs 19."""
CANDIDATES, MEASURED = 3, 2  # a whole generation is measured for seconds, where a picture takes a tenth
_STEPS: Final = 6


@dataclass(frozen=True)
class Spoken:
    """A delivered network and what it wrote here for some words."""

    label: str
    card: Json
    file: Path
    answers: list[str]

    @property
    def kept(self) -> bool:
        return keeps(self.card)


def demo_text(data_dir: Path, recipe: str) -> None:
    """Profile this machine, train transformers that say how English words are spoken, deliver three of them.

    The delivered archives pronounce words that no training has seen. Raises DemoFailed where a network,
    measured on this machine, does not keep its budget.
    """
    started = time.monotonic()
    with tended(Stack(data_dir, port=0, log_dir=data_dir / "logs")) as stack:
        access = find_access(stack.url, data_dir=data_dir)
        with BespokeClient.from_access(access) as service:
            words = unseen_words()
            shown, points, failures = _walk(service, data_dir, recipe, words)
        _step(_STEPS, "results; the service stops:")
        _results(data_dir, shown, points, words)
        errors.print(f"[dim]{time.monotonic() - started:.0f} s in all.[/]")
    if complaint := what_failed(shown, failures):
        raise DemoFailed(complaint)


def unseen_words(count: int = WORDS) -> list[tuple[str, str]]:
    """(word, its phonemes), evenly spread over the test split of the built-in pronunciations."""
    from supernets.data.splits import evenly_spread
    from supernets.data.text.pronunciations import load_pronunciations

    texts = load_pronunciations().split("test").texts
    return [texts[row] for row in evenly_spread(len(texts), count)]


def _walk(
    service: BespokeClient, data_dir: Path, recipe: str, words: Sequence[tuple[str, str]]
) -> tuple[list[Spoken], list[Json], list[Json]]:
    """What was delivered, the front's points, and the budgets that no network kept."""
    _step(1, f"the service runs at {service.url}, logs in {data_dir / 'logs'}")
    ensure_device(service, THIS_MACHINE, Setup())
    with LocalAgent(service, THIS_MACHINE) as agent:
        _step(2, "this machine is measured: the parts of a sentence, then whole networks that write one")
        asked = ",".join(map(str, SENTENCE.values()))
        done = measure(service, agent, THIS_MACHINE, SPACE, None, NETWORKS, dataset=DATASET, generation=asked)
        say_measured(service, THIS_MACHINE, done)
        _step(3, "one super transformer is trained for all budgets")
        trained = follow(service, service.train_supernet(SPACE, DATASET, recipe, 0), "train")
        supernet = trained_id(trained.result)
        points = service.front(supernet, THIS_MACHINE, SENTENCE)["points"]
        budgets = choose_budgets(points)
        _step(4, "searching " + ", ".join(f"{label} {budget:g} ms" for label, budget in budgets.items()))
        request: Json = {
            "supernet": supernet,
            "generation": SENTENCE,
            "candidates": CANDIDATES,
            "measured_candidates": MEASURED,
        }
        cards, failures = searched(service, request, budgets)
    _step(5, f"the archives pronounce {len(words)} words that no training has seen")
    shown = [_spoken(service, data_dir, label, cards[label], words) for label in budgets if label in cards]
    return shown, points, failures


def _spoken(
    service: BespokeClient, data_dir: Path, label: str, card: Json, words: Sequence[tuple[str, str]]
) -> Spoken:
    from latency_tables.text_network import TextNetwork

    file = data_dir / f"{label}.zip"
    service.download_model(card["id"], file)
    (data_dir / f"{label}.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return Spoken(label, card, file, TextNetwork.open(file).translate([word for word, _ in words]))


def _results(
    data_dir: Path, shown: Sequence[Spoken], points: Sequence[Json], words: Sequence[tuple[str, str]]
) -> None:
    rows = [
        (
            item.label,
            *latency_cells(item.card),
            "[green]kept[/]" if item.kept else "[red]broken[/]",
            percent(item.card["accuracy"]["predicted"], 2),
            percent(item.card["accuracy"]["measured"], 2),
            f"{item.card['file']['size_bytes'] / 1024:.0f}",
        )
        for item in shown
    ]
    columns = (
        "budget", ">ms", ">predicted ms", ">upper ms", ">measured ms", "budget",
        ">predicted phoneme error", ">measured", ">size KiB",
    )  # fmt: skip
    grid("networks from one super transformer, on this machine", columns, rows)
    spoken = [
        (word, wanted, *(item.answers[number] for item in shown))
        for number, (word, wanted) in enumerate(words)
    ]
    grid("words of the test split", ("word", "wanted", *(item.label for item in shown)), spoken)
    picture = data_dir / "front.png"
    draw_front(picture, "This machine: every budget at once", points, [item.card for item in shown])
    for item in shown:
        say(f"{item.label:6}  {item.file}")
    say(f"picture {picture}")
    result(
        {
            "networks": [item.card for item in shown],
            "files": [str(item.file) for item in shown],
            "words": [
                {"word": word, "wanted": wanted, **{item.label: item.answers[n] for item in shown}}
                for n, (word, wanted) in enumerate(words)
            ],
            "picture": str(picture),
        }
    )


def _step(number: int, text: str) -> None:
    errors.print(f"[bold]{number}/{_STEPS}[/] {text}")
