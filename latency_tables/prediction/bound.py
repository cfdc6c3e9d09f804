"""How far above its prediction a network may be measured: from held-out ratios, and from how sessions differ.

Within a session the bound is one-sided conformal (Vovk et al., "Algorithmic Learning in a Random World") or,
where few networks make a whole table, Student's. Networks that are measured at another time are all faster or
slower together, which no ratio of one session shows: that is a random effect on log(measured / predicted),
its variance estimated by moments (DerSimonian and Laird, "Meta-analysis in clinical trials", 1986). With few
sessions that estimate is poor, so the spread of the sentinel operator counts as if it had been seen in
`ASSUMED_SESSIONS` more (unlike the paper).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

ASSUMED_SESSIONS: Final = 3
FARTHEST: Final = (
    0.2  # on a logarithm; a session farther off says that the device was busy, not how it drifts
)


def networks_needed(confidence: float) -> int:
    """Whole networks a one-sided conformal bound of that confidence needs: 9 for 0.9, 19 for 0.95."""
    if not 0 < confidence < 1:
        raise ValueError("confidence must lie between 0 and 1")
    return math.ceil(confidence / (1 - confidence) - 1e-9)


def conformal(logs: Array, confidence: float) -> float:
    """The held-out log ratio of conformal rank; there must be `networks_needed` of them."""
    return float(np.sort(logs)[math.ceil((len(logs) + 1) * confidence - 1e-9) - 1])


def student(logs: Array, confidence: float) -> float:
    """The larger of Student's bound on held-out log ratios and, where there are enough, of the conformal
    rank.

    A search that picks networks close under a budget is harder on a bound than random networks are.
    """
    spread = math.sqrt(float((logs**2).sum()) / (len(logs) - 1) * (1 + 1 / len(logs)))
    bound = student_quantile(confidence, len(logs) - 1) * spread
    return bound if len(logs) < networks_needed(confidence) else max(bound, conformal(logs, confidence))


def student_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t for probabilities from 0.5 to 0.999, by t = sqrt(degrees) tan(angle)."""
    angle = np.linspace(0.0, math.pi / 2, 20_001)[:-1]
    density = np.cos(angle) ** (degrees - 1)
    steps = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    share = 0.5 + 0.5 * steps / (steps[-1] + density[-1] / 2)
    return math.sqrt(degrees) * math.tan(float(np.interp(probability, share, angle)))


@dataclass(frozen=True)
class Sessions:
    """How measured / predicted differs from session to session.

    count: sessions seen. spread: estimated standard deviation of their log factor. degrees: of freedom of
    that estimate.
    share: sum of the squared shares of the sessions in the fit, 1 when all networks are of one session.
    """

    count: int = 0
    spread: float = 0.0
    degrees: int = 1
    share: float = 1.0

    def __post_init__(self) -> None:
        if not (
            math.isfinite(self.spread) and self.spread >= 0 and 0 <= self.share <= 1 and self.degrees >= 1
        ):
            raise ValueError("not a spread between sessions")

    @classmethod
    def of(cls, logs: Array, labels: Sequence[str], assumed: float | None = None) -> Sessions:
        """From log(measured / predicted) of networks and the session of each.

        assumed: standard deviation of the log of the sentinel's readings while the device was profiled; None:
        not known.
        """
        names = sorted(set(labels))
        if not names:
            return cls()
        groups = [logs[[label == name for label in labels]] for name in names]
        counts = np.array([len(group) for group in groups], dtype=np.float64)
        means, within = _levels(groups)
        seen = _between(means, within / counts)
        prior = 0 if assumed is None else ASSUMED_SESSIONS
        degrees = prior + len(names) - 1
        variance = (prior * (assumed or 0.0) ** 2 + (len(names) - 1) * seen) / max(1, degrees)
        shares = counts / counts.sum()
        return cls(len(names), math.sqrt(variance), max(1, degrees), float((shares**2).sum()))

    def reach(self, confidence: float) -> float:
        """How far the log factor of a new session may lie above that of the fit."""
        if self.spread == 0:
            return 0.0
        return (
            student_quantile(min(max(confidence, 0.5), 0.999), self.degrees)
            * self.spread
            * math.sqrt(1 + self.share)
        )

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Sessions:
        """Raises KeyError, TypeError or ValueError for anything else."""
        return cls(int(data["count"]), float(data["spread"]), int(data["degrees"]), float(data["share"]))


def _levels(groups: Sequence[Array]) -> tuple[Array, float]:
    """(mean of each session, variance of one network within its session); wild measurements are pulled in."""
    centres = np.array([np.median(group) for group in groups])
    off = [group - centre for group, centre in zip(groups, centres, strict=True)]
    free = sum(len(group) - 1 for group in groups)
    if free == 0:  # nobody can tell them apart, so all of it counts as between
        return np.clip(centres, -FARTHEST, FARTHEST), 0.0
    inner = np.concatenate([o for o in off if len(o) > 1])
    limit = 3 * 1.4826 * float(np.median(np.abs(inner))) * math.sqrt(len(inner) / free)
    kept = [np.clip(o, -limit, limit) for o in off]
    means = np.array([float(k.mean()) for k in kept])
    variance = sum(float(((k - mean) ** 2).sum()) for k, mean in zip(kept, means, strict=True)) / free
    return np.clip(centres + means, -FARTHEST, FARTHEST), variance


def _between(means: Array, variances: Array) -> float:
    """Variance between sessions by moments; 0 for a single one."""
    if len(means) < 2:
        return 0.0
    if not variances.any():
        return float(means.var(ddof=1))
    weights = 1 / variances
    centre = float((weights * means).sum() / weights.sum())
    excess = float((weights * (means - centre) ** 2).sum()) - (len(means) - 1)
    return max(0.0, excess / float(weights.sum() - (weights**2).sum() / weights.sum()))
