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
KEPT: Final = "#cdeacb"
PARTLY: Final = "#fdeebd"
BROKEN: Final = "#f7c4b8"
UNKNOWN: Final = "#eceff3"

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

    The front's accuracy is the predictor's; a delivered network is drawn where it was measured, in latency on
    the device where an agent measured it and in accuracy on held-out data, with a line to what was predicted.
    """
    figure, (ax,) = new_figure()
    latency = [p["latency_ms"] for p in points]
    accuracy = [100 * p["accuracy"] for p in points]
    ax.step(latency, accuracy, where="post", color=BLUE, linewidth=2, label="front, predicted")
    upper = [(p["upper_ms"], 100 * p["accuracy"]) for p in points if p.get("upper_ms") is not None]
    if upper:
        ax.step(
            *zip(*upper, strict=True),
            where="post",
            color=BLUE,
            linewidth=1,
            linestyle=":",
            label="upper bound of the latency",
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
    ax.plot(
        [latency["predicted_ms"], measured_ms], [predicted, measured], color=ORANGE, linewidth=1, alpha=0.6
    )
    ax.plot(
        latency["predicted_ms"],
        predicted,
        "o",
        color="white",
        markeredgecolor=ORANGE,
        label="as predicted" if first else None,
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
    """Predicted latency of each network on each device, coloured by which budgets of that device it keeps."""
    from matplotlib.patches import Patch, Rectangle

    budgets = {d: sorted({n["budget_ms"] for n in networks if n["device"] == d}) for d in devices}
    left = 0.35 + 0.075 * max(len(_made_for(n)) for n in networks)
    size = (max(left + 1.05 * len(devices) + 0.3, 5.2), 1.65 + 0.34 * len(networks))
    figure, (ax,) = new_figure(*size)
    ax.grid(visible=False)
    for row, network in enumerate(networks):
        for column, device in enumerate(devices):
            value = network["latency_ms"].get(device)
            own = device == network["device"]
            ax.add_patch(
                Rectangle(
                    (column, row),
                    1,
                    1,
                    facecolor=_kept(value, budgets[device]),
                    edgecolor="white",
                    linewidth=2,
                )
            )
            ax.text(
                column + 0.5,
                row + 0.5,
                "-" if value is None else f"{value:.3g}",
                ha="center",
                va="center",
                color=INK,
                fontsize=9,
                fontweight="bold" if own else "normal",
            )
    ax.set_xlim(0, len(devices))
    ax.set_ylim(len(networks), 0)
    ax.xaxis.tick_top()
    ax.set_xticks(
        [n + 0.5 for n in range(len(devices))],
        [f"on {d}" for d in devices],
        rotation=0 if _short(devices) else 40,
    )
    for label in ax.get_xticklabels():
        label.set_horizontalalignment("center" if _short(devices) else "left")
    ax.set_yticks([n + 0.5 for n in range(len(networks))], [_made_for(n) for n in networks])
    ax.tick_params(length=0, labelcolor=INK, labelsize=9)
    for side in ax.spines.values():
        side.set_visible(False)
    figure.suptitle("predicted latency of each network on each device, in ms", fontsize=10, color=INK)
    names = ("keeps every budget there", "keeps some", "keeps none")
    if all(len(b) < 2 for b in budgets.values()):
        names = ("keeps the budget there", "", "breaks it")
    shown = [Patch(facecolor=c, label=n) for c, n in zip((KEPT, PARTLY, BROKEN), names, strict=True) if n]
    figure.legend(
        handles=shown, loc="outside lower center", ncols=3, frameon=False, fontsize=8, labelcolor=INK
    )
    save(figure, file)


def _made_for(network: Mapping[str, Any]) -> str:
    return f"for {network['device']}, {network['budget_ms']:.3g} ms"


def _short(devices: Sequence[str]) -> bool:
    return all(len(d) <= 9 for d in devices)


def _kept(latency_ms: float | None, budgets_ms: Sequence[float]) -> str:
    """Colour of a cell: how many of a device's budgets a latency keeps."""
    if latency_ms is None or not budgets_ms:
        return UNKNOWN
    kept = sum(latency_ms <= b for b in budgets_ms)
    return KEPT if kept == len(budgets_ms) else PARTLY if kept else BROKEN
