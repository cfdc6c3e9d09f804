"""Pictures of results, drawn with matplotlib into PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK: Final = "#1b2a41"
BLUE: Final = "#2f6fde"
ORANGE: Final = "#e4572e"
GREY: Final = "#8d99ae"

Point = Mapping[str, Any]


def new_figure(width: float = 8.0, height: float = 5.0, panels: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure without a window and its axes side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(1, panels, n + 1) for n in range(panels)]
    for ax in axes:
        ax.grid(visible=True, color="#e6e9ef", linewidth=0.8)
        ax.set_axisbelow(True)
        for side in ("top", "right"):
            ax.spines[side].set_visible(False)
    return figure, axes


def save(figure: Figure, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=130)


def draw_front(file: Path, title: str, points: Sequence[Point], models: Sequence[Mapping[str, Any]]) -> None:
    """The latency/accuracy front of one device, with the delivered networks (model cards) on it.

    The front's accuracy is the predictor's; a delivered network is drawn where it was measured, in latency on the
    device where an agent measured it and in accuracy on held-out data, with a line to what was predicted.
    """
    figure, (ax,) = new_figure()
    latency = [p["latency_ms"] for p in points]
    accuracy = [100 * p["accuracy"] for p in points]
    ax.step(latency, accuracy, where="post", color=BLUE, linewidth=2, label="front, predicted")
    upper = [(p["upper_ms"], 100 * p["accuracy"]) for p in points if p.get("upper_ms") is not None]
    if upper:
        ax.step(
            *zip(*upper, strict=True), where="post", color=BLUE, linewidth=1, linestyle=":", label="upper bound of the latency"
        )
    for number, card in enumerate(models):
        _draw_model(ax, card, first=number == 0)
    ax.set_xlabel("latency (ms)")
    ax.set_ylabel("accuracy (%)")
    ax.set_title(title, color=INK, loc="left")
    ax.set_ylim(top=min(100.4, ax.get_ylim()[1]))
    ax.legend(loc="lower right", frameon=True, framealpha=1.0, edgecolor="white")
    save(figure, file)


def _draw_model(ax: Axes, card: Mapping[str, Any], first: bool) -> None:
    """A delivered network: its budget as a line, predicted as a ring, measured as a dot."""
    latency, accuracy = card["latency"], card["accuracy"]
    measured_ms = latency.get("measured_ms") or latency["predicted_ms"]
    predicted, measured = 100 * accuracy["predicted"], 100 * accuracy.get("measured", accuracy["predicted"])
    ax.axvline(card["budget_ms"], color=GREY, linewidth=1, linestyle="--", label="budget" if first else None)
    ax.plot([latency["predicted_ms"], measured_ms], [predicted, measured], color=ORANGE, linewidth=1, alpha=0.6)
    ax.plot(
        latency["predicted_ms"], predicted, "o", color="white", markeredgecolor=ORANGE, label="as predicted" if first else None
    )
    ax.plot(
        measured_ms,
        measured,
        "o",
        color=ORANGE,
        markersize=8,
        label="delivered, on the device and held-out data" if first else None,
    )
    ax.annotate(
        f"{card['budget_ms']:.3g} ms",
        (card["budget_ms"], 0.99),
        xycoords=("data", "axes fraction"),
        xytext=(-3, -2),
        textcoords="offset points",
        rotation=90,
        ha="right",
        va="top",
        fontsize=8,
        color=GREY,
    )


def draw_matrix(file: Path, devices: Sequence[str], networks: Sequence[Mapping[str, Any]]) -> None:
    """Predicted latency of each network on each device, as times of its budget there; red is broken."""
    import numpy as np
    from matplotlib.colors import TwoSlopeNorm

    budgets: dict[str, float] = {}
    for network in networks:
        budgets[network["device"]] = max(network["budget_ms"], budgets.get(network["device"], 0.0))
    values = np.array([[n["latency_ms"].get(d) or np.nan for d in devices] for n in networks], dtype=float)
    shares = values / np.array([budgets.get(d, np.nan) for d in devices])
    figure, (ax,) = new_figure(2.5 + 1.2 * len(devices), 1.8 + 0.45 * len(networks))
    ax.grid(visible=False)
    ax.imshow(np.clip(shares, 0, 2), cmap="RdYlGn_r", norm=TwoSlopeNorm(1.0, 0.0, 2.0), aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        ax.text(column, row, "-" if np.isnan(value) else f"{value:.3g}", ha="center", va="center", color=INK, fontsize=9)
    ax.set_xticks(range(len(devices)), devices, rotation=30, ha="right")
    ax.set_yticks(range(len(networks)), [f"{n['device']}, {n['budget_ms']:.3g} ms" for n in networks])
    figure.suptitle("predicted ms of each network on each device\n(red: above the budget there)", fontsize=9, color=INK)
    save(figure, file)
