"""Whole networks in float32, all in int8, and in the mix that measured rows say is the quickest.

    python -m benchmarks.mixed_precision --space ofa-mbv3 --resolution 192 --networks 20 --seed 0

Random networks with random weights. All rows that any mix of theirs has, and three fixed mixes of each
(float32, int8, int8 from a random block on), are measured in common sessions by the agent's own code; factors
of the precisions are fitted to those whole networks. Then the exact search takes the quickest mix of each
network, and float32, int8 and the mix are measured side by side. `predicted_error`: of the mixes, which no
factor was fitted to. The rows are of one session and the mixes of another: `session` is what networks of both
take in the second over the first (median), `predicted_error_in_session` the error without that.
Gains are medians over the networks; `wins`: networks whose mix is no slower than all in int8.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import environment
from benchmarks.lut_error import CONTEXT, Bench
from benchmarks.precision_rows import patterns, rows_of
from latency_tables.measurement import Measurement
from latency_tables.prediction.precisions import PrecisionFactors
from latency_tables.table import LatencyTable
from supernets.delivery.export import export_operators
from supernets.delivery.format import Delivery
from supernets.delivery.int8_export import chosen_network
from supernets.delivery.precision import FLOAT32, INT8, plan_of
from supernets.search.exact.bounds import cheapest
from supernets.search.restriction import added, precisions_alone
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import known_latency, lower
from supernets.spaces.mixes import in_precisions
from supernets.spaces.space import Space


def switched(mixed: Space, architecture: Architecture, generator: np.random.Generator) -> Architecture:
    """Float32 before a random block and int8 from it on."""
    blocks = sum(len(stage.blocks) for stage in architecture.stages)
    first = int(generator.integers(1, blocks - 1))
    precisions = iter([FLOAT32] * first + [INT8] * (blocks - first))
    return in_precisions(mixed, architecture, lambda: next(precisions))


def files_of(mixed: Space, networks: Mapping[str, Architecture]) -> dict[str, bytes]:
    """Whole networks with random weights, by name."""
    return {
        name: chosen_network(lower(mixed, one), Delivery(), eps=mixed.batch_norm_eps)
        for name, one in networks.items()
    }


def measured(space: Space, networks: int, seed: int, folder: Path) -> dict[str, Any]:
    """All figures. space: at one resolution."""
    generator, mixed = np.random.default_rng(seed), space.with_precisions((FLOAT32, INT8))
    started = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - started:7.0f} s {text}", file=sys.stderr, flush=True)

    drawn = [mixed.in_float(mixed.architecture(row)) for row in mixed.chain.sample(generator, networks)]
    rows = rows_of(mixed, drawn)
    known: dict[str, Architecture] = {}
    for number, one in enumerate(drawn):
        plain, *_, whole = patterns(mixed, one)
        known |= {
            f"{number} {FLOAT32}": plain,
            f"{number} {INT8}": whole,
            f"{number} half": switched(mixed, one, generator),
        }
    exported = {op.text: file for op, file in export_operators(rows).items()}
    files = files_of(mixed, known)
    say(f"{len(rows)} rows and {len(files)} networks are files")
    bench = Bench(folder, exported[rows[len(rows) // 2].text], seed)
    profile = bench.profile({**exported, **files}).measured
    say("measured")
    table = LatencyTable(CONTEXT, {op: Measurement(profile[op.text].latency_ms) for op in rows})
    lowered = {name: lower(mixed, one) for name, one in known.items()}
    found = PrecisionFactors.fit(table, list(lowered.values()), [profile[n].latency_ms for n in lowered])
    cost = known_latency(mixed, found.applied(table))
    chosen = {
        f"{number} mixed": mixed.architecture(cheapest(added(cost, precisions_alone(mixed, one))))
        for number, one in enumerate(drawn)
    }
    files |= files_of(mixed, chosen)
    say("chosen")
    beside = {name: file for name, file in files.items() if not name.endswith("half")}
    ms = {name: m.latency_ms for name, m in bench.measure(beside).measured.items()}
    again = {name: m.latency_ms for name, m in bench.measure(beside).measured.items()}
    predicted = found.predict(table, [lower(mixed, one) for one in chosen.values()])
    session = float(np.median([ms[name] / profile[name].latency_ms for name in ms if name in profile]))
    whole = np.array([[ms[f"{n} {kind}"] for kind in (FLOAT32, INT8, "mixed")] for n in range(networks)])
    return {
        "gain_int8": float(np.median(whole[:, 0] / whole[:, 1])),
        "gain_mixed": float(np.median(whole[:, 0] / whole[:, 2])),
        "mixed_over_int8": float(np.median(whole[:, 1] / whole[:, 2])),
        "wins": int((whole[:, 2] <= whole[:, 1]).sum()),
        "networks": networks,
        "predicted_error": float(np.mean(np.abs(predicted / whole[:, 2] - 1))),
        "predicted_error_in_session": float(np.mean(np.abs(session * predicted / whole[:, 2] - 1))),
        "session": session,
        "noise_floor": float(np.mean([abs(again[name] / ms[name] - 1) for name in ms])),
        "intercept_ms": found.intercept_ms,
        "factors": found.factors,
        "rows": len(rows),
        "int8_share": [len(plan_of(lower(mixed, a)).int8) / len(lower(mixed, a)) for a in chosen.values()],
        "ms": whole.tolist(),
        "seconds": round(time.monotonic() - started, 1),
    }


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="ofa-mbv3")
    parser.add_argument("--resolution", type=int, default=192)
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    space = space_named(asked.space).at([asked.resolution])
    with tempfile.TemporaryDirectory() as folder:
        found = measured(space, asked.networks, asked.seed, Path(folder))
    said = {"space": asked.space, "resolution": asked.resolution, "seed": asked.seed}
    print(json.dumps({**said, **found, "environment": environment()}))


if __name__ == "__main__":
    main()
