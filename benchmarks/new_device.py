"""A table for a new device from few networks: rank correlation, error and coverage on public measurements.

    python -m benchmarks.new_device --latencies ../shared/data/nasbench201_latency_ms.csv.gz \
        --sources 1080ti_1,1080ti_32,... --target titan_rtx_1 --samples 10 --repeats 20 --seed 0
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np

from benchmarks.environment import environment
from benchmarks.latency_files import Latencies, add_arguments, chosen, read
from latency_tables.dense import Array
from latency_tables.prediction.transfer import Prior, choose_networks, transfer

CANDIDATES = 1000
CONFIDENCE = 0.95
KEYS = (
    "spearman",
    "mape",
    "within_10pct",
    "coverage",
    "fit_ms",
    "spearman_trimmed",
    "margin",
    "held_out_error",
    "helps",
)


def spearman(a: Array, b: Array) -> float:
    """Rank correlation with average ranks for ties."""
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(values: Array) -> Array:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[inverse])


def pick(how: str, prior: Prior, data: Latencies, samples: int, generator: np.random.Generator) -> Array:
    """Indices of the networks to measure: `random`, or `design` out of a random thousand."""
    order = generator.permutation(len(data.uses))
    if how == "random":
        return order[:samples]
    candidates = order[:CANDIDATES]
    return candidates[choose_networks(prior, data.uses[candidates], samples)]


def repeat(
    how: str, prior: Prior, data: Latencies, latencies: Array, samples: int, generator: np.random.Generator
) -> list[float]:
    """One repeat, scored on every other network; in the order of KEYS."""
    index = pick(how, prior, data, samples, generator)
    start = time.perf_counter()
    fit = transfer(prior, data.uses[index], latencies[index])
    fit_ms = 1e3 * (time.perf_counter() - start)
    rest = np.setdiff1d(np.arange(len(latencies)), index)
    predicted, measured = fit.predict(data.uses[rest]), latencies[rest]
    errors, margin = np.abs(predicted / measured - 1), fit.margin(CONFIDENCE)
    low, high = np.quantile(measured, [0.1, 0.9])
    middle = (measured >= low) & (measured <= high)
    return [
        spearman(predicted, measured),
        float(errors.mean()),
        float((errors <= 0.1).mean()),
        float((measured <= margin * predicted).mean()),
        fit_ms,
        spearman(predicted[middle], measured[middle]),
        margin,
        fit.error,
        float(fit.helps),
    ]


def device(
    data: Latencies, sources: list[str], target: str, samples: int, repeats: int, seed: int
) -> dict[str, Any]:
    """Means over the repeats for designed and for random networks."""
    others = [s for s in (sources or data.devices) if s != target]
    prior = data.prior(others)
    found: dict[str, Any] = {"device": target, "synthetic_sum": data.synthetic(target)}
    for how in ("design", "random"):
        rows = [
            repeat(how, prior, data, data.devices[target], samples, np.random.default_rng([seed, r]))
            for r in range(repeats)
        ]
        found[how] = dict(zip(KEYS, np.mean(rows, axis=0).round(5).tolist(), strict=True))
    return found


def summary(results: list[dict[str, Any]], how: str) -> dict[str, float]:
    """Means over devices."""
    return {key: round(float(np.mean([r[how][key] for r in results])), 5) for key in KEYS}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--samples", type=int, default=10, help="networks measured on the new device")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument(
        "--pick",
        choices=("design", "random"),
        default="design",
        help="which one the figures at the top are of",
    )
    args = parser.parse_args()
    data = read(args.latencies)
    sources, targets = chosen(args, data)
    results = [device(data, sources, target, args.samples, args.repeats, args.seed) for target in targets]
    measured, synthetic = ([r for r in results if r["synthetic_sum"] == kind] for kind in (False, True))
    report = {
        **summary(measured or synthetic, args.pick),
        "pick": args.pick,
        "form": data.form,
        "networks": len(data.uses),
        "samples": args.samples,
        "repeats": args.repeats,
        "random": summary(measured or synthetic, "random"),
        "measured_devices": measured,
        "synthetic_devices": synthetic,
        "sources": sources or "every other device",
        "seed": args.seed,
        **environment(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
