"""Pictures of what other benchmarks printed.

    python -m benchmarks.joint_search --prune > joint.json
    python -m benchmarks.pictures joint.json docs/pictures/joint-search.png

What is drawn follows from the keys: of `joint_search` the front with the chains below it, of
`mixed_precision` what each network gains all in int8 and mixed, of `pruning` accuracy by measured time.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from service.cli.pictures import BLUE, GREY, INK, ORANGE, new_figure, save

Found = Mapping[str, Any]


def joint_search(found: Found, file: Path) -> None:
    """The exact front over everything at once, and what the chains find at ten budgets."""
    lines = found["lines"]
    figure, (ax,) = new_figure()
    ax.step(
        lines["front_at_ms"], lines["front"], where="post", color=BLUE, linewidth=2, label="at once, exact"
    )
    for name, label, colour, marker in (
        ("chain", "one after the other, up to 1.4 times over the budget on the way", ORANGE, "o"),
        ("float_first", "one after the other, each step within the budget", GREY, "s"),
    ):
        points = [
            (ms, share)
            for ms, share in zip(lines["budget_ms"], lines[name], strict=True)
            if share is not None
        ]
        ax.plot(*zip(*points, strict=True), marker, color=colour, label=label, linestyle="none")
    asked = (
        "architecture, channels and precision"
        if found["pruned_on_the_front"]
        else "architecture and precision"
    )
    ax.set(
        xlabel="latency, ms",
        ylabel="score, % of the front's range",
        title=f"{found['space']} at {found['resolution']} px: {asked}, {found['networks']:.1e} networks",
    )
    ax.legend(loc="lower right", frameon=False)
    save(figure, file)


def mixed_precision(found: Found, file: Path) -> None:
    """Every network's gain over float32."""
    ms = np.array(found["ms"])
    ms = ms[np.argsort(ms[:, 0] / ms[:, 1])]
    figure, (ax,) = new_figure()
    for column, label, colour, marker in (
        (1, "all in int8", GREY, "s"),
        (2, "mixed, chosen by rows", BLUE, "o"),
    ):
        ax.plot(ms[:, 0] / ms[:, column], marker, color=colour, label=label, linestyle="none")
    ax.axhline(1, color=INK, linewidth=1)
    ax.set(
        xlabel=f"{len(ms)} random networks",
        ylabel="times as fast as in float32",
        title=f"{found['space']} at {found['resolution']} px, measured",
    )
    ax.set_xticks([])
    ax.legend(loc="upper left", frameon=False)
    save(figure, file)


def pruning(found: Found, file: Path) -> None:
    """Sub-networks and pruned ones, where they were measured; a panel for each seed."""
    figure, panels = new_figure(width=4.2 * len(found["seeds"]), height=4.0, panels=len(found["seeds"]))
    for ax, one in zip(panels, found["seeds"], strict=True):
        pruned = [row["pruned"] for row in one["rows"]]
        for rows, label, colour, marker in (
            (one["subs"], "smaller", GREY, "s-"),
            (pruned, "pruned", BLUE, "o"),
        ):
            ax.plot(
                [row["measured_ms"] for row in rows],
                [100 * row["accuracy"] for row in rows],
                marker,
                color=colour,
                label=label,
            )
        ax.set(xlabel="measured, ms", ylabel="test accuracy, %", title=f"seed {one['seed']}")
    panels[0].legend(loc="lower right", frameon=False)
    save(figure, file)


DRAWN: dict[str, Callable[[Found, Path], None]] = {
    "lines": joint_search,
    "mixed_over_int8": mixed_precision,
    "chain_score": pruning,
}
"""By a key that only that benchmark prints."""


def main() -> None:
    """Draw one file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("found", type=Path, help="what the benchmark printed")
    parser.add_argument("picture", type=Path, help="a PNG file")
    asked = parser.parse_args()
    found = json.loads(asked.found.read_text(encoding="utf-8"))
    draw = next((one for key, one in DRAWN.items() if key in found), None)
    if draw is None:
        raise SystemExit(
            f"{asked.found} has none of the keys {', '.join(DRAWN)}: nothing is drawn of that benchmark"
        )
    draw(found, asked.picture)
    print(json.dumps({"picture": str(asked.picture), "of": found["environment"]}))


if __name__ == "__main__":
    main()
