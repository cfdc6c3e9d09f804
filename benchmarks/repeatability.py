"""How alike are several profiles of this machine, taken one after the other, beside whatever else it does?

    python -m benchmarks.repeatability --space digits-mbv3 --profiles 5 --minutes 60

Each profile is one of the agent's own sessions over all operators and some whole networks, at an even
distance over the time given; run it beside ../shared/tools/busy.py or your own programs. `row_spread` and
`network_spread` are medians over rows and networks of their standard deviation through the profiles,
relative; `brought_*` the same after every profile is brought to the fastest sentinel, as tables are.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.environment import environment
from benchmarks.lut_error import Bench, Profile, sample
from latency_tables.agent.environment import load
from latency_tables.measuring.speed import factors
from latency_tables.operators import Operator
from supernets.delivery.export import export_operators, join_networks
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators


def spread(profiles: list[Profile], names: list[str], scaled: list[float]) -> float:
    """Median over the names of the relative standard deviation through the profiles."""
    values = np.array(
        [[p.measured[n].latency_ms * f for n in names] for p, f in zip(profiles, scaled, strict=True)]
    )
    return round(float(np.median(values.std(axis=0, ddof=1) / values.mean(axis=0))), 5)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="digits-mbv3")
    parser.add_argument(
        "--resolution", type=int, action="append", help="may be given several times (default: all)"
    )
    parser.add_argument("--networks", type=int, default=24)
    parser.add_argument("--profiles", type=int, default=5)
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="from the first profile's begin to the last one's"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    space = space_named(args.space)
    resolutions = args.resolution or list(space.resolutions)
    operators: list[Operator] = sorted({op for r in resolutions for op in all_operators(space, r)})
    blocks = export_operators(operators)
    architectures, _ = sample(space, resolutions, 0, args.networks, args.seed)
    networks = {f"net{i}": data for i, data in enumerate(join_networks(space, architectures, blocks))}
    rows = {op.text: data for op, data in blocks.items()}
    profiles, seconds, loads = [], [], []
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), rows[operators[len(operators) // 2].text], args.seed)
        for number in range(args.profiles):
            wait_s = begun + number * args.minutes * 60 / max(1, args.profiles - 1) - time.monotonic()
            time.sleep(max(0.0, wait_s))
            start = time.monotonic()
            profiles.append(bench.profile({**rows, **networks}))
            seconds.append(round(time.monotonic() - start, 1))
            loads.append(load())
    speeds = [p.speeds[0] for p in profiles]
    alike, brought = [1.0] * len(profiles), factors(speeds)
    report = {
        "row_spread": spread(profiles, list(rows), alike),
        "network_spread": spread(profiles, list(networks), alike),
        "brought_row_spread": spread(profiles, list(rows), brought),
        "brought_network_spread": spread(profiles, list(networks), brought),
        "profiles": args.profiles,
        "minutes": args.minutes,
        "profile_seconds": seconds,
        "load": loads,
        "sentinel_ms": [round(s.sentinel_ms, 5) for s in speeds],
        "operators": len(rows),
        "networks": len(networks),
        "space": args.space,
        "resolutions": resolutions,
        "seed": args.seed,
        **environment(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
