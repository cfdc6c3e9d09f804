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
        f'<tr><th style="text-align:left">{escape(name)}</th>'
        f'<td style="text-align:left">{escape(str(value))}</td></tr>'
        for name, value in told.items()
        if value is not None
    )
    return f"<div><b>{escape(title)}</b>{more}<table>{rows}</table></div>"


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows under their column names."""
    head = "".join(f"<th>{escape(name)}</th>" for name in columns)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(_cell(cell))}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: object) -> str:
    return "-" if value is None else str(value)


def bar(share: float) -> str:
    """Progress, 0 to 1."""
    width = round(200 * min(1.0, max(0.0, share)))
    return (
        f'<svg width="200" height="12" role="img" aria-label="{round(100 * share)} %">'
        f'<rect width="200" height="12" rx="3" fill="#8885"/>'
        f'<rect width="{width}" height="12" rx="3" fill="#1c5fb8"/></svg>'
    )


def milliseconds(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g} ms"


def percent(value: float | None, digits: int = 2) -> str | None:
    return None if value is None else f"{100 * value:.{digits}f} %"


@dataclass(frozen=True)
class _Frame:
    """Where values stand in the picture."""

    x_low: float
    x_high: float
    y_low: float
    y_high: float

    def x(self, value: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (value - self.x_low) / ((self.x_high - self.x_low) or 1.0)

    def y(self, value: float) -> float:
        share = (value - self.y_low) / ((self.y_high - self.y_low) or 1.0)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share

    def axes(self, x_name: str, y_name: str) -> str:
        bottom = _HEIGHT - _BOTTOM + 14
        parts = [
            f'<text x="{self.x(value):.1f}" y="{bottom}" text-anchor="middle">{value:.4g}</text>'
            for value in _ticks(self.x_low, self.x_high)
        ]
        for value in _ticks(self.y_low, self.y_high):
            y = self.y(value)
            line = f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#8884"/>'
            parts.append(f'{line}<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:.4g}</text>')
        middle, turned = _HEIGHT / 2, f'transform="rotate(-90 12 {_HEIGHT / 2})"'
        parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 4}" text-anchor="middle">{escape(x_name)}</text>')
        parts.append(f'<text x="12" y="{middle}" text-anchor="middle" {turned}>{escape(y_name)}</text>')
        return "".join(parts)


def curve(lines: Sequence[Line], x_name: str, y_name: str, marks: Sequence[tuple[float, float]] = ()) -> str:
    """Stepped curves with axes; ink is the notebook's own, so that dark ones work."""
    xs = [x for line in lines for x in line.xs] + [x for x, _ in marks]
    ys = [y for line in lines for y in line.ys] + [y for _, y in marks]
    if not xs:
        return "<p>nothing to draw</p>"
    frame = _Frame(min(xs), max(xs), min(ys), max(ys))
    parts = [frame.axes(x_name, y_name)]
    for line in lines:
        points = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in _steps(line))
        look = 'stroke-width="1" opacity="0.5"' if line.faint else 'stroke-width="2"'
        title = f"<title>{escape(line.name)}</title>"
        parts.append(f'<polyline fill="none" stroke="#1c5fb8" {look} points="{points}">{title}</polyline>')
    parts += [f'<circle cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="4" fill="#b4500a"/>' for x, y in marks]
    names = escape(", ".join(line.name for line in lines), quote=True)
    size = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}"'
    look = 'font-family="sans-serif" font-size="11" fill="currentColor"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{names}" {look}>'
    return f"{head}{''.join(parts)}</svg>"


def _steps(line: Line) -> Iterable[tuple[float, float]]:
    """A front holds until the next better network begins."""
    before: float | None = None
    for x, y in zip(line.xs, line.ys, strict=True):
        if before is not None:
            yield x, before
        yield x, y
        before = y


def _ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round values within a range."""
    if high <= low:
        return [low]
    rough = (high - low) / wanted
    size = 10.0 ** math.floor(math.log10(rough))
    step = next((size * factor for factor in (1, 2, 5, 10) if size * factor >= rough), size * 10)
    first = math.ceil(low / step)
    return [step * number for number in range(first, math.floor(high / step) + 1)]
