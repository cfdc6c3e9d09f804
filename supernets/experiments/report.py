"""The report of a supernet's controls as JSON, Markdown and a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from supernets.tasks.metric import Metric

if TYPE_CHECKING:
    from supernets.experiments.controls import Controls
    from supernets.experiments.ranking import Ranks


def as_json(found: Controls) -> dict[str, Any]:
    """Plain values; networks by the metric's values, differences in points (or its unit)."""
    value = found.metric.value
    return {
        "space": found.space,
        "metric": found.metric.to_json(),
        "dataset": found.dataset,
        "recipe": found.recipe,
        "seed": found.seed,
        "steps": found.steps,
        "loss_points": found.loss_points,
        "tune_epochs": found.tune_epochs,
        "tuned_loss_points": found.tuned_loss_points,
        "shrinking_gain_points": found.shrinking_gain_points,
        "against": found.against,
        "predictor": {
            "rmse": found.predictor.rmse,
            "kendall_tau": found.predictor.kendall_tau,
            "networks": found.scored,
        },
        "ranking": None if found.ranking is None else found.ranking.to_json(),
        "seconds": {
            "supernet": found.supernet_seconds,
            "scoring": found.score_seconds,
            "one_more_target": found.target_seconds,
            "one_network_alone": sum(c.alone_seconds for c in found.networks) / len(found.networks),
        },
        "networks": [
            {
                "digest": c.architecture.digest,
                "architecture": c.described,
                "resolution": c.architecture.resolution,
                "macs": c.macs,
                "predicted": value(c.predicted),
                "supernet": value(c.supernet),
                "without_shrinking": None if c.without_shrinking is None else value(c.without_shrinking),
                "alone": value(c.alone),
                "tuned": None if c.tuned is None else value(c.tuned),
                "tuned_seconds": c.tuned_seconds,
            }
            for c in found.networks
        ],
    }


_COLUMNS: Final = {
    "predicted": "predicted",
    "supernet": "sub-network",
    "tuned": "fine-tuned",
    "without_shrinking": "without shrinking",
    "alone": "alone",
}


def as_markdown(found: Controls) -> str:
    """One page: what was found, then the table."""
    data = as_json(found)
    seconds, gain = data["seconds"], data["shrinking_gain_points"]
    scale, unit = found.metric.scale, _unit(found)
    shown = {
        key: name for key, name in _COLUMNS.items() if all(row[key] is not None for row in data["networks"])
    }
    sign = " %" if scale == 100 else ""
    lines = [
        f"# Controls: {found.space} on {found.dataset}, recipe {found.recipe}, seed {found.seed}",
        "",
        f"Values are those of the test split. {_steps(found)}",
        "",
        (
            f"- sub-networks against the same networks trained alone: {-data['loss_points']:+.2f}{unit} on "
            "average"
        ),
        *_tuned(found),
        (f"- the recipe against {found.against}: {'not run' if gain is None else f'{gain:+.2f}{unit}'}"),
        f"- quality predictor, held out on {found.scored} scored sub-networks: RMSE "
        f"{scale * found.predictor.rmse:.2f}{unit}, Kendall tau {found.predictor.kendall_tau:.2f}",
        *_ranked(found),
        f"- one more target device: {seconds['one_more_target']:.3f} s of search; training one network for "
        f"it alone: {seconds['one_network_alone']:.0f} s",
        "",
        "| " + " | ".join(["million MACs", found.condition, *(shown[key] + sign for key in shown)]) + " |",
        "|" + "---:|" * (2 + len(shown)),
    ]
    for row in data["networks"]:
        cells = [
            f"{row['macs'] / 1e6:.2f}",
            str(row["resolution"]),
            *(f"{scale * row[key]:.2f}" for key in shown),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _unit(found: Controls) -> str:
    return " points" if found.metric.scale == 100 else f" of {found.metric.label}"


def _steps(found: Controls) -> str:
    if not found.tune_epochs:
        return f"Every network was trained with {found.steps} steps of the same batches."
    return (
        f"The supernet was trained with {found.steps} steps; fine-tuning adds {found.tune_epochs} epochs, "
        "and networks alone have all of these steps."
    )


def _ranked(found: Controls) -> list[str]:
    """How well networks are ranked by their loss and by what they write; nothing where they write nothing."""
    ranking = found.ranking
    if ranking is None:
        return []

    def said(name: str, ranks: Ranks) -> str:
        if ranks.spearman is None or ranks.kendall is None:
            return f"{name} all alike"
        return f"{name} Spearman {ranks.spearman:.2f}, Kendall {ranks.kendall:.2f}"

    told = (
        said("by the score on validation", ranking.score_on_test),
        said("by the loss on validation", ranking.loss_on_test),
    )
    return [f"- order on test of {ranking.networks} random sub-networks: {'; '.join(told)}"]


def _tuned(found: Controls) -> list[str]:
    """What fine-tuning leaves of the loss, and what it costs; nothing where it was not asked for."""
    if found.tuned_loss_points is None:
        return []
    seconds = sum(c.tuned_seconds or 0.0 for c in found.networks) / len(found.networks)
    return [
        f"- the same after fine-tuning: {-found.tuned_loss_points:+.2f}{_unit(found)}, "
        f"{seconds:.0f} s a network"
    ]


def as_picture(data: Mapping[str, Any], path: Path) -> None:
    """The metric over MACs of `as_json`'s form, one line for each way of training; PNG."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - a second to import
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter  # noqa: PLC0415

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes, metric = figure.add_subplot(), Metric.from_json(data["metric"])
    ordered = sorted(data["networks"], key=lambda network: network["macs"])
    macs = [network["macs"] / 1e6 for network in ordered]
    for key, style, label in (
        ("supernet", "o-", "sub-network of the supernet"),
        ("tuned", "D-.", "sub-network, fine-tuned"),
        ("alone", "s--", "trained alone"),
        ("without_shrinking", "^:", "without shrinking"),
    ):
        if all(network.get(key) is not None for network in ordered):
            axes.plot(macs, [metric.scale * network[key] for network in ordered], style, label=label)
    axes.set(xscale="log", xlabel="million multiply-accumulates", ylabel=f"test {metric.label}")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_title(f"{data['space']} on {data['dataset']}: {data['recipe']}, seed {data['seed']}")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=150)


def write_report(found: Controls, folder: Path) -> list[Path]:
    """report.json, report.md and report.png in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"report.{ending}" for ending in ("json", "md", "png")]
    paths[0].write_text(json.dumps(as_json(found), indent=1), encoding="utf-8")
    paths[1].write_text(as_markdown(found), encoding="utf-8")
    as_picture(as_json(found), paths[2])
    return paths
