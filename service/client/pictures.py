"""HTML and SVG of answers, for notebooks: no script, no style sheet, every text escaped."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_WIDTH: Final = 560
_HEIGHT: Final = 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 14, 36


@dataclass(frozen=True)
class Line:
    """A named curve; xs in ms, ys in percent, both ascending."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]
    faint: bool = False


def facts(title: str, told: Mapping[str, object], more: str = "") -> str:
    """A heading, then names and values; what is None is left out. more: HTML of ours."""
    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(str(value))}</td></tr>'
        for name, value in told.items()
        if value is not None
    )
    return f"<div><b>{escape(title)}</b>{more}<table>{rows}</table></div>"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows under their column names."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(_cell(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    return "–" if value is None else str(value)


def bar(share: float) -> str:
    """Progress, 0 to 1."""
    width = round(200 * min(1.0, max(0.0, share)))
    return (
        f'<svg width="200" height="12" role="img" aria-label="{round(100 * share)} %"><rect width="200" height="12" rx="3" '
        f'fill="#8885"/><rect width="{width}" height="12" rx="3" fill="#1c5fb8"/></svg>'
    )


def milliseconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g} ms"


def percent(value: float | None, digits: int = 2) -> str | None:
    return None if value is None else f"{100 * value:.{digits}f} %"


def curve(lines: Sequence[Line], x_name: str, y_name: str, marks: Sequence[tuple[float, float]] = ()) -> str:
    """Stepped curves with axes; ink is the notebook's own, so that dark ones work."""
    xs = [x for line in lines for x in line.xs] + [x for x, _ in marks]
    ys = [y for line in lines for y in line.ys] + [y for _, y in marks]
    if not xs:
        return "<p>nothing to draw</p>"
    x_low, x_high, y_low, y_high = min(xs), max(xs), min(ys), max(ys)

    def x_of(value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - x_low) / ((x_high - x_low) or 1.0)

    def y_of(value: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * (value - y_low) / ((y_high - y_low) or 1.0)

    parts = [_axes(x_low, x_high, y_low, y_high, x_of, y_of, x_name, y_name)]
    for line in lines:
        points = " ".join(f"{x_of(x):.1f},{y_of(y):.1f}" for x, y in _steps(line))
        look = 'stroke-width="1" opacity="0.5"' if line.faint else 'stroke-width="2"'
        parts.append(f'<polyline fill="none" stroke="#1c5fb8" {look} points="{points}"><title>{escape(line.name)}</title></polyline>')
    parts += [f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="4" fill="#b4500a"/>' for x, y in marks]
    names = ", ".join(line.name for line in lines)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" role="img" '
        f'aria-label="{escape(names, quote=True)}" font-family="sans-serif" font-size="11" fill="currentColor">{"".join(parts)}</svg>'
    )


def _steps(line: Line) -> Iterable[tuple[float, float]]:
    """A front holds until the next better network begins."""
    before: float | None = None
    for x, y in zip(line.xs, line.ys, strict=True):
        if before is not None:
            yield x, before
        yield x, y
        before = y


def _axes(x_low, x_high, y_low, y_high, x_of, y_of, x_name, y_name) -> str:  # type: ignore[no-untyped-def]
    lines = []
    for value in _ticks(x_low, x_high):
        lines.append(f'<text x="{x_of(value):.1f}" y="{_HEIGHT - _BOTTOM + 14}" text-anchor="middle">{value:.4g}</text>')
    for value in _ticks(y_low, y_high):
        y = y_of(value)
        lines.append(f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#8884"/>')
        lines.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    lines.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 4}" text-anchor="middle">{escape(x_name)}</text>')
    lines.append(f'<text x="12" y="{_HEIGHT / 2}" text-anchor="middle" transform="rotate(-90 12 {_HEIGHT / 2})">{escape(y_name)}</text>')
    return "".join(lines)


def _ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round values within a range."""
    if high <= low:
        return [low]
    rough = (high - low) / wanted
    size = 10.0 ** math.floor(math.log10(rough))
    step = next((size * factor for factor in (1, 2, 5, 10) if size * factor >= rough), size * 10)
    first = math.ceil(low / step)
    return [step * number for number in range(first, math.floor(high / step) + 1)]
