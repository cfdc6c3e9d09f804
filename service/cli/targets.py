"""What `bespoke search` is told on its command line, as the targets that the API takes."""

from __future__ import annotations

from typing import Any

import typer

from service.client.jobs import Json
from supernets.delivery.precision import ASKED, FLOAT32


def targets_of(
    device: str | None,
    budget_ms: float | None,
    targets: list[str],
    limits: dict[str, int],
    further: dict[str, float],
) -> list[Json]:
    """All targets as the API takes them; `further` limits every device. Raises a usage error that says how to
    write them."""
    wanted = [_target(text, limits, further) for text in targets]
    timed = budget_ms is not None or "latency_p95_ms" in further
    if (device is None) != (budget_ms is None) and not (device is not None and timed):
        raise typer.BadParameter(
            "--device and --budget-ms belong together: --device this-machine --budget-ms 0.5"
        )
    if device is not None:
        latency = {} if budget_ms is None else {"latency_ms": budget_ms}
        wanted.insert(0, {"device": device, "budget": {**latency, **further, **limits}})
    elif further and not wanted:
        raise typer.BadParameter(
            "--p95-ms and --energy-mj are limits on a device: name it with --device or --target"
        )
    if not wanted and not limits:
        raise typer.BadParameter(
            "name at least one target: --device NAME --budget-ms MS, or --target NAME=MS, or limits alone: "
            "--size-bytes N"
        )
    return wanted or [{"budget": limits}]


def _target(text: str, limits: dict[str, int], further: dict[str, float]) -> Json:
    parts = [_parse(part) for part in text.split("+")]
    if len(parts) == 1:
        return {"device": parts[0][0], "budget": {"latency_ms": parts[0][1], **further, **limits}}
    group = [{"device": name, "budget": {"latency_ms": budget, **further}} for name, budget in parts]
    return {"group": group, **({"budget": limits} if limits else {})}


def _parse(text: str) -> tuple[str, float]:
    name, _, budget = text.rpartition("=")
    try:
        return name, float(budget.removesuffix("ms"))
    except ValueError:
        hint = (
            "a target is DEVICE=MS, such as pixel7=12.5, or several joined by + for one network that keeps "
            "all"
        )
        raise typer.BadParameter(hint, param_hint="--target") from None


def narrowing_of(
    exclude: list[str],
    resolutions: list[int],
    missing: bool,
    precision: str = FLOAT32,
    prune: bool = False,
) -> Json:
    """What every target may be: what it leaves out, its precision, and whether it is pruned."""
    if precision not in ASKED:
        raise typer.BadParameter(f"one of {', '.join(ASKED)}", param_hint="--precision")
    names: dict[str, list[Any]] = {}
    for text in exclude:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise typer.BadParameter(
                "write NAME=VALUE, such as kernel=7 or squeeze_excite=true", param_hint="--exclude"
            )
        names.setdefault(name, []).append(_value(value))
    found: Json = {"exclude": names, "resolutions": resolutions, "missing": "exclude" if missing else None}
    found |= {"precision": None if precision == FLOAT32 else precision, "prune": prune or None}
    return {name: value for name, value in found.items() if value}


def _value(text: str) -> bool | int | float | str:
    """A value as the space has it: true and false, whole numbers, other numbers, words."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
