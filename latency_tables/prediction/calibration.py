"""Calibration: from the sum of a table's rows to the latency of a whole network, with an upper bound.

A network is not the sum of its blocks timed alone: blocks share caches and the runtime saves memory copies
between them. On one device the difference is nearly affine, T = a + b * sum, so about 20 whole networks are
enough to learn it. The fit is robust (bisquare weights after a least-absolute start), the error is always the
held-out one, and the upper bound comes from the same held-out ratios (`latency_tables.prediction.bound`);
leave-one-out ratios make it the jackknife, which is marginal over random networks (see docs/devices.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from latency_tables.dense import Array, DenseTable
from latency_tables.errors import InvalidTable, PoorCalibration, TooFewNetworks
from latency_tables.prediction.bound import Sessions, conformal, networks_needed, student

MAX_ERROR: Final = 0.15
"""Above this held-out error a table does not explain the device (additive devices stay under 0.05)."""
DEFAULT_CONFIDENCE: Final = 0.95
"""Of an upper bound where none was asked for."""
LEAST_AFFINE: Final = 5
LEAST_PER_RESOLUTION: Final = 6
LEAST_TRANSFERRED: Final = 5
MAX_FOLDS: Final = 64
_SIMPLER_WINS: Final = 0.97  # a richer model must cut the held-out error by 3 % at least


@dataclass(frozen=True)
class Calibration:
    """T = intercept_ms + slope * sum of a network's rows, per resolution where that was worth it.

    lines: resolution in pixels -> (intercept_ms, slope); other resolutions use the shared line.
    networks: how many whole networks it was fitted to. error, worst: held-out mean and greatest |predicted /
    measured - 1|.
    ratios: held-out measured / predicted, in the order of the networks; the upper bound rests on them, and on
    `sessions`.
    transferred: the networks made the whole table, so the bound is Student's and needs five of them.
    """

    intercept_ms: float = 0.0
    slope: float = 1.0
    lines: Mapping[int, tuple[float, float]] = field(default_factory=dict, hash=False)
    networks: int = 0
    error: float | None = None
    worst: float | None = None
    ratios: tuple[float, ...] = ()
    transferred: bool = False
    sessions: Sessions = field(default_factory=Sessions)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lines", MappingProxyType(dict(sorted(self.lines.items()))))
        numbers = (
            self.intercept_ms,
            self.slope,
            *self.ratios,
            *(v for line in self.lines.values() for v in line),
        )
        if (
            not all(math.isfinite(v) for v in numbers)
            or self.slope <= 0
            or any(line[1] <= 0 for line in self.lines.values())
        ):
            raise PoorCalibration(
                "a calibration needs finite numbers and slopes above 0; measure whole networks again"
            )

    @classmethod
    def fit(
        cls,
        predicted_sums: Sequence[float] | Array,
        measured: Sequence[float] | Array,
        resolutions: Sequence[int] | npt.NDArray[np.int64],
        max_error: float = MAX_ERROR,
    ) -> Calibration:
        """Fit to whole networks: sum of their rows in ms, measured latency in ms, resolution in pixels of
        each.

        Without networks: the identity. Raises PoorCalibration where the held-out error is above `max_error`.
        """
        sums, times = np.asarray(predicted_sums, dtype=np.float64), np.asarray(measured, dtype=np.float64)
        sizes = np.asarray(resolutions, dtype=np.int64)
        if not len(sums) == len(times) == len(sizes):
            raise ValueError("one sum, one latency and one resolution for each network")
        if len(sums) == 0:
            return cls()
        if not (
            np.isfinite(sums).all() and np.isfinite(times).all() and (sums > 0).all() and (times > 0).all()
        ):
            raise PoorCalibration(
                "sums and measured latencies must be finite and above 0 ms; remove the networks that are not"
            )
        fits = [_Fit.of(model, sums, times, sizes) for model in _models(sizes)]
        usable = [f for f in fits if f.usable]
        if not usable:
            raise PoorCalibration(
                "latency does not grow with the table's sum; this table is not of this device, or of "
                "another context"
            )
        best = _simplest_good(usable)
        if len(sums) > 2 and best.robust_error > max_error:
            raise PoorCalibration(
                f"predictions are {best.robust_error:.0%} off on {len(sums)} whole networks held out, more "
                f"than {max_error:.0%}: "
                "the table is of another context or older than the networks, or the device's latency is "
                "not additive. "
                "`bespoke profile` measures what is doubtful again; searches measure before they deliver."
            )
        # Resolutions of which too few networks were measured: the best model's line for the rest, else the
        # best single line.
        single = [f for f in usable if not f.per_resolution]
        shared = best if best.covers_rest or not single else _simplest_good(single)
        errors = np.abs(1 / best.ratios - 1) if len(sums) > 1 else None
        return cls(
            intercept_ms=shared.shared[0],
            slope=shared.shared[1],
            lines=best.lines,
            networks=len(sums),
            error=None if errors is None else float(errors.mean()),
            worst=None if errors is None else float(errors.max()),
            ratios=tuple(float(r) for r in best.ratios),
        )

    def line(self, resolution: int) -> tuple[float, float]:
        """(intercept in ms, slope) at that resolution in pixels."""
        return self.lines.get(int(resolution), (self.intercept_ms, self.slope))

    def predict(
        self, sums: Sequence[float] | Array, resolutions: Sequence[int] | npt.NDArray[np.int64]
    ) -> Array:
        """Predicted ms of networks from the sums of their rows and their resolutions in pixels."""
        lines = np.array([self.line(int(r)) for r in resolutions], dtype=np.float64).reshape(-1, 2)
        predicted: Array = lines[:, 0] + lines[:, 1] * np.asarray(sums, dtype=np.float64)
        return predicted

    def missing_networks(self, confidence: float) -> int:
        """How many more whole networks an upper bound of that confidence needs; 0 when there are enough."""
        return max(0, self._networks_needed(confidence) - len(self.ratios))

    def _networks_needed(self, confidence: float) -> int:
        return LEAST_TRANSFERRED if self.transferred else networks_needed(confidence)

    def across(self, logs: Array, labels: Sequence[str], assumed: float | None = None) -> Calibration:
        """The same with a bound that holds in other sessions too; see `Sessions.of`."""
        return replace(self, sessions=Sessions.of(logs, labels, assumed))

    def margin(self, confidence: float) -> float:
        """What a prediction is multiplied by, so that this share of networks stays below. Raises
        TooFewNetworks."""
        missing = self.missing_networks(confidence)
        if missing:
            raise TooFewNetworks(
                f"an upper bound of {confidence:.0%} needs {self._networks_needed(confidence)} measured "
                "whole networks, "
                f"{missing} more than there are; measure them (`bespoke profile`) or ask for less "
                "confidence.",
                missing,
            )
        logs = np.log(self.ratios)
        within = student(logs, confidence) if self.transferred else conformal(logs, confidence)
        return math.exp(math.hypot(max(0.0, within), self.sessions.reach(confidence)))

    def bounded(self, dense: DenseTable, confidence: float | None) -> tuple[DenseTable | None, float | None]:
        """(upper bounds of predictions in ms, their confidence); (None, None) where none was asked for nor
        can be had.

        confidence None: the default where enough networks were measured. Raises TooFewNetworks with how many
        are missing.
        """
        if confidence is None and self.missing_networks(DEFAULT_CONFIDENCE):
            return None, None
        asked = DEFAULT_CONFIDENCE if confidence is None else confidence
        margin, count = self.margin(asked), dense.chain.resolutions
        return dense.affine([0.0] * count, [margin] * count), asked

    def apply(self, dense: DenseTable, resolutions: Sequence[int]) -> DenseTable:
        """The dense table of predicted ms; `resolutions` in pixels are those of the dense table's space, in
        order."""
        lines = [self.line(r) for r in resolutions]
        if len(lines) != dense.chain.resolutions:
            raise ValueError("name every resolution of the dense table")
        return dense.affine([intercept for intercept, _ in lines], [slope for _, slope in lines])

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        return {
            "intercept_ms": self.intercept_ms,
            "slope": self.slope,
            "lines": {str(r): list(line) for r, line in self.lines.items()},
            "networks": self.networks,
            "error": self.error,
            "worst": self.worst,
            "ratios": list(self.ratios),
            "transferred": self.transferred,
            "sessions": self.sessions.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibration:
        """Read `to_json`'s form. Raises InvalidTable for anything else."""
        try:
            return cls(
                intercept_ms=float(data["intercept_ms"]),
                slope=float(data["slope"]),
                lines={int(r): (float(line[0]), float(line[1])) for r, line in data["lines"].items()},
                networks=int(data["networks"]),
                error=None if data["error"] is None else float(data["error"]),
                worst=None if data["worst"] is None else float(data["worst"]),
                ratios=tuple(float(r) for r in data["ratios"]),
                transferred=bool(data.get("transferred", False)),
                sessions=Sessions.from_json(data["sessions"]) if data.get("sessions") else Sessions(),
            )
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise InvalidTable("not a calibration; fit one with Calibration.fit") from error


@dataclass(frozen=True)
class _Model:
    """Columns of a linear model; `own` are resolutions with their own line, the rest shares the last one."""

    intercept: bool
    own: tuple[int, ...] = ()
    own_intercept: bool = False

    def design(self, sums: Array, sizes: npt.NDArray[np.int64]) -> Array:
        groups = [sizes == r for r in self.own]
        rest = ~np.logical_or.reduce(groups) if groups else np.ones(len(sizes), dtype=bool)
        if rest.any() or not groups:
            groups.append(rest)
        columns = [np.where(g, sums, 0.0) for g in groups]
        if self.own_intercept:
            columns += [g.astype(np.float64) for g in groups]
        elif self.intercept:
            columns.append(np.ones(len(sums)))
        return np.stack(columns, axis=1)

    def lines(self, weights: Array) -> dict[int | None, tuple[float, float]]:
        """Resolution (None: every other) -> (intercept, slope)."""
        names: list[int | None] = [*self.own]
        count = len(weights) // 2 if self.own_intercept else len(weights) - int(self.intercept)
        if count > len(names):
            names.append(None)
        found = {}
        for index, name in enumerate(names):
            intercept = (
                weights[count + index] if self.own_intercept else weights[-1] if self.intercept else 0.0
            )
            found[name] = (float(intercept), float(weights[index]))
        return found


def _models(sizes: npt.NDArray[np.int64]) -> list[_Model]:
    """Models worth trying, simplest first."""
    models = [_Model(intercept=False)]
    if len(sizes) >= LEAST_AFFINE:
        models.append(_Model(intercept=True))
    values, counts = np.unique(sizes, return_counts=True)
    own = tuple(int(v) for v, c in zip(values, counts, strict=True) if c >= LEAST_PER_RESOLUTION)
    if own and len(values) > 1:
        models += [_Model(intercept=False, own=own), _Model(intercept=True, own=own)]
        if all(c >= 2 * LEAST_PER_RESOLUTION for c in counts):
            models.append(_Model(intercept=True, own=own, own_intercept=True))
    return models


@dataclass(frozen=True, eq=False)
class _Fit:
    shared: tuple[float, float]
    lines: dict[int, tuple[float, float]]
    ratios: Array
    robust_error: float
    usable: bool
    per_resolution: bool
    covers_rest: bool

    @classmethod
    def of(cls, model: _Model, sums: Array, times: Array, sizes: npt.NDArray[np.int64]) -> _Fit:
        design = model.design(sums, sizes)
        folds = min(len(sums), MAX_FOLDS)
        left_out = np.arange(len(sums)) % folds == np.arange(folds)[:, None]  # (folds, networks)
        masks = (
            np.vstack([np.ones(len(sums), dtype=bool), ~left_out])
            if folds > 1
            else np.ones((1, 1), dtype=bool)
        )
        weights = _robust(design, times, sums, masks)
        held_out = (
            np.einsum("nf,nf->n", design, weights[1 + np.arange(len(sums)) % folds])
            if folds > 1
            else design @ weights[0]
        )
        lines = model.lines(weights[0])
        usable = bool(
            all(slope > 0 and intercept + slope * sums.min() / 2 > 0 for intercept, slope in lines.values())
        )
        # A line that fits all together may still predict nothing, or less, of a network it did not see.
        usable = usable and bool((held_out > 0).all())
        ratios = times / held_out if usable else np.ones(len(sums))
        errors = np.sort(np.abs(1 / ratios - 1))
        kept = errors[: max(1, math.ceil(0.8 * len(errors)))]  # one wild measurement in five does not decide
        return cls(
            shared=lines.get(None, next(iter(lines.values()))),
            lines={r: line for r, line in lines.items() if r is not None},
            ratios=ratios if folds > 1 else np.empty(0),
            robust_error=float(kept.mean()),
            usable=usable,
            per_resolution=bool(model.own),
            covers_rest=None in lines,
        )


def _simplest_good(fits: Sequence[_Fit]) -> _Fit:
    """The first fit, which is the simplest, unless a richer one cuts the held-out error enough."""
    best = fits[0]
    for candidate in fits[1:]:
        if candidate.robust_error < _SIMPLER_WINS * best.robust_error:
            best = candidate
    return best


def _robust(design: Array, times: Array, sums: Array, masks: npt.NDArray[np.bool_]) -> Array:
    """Robust least squares on relative residuals, one row of coefficients per mask; shape (masks, columns).

    Residuals are divided by the predicted scale, not by the measured time: a measurement that is wrongly near
    0 would otherwise weigh more than all others.
    """
    scale = np.median(times / sums) * sums
    rows, target = design / scale[:, None], times / scale
    # In units of the columns: enough for a column that a fold leaves empty, too little to move a fit.
    ridge = 1e-9 * np.eye(design.shape[1]) * np.mean(rows**2, axis=0)
    weights = masks.astype(np.float64)
    coefficients = np.zeros((len(masks), design.shape[1]))
    for step in range(60):
        gram = np.einsum("mn,nf,ng->mfg", weights, rows, rows) + ridge
        moment = np.einsum("mn,nf,n->mf", weights, rows, target)
        coefficients = np.linalg.solve(gram, moment[..., None])[..., 0]
        residual = np.abs(target - coefficients @ rows.T)
        if step < 40:
            # Least absolute residuals first: Tukey's biweight has many optima and needs a good beginning.
            weights = masks / np.maximum(residual, 1e-6)
        else:
            spread = np.array([np.median(r[m]) for r, m in zip(residual, masks, strict=True)]) / 0.6745
            relative = residual / np.maximum(4.685 * spread, 1e-6)[:, None]
            weights = masks * np.maximum(1 - relative**2, 0.0) ** 2 + masks * 1e-6
    return coefficients
