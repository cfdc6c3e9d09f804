"""How well transformers' latencies are predicted on HAT's own measurements.

`mape` is the mean of |predicted / measured - 1| on 200 networks that were held out, over five splits, of the
additive table (`latency_tables.prediction.transformers`) fitted to `--train` networks; `ridge_mape` that of a
ridge over the 66 terms up to degree two with 1,600 (by squares of ms, as it was proposed; by relative error
beside it). HAT's own recipe is there too: ten features into four layers of 400, Adam at 1e-5, 5,000 steps of
128, on 1,600 networks of the first splits.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.environment import environment
from latency_tables.dense import Array
from latency_tables.formats import hat_csv
from latency_tables.formats.hat_csv import TransformerProbe
from latency_tables.prediction.transformers import fit_transformers

SPLITS = 5
HELD_OUT = 200
RIDGE_NETWORKS = 1600
RIDGE = 1e-6
FEATURE_NORMS = np.array([640, 6, 2048, 6, 640, 6, 2048, 6, 6, 2])
LATENCY_NORMS = (200.0, 300.0, 5000.0)  # HAT's, for its GPU, Xeon and Raspberry Pi

Probes = Sequence[TransformerProbe]
Predictor = Callable[[Probes, Probes, int], Array]  # (trained on, asked for, seed) -> ms


def read(path: Path) -> list[TransformerProbe]:
    """HAT's CSV, compressed or not."""
    raw = path.read_bytes()
    return hat_csv.read(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)


def additive(known: Probes, asked: Probes, seed: int) -> Array:
    return fit_transformers(known).predict(asked)


def ridge(known: Probes, asked: Probes, seed: int) -> Array:
    """Of the 66 terms, by squares of ms."""
    return _ridge(known, asked, np.ones(len(known)))


def relative_ridge(known: Probes, asked: Probes, seed: int) -> Array:
    """Of the 66 terms, by squares of the relative error."""
    return _ridge(known, asked, 1 / latencies(known))


def _ridge(known: Probes, asked: Probes, weights: Array) -> Array:
    terms = quadratic_features(known) * weights[:, None]
    weighed = latencies(known) * weights
    gram = terms.T @ terms
    gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    return np.asarray(quadratic_features(asked) @ np.linalg.solve(gram, terms.T @ weighed))


def perceptron(known: Probes, asked: Probes, seed: int, steps: int = 5000) -> Array:
    """HAT's recipe; a ninth of what is known decides which of its states is kept."""
    import torch  # noqa: PLC0415 - the other predictors need none
    from torch import nn  # noqa: PLC0415

    torch.manual_seed(seed)
    times = latencies(known)
    norm = min(LATENCY_NORMS, key=lambda n: abs(np.log(n / np.median(times))))
    x, y = (torch.tensor(v, dtype=torch.float32) for v in (features(known), times / norm))
    held = len(x) // 9
    widths = [x.shape[1], 400, 400, 400, 400]
    layers = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(400, 1), nn.Flatten(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-5)
    best, kept = float("inf"), model.state_dict()
    for step in range(steps):
        rows = torch.randint(held, len(x), (128,))
        loss = (model(x[rows]) - y[rows]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 100 == 99:
            with torch.no_grad():
                error = float((model(x[:held]) - y[:held]).square().mean())
            if error < best:
                best, kept = error, {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(kept)
    with torch.no_grad():
        found = model(torch.tensor(features(asked), dtype=torch.float32))
    return norm * np.asarray(found.double().numpy())


def quadratic_features(probes: Probes) -> Array:
    """The 66 terms up to degree two, scaled as HAT scales its features, (networks, 66)."""
    x = np.hstack([np.ones((len(probes), 1)), features(probes)])
    first, second = np.triu_indices(x.shape[1])
    terms: Array = x[:, first] * x[:, second]
    return terms


def features(probes: Probes) -> Array:
    return np.array([p.features for p in probes]) / FEATURE_NORMS


def latencies(probes: Probes) -> Array:
    return np.array([p.latency_ms for p in probes])


def held_out_error(
    probes: Probes, predictor: Predictor, networks: int, seed: int, splits: int = SPLITS
) -> tuple[float, float]:
    """(mean, largest of the splits) of the mean relative error on networks that were held out."""
    errors = []
    for split in range(splits):
        order = np.random.default_rng([seed, split]).permutation(len(probes))
        asked, known = (
            [probes[i] for i in part] for part in (order[:HELD_OUT], order[HELD_OUT : HELD_OUT + networks])
        )
        predicted = predictor(known, asked, seed + split)
        errors.append(float(np.abs(predicted / latencies(asked) - 1).mean()))
    return float(np.mean(errors)), max(errors)


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path, help="HAT's latency CSV, also as .csv.gz")
    parser.add_argument(
        "--train", required=True, type=int, help="networks that the additive table is fitted to"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--perceptron-splits", type=int, default=1, help="of HAT's recipe; 0 leaves it out")
    arguments = parser.parse_args()
    probes = read(arguments.data)
    if not 0 < arguments.train <= len(probes) - HELD_OUT:
        parser.error(f"--train must be from 1 to {len(probes) - HELD_OUT}: {HELD_OUT} rows are held out")
    start = time.perf_counter()
    mape, worst = held_out_error(probes, additive, arguments.train, arguments.seed)
    seconds = time.perf_counter() - start
    most = min(RIDGE_NETWORKS, len(probes) - HELD_OUT)
    result: dict[str, object] = {
        "mape": mape,
        "mape_worst_split": worst,
        "fit_s": seconds / SPLITS,
        "ridge_mape": held_out_error(probes, ridge, most, arguments.seed)[0],
        "ridge_relative_mape": held_out_error(probes, relative_ridge, most, arguments.seed)[0],
        "ridge_mape_same_networks": held_out_error(probes, ridge, arguments.train, arguments.seed)[0],
        "ridge_networks": most,
    }
    if arguments.perceptron_splits:
        start = time.perf_counter()
        found = held_out_error(probes, perceptron, most, arguments.seed, arguments.perceptron_splits)
        result["hat_recipe_mape"] = found[0]
        result["hat_recipe_s"] = (time.perf_counter() - start) / arguments.perceptron_splits
    print(
        json.dumps(
            {
                **result,
                "networks": len(probes),
                "train": arguments.train,
                "held_out": HELD_OUT,
                "splits": SPLITS,
                "seed": arguments.seed,
                "environment": environment(),
            }
        )
    )


if __name__ == "__main__":
    main()
