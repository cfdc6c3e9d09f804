"""An additive latency table of transformers from a few dozen measured ones, as HAT's data sets hold them.

A transformer's latency is taken to be a sum over its layers. HAT's CSV says of a network's lists their
averages only, so rows are straight lines: for each width of the encoder an offset and slopes of feed-forward
width and heads, for each width of the decoder an offset and slopes of layers, feed-forward width, self heads,
cross heads and attended encoder layers. On HAT's own measurements (Wang et al., ACL 2020) that is never worse
than 66 quadratic terms with 1,600 networks, and needs 50 (`benchmarks.hat_latency`).

Two things are known before anything is measured, and make up for few networks: more of anything is never
faster (slopes are not negative), and a line is about the same at every width. How much the second counts, and
how noisy the device is, is averaged over a small grid by marginal likelihood (empirical Bayes), as in
`latency_tables.prediction.transfer`. The noise has heavy tails (Student's t, fitted by weights).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

import numpy as np
import numpy.typing as npt

from latency_tables.dense import Array
from latency_tables.errors import InvalidTable, PoorCalibration, TooFewNetworks
from latency_tables.formats.hat_csv import TransformerProbe
from latency_tables.prediction.calibration import Calibration
from latency_tables.prediction.least_squares import nonnegative

LEAST_NETWORKS: Final = 20
ENCODER_LINES: Final = ("encoder", "encoder feed-forward", "encoder heads")
DECODER_LINES: Final = (
    "decoder",
    "decoder layers",
    "decoder feed-forward",
    "decoder heads",
    "decoder cross heads",
    "decoder attended layers",
)
# Standard deviations of the prior, in units of the typical latency. What may be large: the offset and the
# cost of a decoder layer; the other slopes, and how much a line differs between widths, are on the grid.
_LOOSE: Final = 3.0
_SLOPES: Final = (0.03, 0.1, 0.3)
_WIDTHS: Final = (0.003, 0.01, 0.03, 0.1)
_NOISE: Final = (0.003, 0.01, 0.03, 0.06, 0.12)
_COUNTS: Final = 0.01  # points of the grid below this share of the best one are left out
_TAIL: Final = 1.0
"""Degrees of freedom of the noise: HAT's own devices drift by 5 % from session to session. On its files,
heavy tails predict typical networks by 0.1 to 1 point better than Gaussian noise, and no worse where the
device is quiet."""
_ROUNDS: Final = 8


@dataclass(frozen=True, eq=False)
class TransformerTable:
    """An additive table. encoder_ms, decoder_ms: (widths, lines) in ms per unit of `lines_of`.

    calibration: held-out measured / predicted of the networks it was fitted to, each left out once.
    encoder_layers: of all of them; None where they differ.
    """

    encoder_widths: tuple[int, ...]
    decoder_widths: tuple[int, ...]
    encoder_ms: Array
    decoder_ms: Array
    calibration: Calibration
    encoder_layers: int | None = None

    def predict(self, probes: Sequence[TransformerProbe]) -> Array:
        """Latency in ms of each network, (networks,). Raises InvalidTable for a width it has no rows for."""
        encoder, decoder = lines_of(probes)
        total: Array = np.zeros(len(probes))
        for lines, widths, rows, place, part in (
            (encoder, self.encoder_widths, self.encoder_ms, 0, "encoder"),
            (decoder, self.decoder_widths, self.decoder_ms, 4, "decoder"),
        ):
            given = [int(p.features[place]) for p in probes]
            unknown = sorted(set(given) - set(widths))
            if unknown:
                raise InvalidTable(f"no {part} of width {unknown[0]} was measured; known are {list(widths)}")
            total += (lines * rows[[widths.index(w) for w in given]]).sum(axis=1)
        return total

    def held_out(self, probes: Sequence[TransformerProbe]) -> TransformerTable:
        """The same, its error and its bound from these networks, which it was not fitted to."""
        ratios = np.array([p.latency_ms for p in probes]) / self.predict(probes)
        return replace(self, calibration=_calibration(ratios, self.calibration.networks))


def lines_of(probes: Sequence[TransformerProbe]) -> tuple[Array, Array]:
    """What the lines are multiplied by: (networks, encoder lines), (networks, decoder lines).

    Sums over layers: 6 layers with 8 heads are 48 heads. Feed-forward widths in thousands.
    """
    x = np.array([p.features for p in probes], dtype=np.float64).reshape(-1, 10)
    _, layers, inside, heads, _, deep, decoder_inside, own, cross, attended = x.T
    one = np.ones(len(x))
    encoder = np.stack([one, layers * inside / 1e3, layers * heads], axis=1)
    decoder = [one, deep, deep * decoder_inside / 1e3, deep * own, deep * cross, deep * attended]
    return encoder, np.stack(decoder, axis=1)


def fit_transformers(probes: Sequence[TransformerProbe]) -> TransformerTable:
    """The table that explains these networks' whole latency.

    Raises TooFewNetworks below 20, PoorCalibration for latencies that the lines do not explain.
    """
    if len(probes) < LEAST_NETWORKS:
        missing = LEAST_NETWORKS - len(probes)
        raise TooFewNetworks(
            f"a table of transformers needs at least {LEAST_NETWORKS} measured ones, {missing} more", missing
        )
    times = np.array([p.latency_ms for p in probes])
    encoder, decoder = lines_of(probes)
    encoder_at, encoder_widths = _by_width(probes, 0)
    decoder_at, decoder_widths = _by_width(probes, 4)
    uses = np.hstack([_spread(encoder, encoder_at), _spread(decoder, decoder_at)])
    scale = uses.max(axis=0)
    scale = np.where(scale > 0, scale, 1.0)
    typical = float(np.median(times))
    fitted = _Fit.of(
        uses / scale,
        times / typical,
        [
            *_line_numbers(0, len(ENCODER_LINES), len(encoder_widths)),
            *_line_numbers(len(ENCODER_LINES), len(DECODER_LINES), len(decoder_widths)),
        ],
    )
    rows = typical * fitted.rows / scale
    held_out = np.maximum(fitted.held_out * typical, 1e-3 * typical)
    ratios = times / held_out
    layers = {int(p.features[1]) for p in probes}
    split = len(ENCODER_LINES) * len(encoder_widths)
    return TransformerTable(
        encoder_widths,
        decoder_widths,
        rows[:split].reshape(len(encoder_widths), -1),
        rows[split:].reshape(len(decoder_widths), -1),
        _calibration(ratios, len(probes)),
        layers.pop() if len(layers) == 1 else None,
    )


def _calibration(ratios: Array, networks: int) -> Calibration:
    """ratios: measured / predicted of networks that were held out; networks: that the rows rest on."""
    errors = np.abs(1 / ratios - 1)
    return Calibration(
        networks=networks,
        error=float(errors.mean()),
        worst=float(errors.max()),
        ratios=tuple(float(r) for r in ratios),
        transferred=True,
    )


def _by_width(probes: Sequence[TransformerProbe], place: int) -> tuple[npt.NDArray[np.intp], tuple[int, ...]]:
    """(index of each network's width, the widths)."""
    given = np.array([int(p.features[place]) for p in probes])
    widths, at = np.unique(given, return_inverse=True)
    return at, tuple(int(w) for w in widths)


def _spread(lines: Array, at: npt.NDArray[np.intp]) -> Array:
    """Lines in columns of the network's width, (networks, widths * lines)."""
    chosen = np.eye(int(at.max()) + 1)[at]
    found: Array = (chosen[:, :, None] * lines[:, None, :]).reshape(len(lines), -1)
    return found


def _line_numbers(first: int, lines: int, widths: int) -> list[int]:
    """Of which line each column is one width's."""
    return [first + line for _ in range(widths) for line in range(lines)]


@dataclass(frozen=True, eq=False)
class _Fit:
    """rows: not negative, (columns,). held_out: of each network as the others have it, (networks,)."""

    rows: Array
    held_out: Array

    @classmethod
    def of(cls, uses: Array, target: Array, lines: Sequence[int]) -> _Fit:
        """lines: of which line each column is; the first of the encoder, the first two of the decoder are
        loose."""
        same = np.equal.outer(lines, lines).astype(np.float64)
        loose = np.isin(lines, (0, len(ENCODER_LINES), len(ENCODER_LINES) + 1)).astype(np.float64)
        weights = np.ones(len(target))
        level = target
        for _ in range(_ROUNDS):
            grid = [
                _Point.of(uses, target, same, loose, level**2 / weights, values)
                for values in product(_SLOPES, _WIDTHS, _NOISE)
            ]
            evidence = np.array([point.evidence for point in grid])
            share = np.exp(evidence - evidence.max())
            share = np.where(share >= _COUNTS, share, 0.0) / share[share >= _COUNTS].sum()
            kept = [(s, point) for s, point in zip(share, grid, strict=True) if s > 0]
            held_out = sum(s * point.held_out for s, point in kept)
            spread = np.sqrt(sum(s * point.held_out_variance for s, point in kept))
            level = np.maximum(sum(s * point.fitted for s, point in kept), 0.05)
            # Student's t: what was measured beside something else, or in a slow session, counts less.
            squared = (target - held_out) ** 2 / spread**2 * weights
            weights = (_TAIL + 1) / (_TAIL + squared)
        if not np.isfinite(level).all():
            raise PoorCalibration("the latencies of these transformers are no sum over their layers")
        rows = sum(s * point.rows() for s, point in kept)
        return cls(np.asarray(rows), np.asarray(held_out))


@dataclass(frozen=True, eq=False)
class _Point:
    """One point of the grid: the Gaussian posterior without the sign of the slopes, by its precision: the
    work grows with the number of networks and not with its cube."""

    gram: Array
    moment: Array
    evidence: float
    fitted: Array
    held_out: Array
    held_out_variance: Array

    @classmethod
    def of(
        cls, uses: Array, target: Array, same: Array, loose: Array, level: Array, values: Sequence[float]
    ) -> _Point:
        slopes, widths, deviation = values
        line = np.where(loose > 0, _LOOSE, slopes)
        prior = same * np.outer(line, line) + widths**2 * np.eye(len(same))
        noise = deviation**2 * level
        weighted = uses / noise[:, None]
        gram, moment = uses.T @ weighted + np.linalg.inv(prior), weighted.T @ target
        inverse = np.linalg.inv(gram)
        fitted = uses @ (inverse @ moment)
        explained = target @ (target / noise) - moment @ inverse @ moment
        size = np.log(noise).sum() + np.linalg.slogdet(gram)[1] + np.linalg.slogdet(prior)[1]
        # What a network has of its own prediction; without it, the others predict it.
        own = np.minimum(np.einsum("nc,cd,nd->n", uses, inverse, weighted), 1 - 1e-9)
        held_out = target - (target - fitted) / (1 - own)
        return cls(gram, moment, float(-0.5 * (explained + size)), fitted, held_out, noise / (1 - own))

    def rows(self) -> Array:
        """Most likely rows of which none is negative."""
        return nonnegative(self.gram, self.moment)
