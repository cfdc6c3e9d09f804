"""How well does the sum of a table's rows predict whole networks, measured on this machine with ONNX Runtime?

    python -m benchmarks.lut_error --space ofa-mbv3 --resolution 160 --networks 50 --probes 20 --seed 0
    python -m benchmarks.lut_error --space hat-small --networks 30 --probes 24

Operators and probes are profiled by the agent's own code: all in one session where memory allows, what has
not settled once more. The networks are measured afterwards in sessions of their own, beside the sentinel as a
delivered network is, and once more: what they then differ by is the noise floor. `coverage_95` is the share
below the bound, `coverage_95_one_session` below the bound that allows for nothing but the held-out ratios of
the profile.
`profile_seconds` is measuring alone; `seconds` splits the whole.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import environment
from latency_tables.agent.environment import load
from latency_tables.agent.loop import SENTINEL, SENTINEL_COPIES, Options
from latency_tables.agent.runner import Job, Limits, Network, measure_in_child
from latency_tables.dense import Array
from latency_tables.inputs import InputSpec
from latency_tables.measurement import Context, Measurement
from latency_tables.measuring.doubt import combined, unsettled
from latency_tables.measuring.profiling import Reading
from latency_tables.measuring.speed import Speed, factors, spread
from latency_tables.operators import Operator
from latency_tables.plan import calibration_networks
from latency_tables.prediction.calibration import Calibration
from latency_tables.prediction.refine import refine
from latency_tables.table import LatencyTable
from latency_tables.text_network import is_archive
from supernets.delivery.export import export_operators, join_networks
from supernets.delivery.transformer_folder import measured_archive
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators, dense_from, lower
from supernets.spaces.space import Space
from supernets.spaces.transformer_space import TRANSFORMER_SPACES, Sentence

CONTEXT = Context("onnxruntime", version("onnxruntime"), "CPUExecutionProvider", 1, "float32", 1)
STATISTICS = ("latency_ms", "median_ms", "lower_quartile_ms")


@dataclass(frozen=True)
class Profile:
    """What a profile gave, brought to the undisturbed device; speeds and factors of its sessions."""

    measured: dict[str, Measurement]
    speeds: list[Speed]
    factors: list[float]
    flags: list[str]


class Bench:
    """Files in a folder, measured in child processes; the fastest that the sentinel was ever seen is
    remembered."""

    def __init__(
        self, folder: Path, sentinel: bytes, seed: int, fed: tuple[InputSpec, ...] | None = None
    ) -> None:
        self._folder, self._seed, self._fed = folder, seed, fed
        self._reference_ms: float | None = None
        (folder / SENTINEL).write_bytes(sentinel)

    def profile(self, files: Mapping[str, bytes]) -> Profile:
        """Everything, and what has not settled once more, as `bespoke profile` does."""
        first = self.measure(files)
        again = {name: files[name] for name in unsettled(first.measured)}
        if not again:
            return first
        second = self.measure(again)
        both = {name: combined([first.measured[name], m]) for name, m in second.measured.items()}
        return replace(
            first,
            measured={**first.measured, **both},
            speeds=[*first.speeds, *second.speeds],
            factors=[*first.factors, *second.factors],
        )

    def measure(self, files: Mapping[str, bytes]) -> Profile:
        """In as few sessions as memory allows."""
        sessions = [self._session({name: files[name] for name in part}) for part in _parts(files)]
        speeds = [Speed(found[SENTINEL].sentinel_ms, found[SENTINEL].sentinel_error) for found in sessions]
        self._reference_ms = min(
            [s.sentinel_ms for s in speeds] + ([self._reference_ms] if self._reference_ms else [])
        )
        scaled = factors(speeds, self._reference_ms)
        measured = {
            name: reading.measurement.times(factor)
            for found, factor in zip(sessions, scaled, strict=True)
            for name, reading in found.items()
            if name != SENTINEL
        }
        flags = [flag for found in sessions for reading in found.values() for flag in reading.flags]
        return Profile(measured, speeds, scaled, flags)

    def _session(self, files: Mapping[str, bytes]) -> dict[str, Reading]:
        networks = {SENTINEL: Network(self._folder / SENTINEL)}
        for number, (name, data) in enumerate(files.items()):
            path = self._folder / str(number)
            path.write_bytes(data)
            networks[name] = Network(path, self._fed if is_archive(data) else None)
        self._seed += 1
        limits = Limits(memory_mib=16_384)
        return measure_in_child(
            Job(networks, SENTINEL, self._reference_ms, SENTINEL_COPIES, seed=self._seed, limits=limits)
        )


def _parts(files: Mapping[str, bytes]) -> list[list[str]]:
    """Names that are measured together, as the agent takes them."""
    parts: list[list[str]] = [[]]
    for name in files:
        size = sum(len(files[n]) for n in (*parts[-1], name))
        if parts[-1] and (len(parts[-1]) >= Options.group or size > Options.group_mib * 2**20):
            parts.append([])
        parts[-1].append(name)
    return parts


def sample(
    space: Space, resolutions: Sequence[int], networks: int, probes: int, seed: int
) -> tuple[list[Architecture], list[Architecture]]:
    """(probes spread over the range, random networks that are none of them)."""
    dense = dense_from(space, lambda op: op.macs)
    generator = np.random.default_rng(seed)
    indices = [space.resolutions.index(r) for r in resolutions]
    first = calibration_networks(dense, generator, probes, indices)
    known = {row.tobytes() for row in first}
    rest: list[Any] = []
    while len(rest) < networks:
        row = space.chain.sample(generator, 1)
        row[:, 0] = generator.choice(indices)
        if row[0].tobytes() not in known:
            known.add(row[0].tobytes())
            rest.append(row[0])
    return [space.architecture(row) for row in first], [space.architecture(row) for row in rest]


def scores(
    space: Space,
    operators: list[Operator],
    architectures: tuple[list[Architecture], list[Architecture]],
    profile: Profile,
    measured: Mapping[str, Measurement],
    again: Mapping[str, Measurement],
    statistic: str,
) -> dict[str, float]:
    """Errors of predictions by one statistic of the samples."""

    def value(readings: Mapping[str, Measurement], name: str) -> float:
        return float(getattr(readings[name], statistic))

    probes, networks = architectures
    profiled = profile.measured
    rows = {op: Measurement(op.row_factor * value(profiled, op.text)) for op in operators}
    lowered = [lower(space, a) for a in probes]
    times = [value(profiled, f"probe{i}") for i in range(len(probes))]
    table = LatencyTable(CONTEXT, rows)
    refined = refine(table, lowered, [a.resolution for a in probes], times)
    alone = refined.calibration
    calibration = alone.across(np.log(alone.ratios), ["profile"] * len(probes), spread(profile.speeds))

    def sums(of: LatencyTable) -> Array:
        return np.array([of.latency_ms(lower(space, a)) for a in networks])

    predicted = calibration.predict(sums(refined.table), [a.resolution for a in networks])
    truth = np.array([value(measured, f"net{i}") for i in range(len(networks))])
    repeated = np.array([value(again, f"net{i}") for i in range(len(networks))])
    line = Calibration.fit(
        [table.latency_ms(ops) for ops in lowered], times, [a.resolution for a in probes], max_error=1.0
    )
    plain = line.predict(sums(table), [a.resolution for a in networks])
    errors = np.abs(predicted / truth - 1)
    found = {
        "mape": errors.mean(),
        "worst": errors.max(),
        "within_5pct": (errors <= 0.05).mean(),
        "within_10pct": (errors <= 0.10).mean(),
        "repeat_mape": np.abs(repeated / truth - 1).mean(),
        "spearman": np.corrcoef(np.argsort(np.argsort(predicted)), np.argsort(np.argsort(truth)))[0, 1],
        "ratio": np.median(truth / sums(table)),
        "corrected": float(refined.corrected),
        "line_mape": np.abs(plain / truth - 1).mean(),
        "bias": np.median(predicted / truth) - 1,
        "held_out_error": calibration.error or 0.0,
    }
    if calibration.missing_networks(0.95) == 0:
        found["coverage_95"] = (truth <= calibration.margin(0.95) * predicted).mean()
        found["coverage_95_one_session"] = (truth <= alone.margin(0.95) * predicted).mean()
        found["margin_95"], found["margin_95_one_session"] = calibration.margin(0.95), alone.margin(0.95)
        found["sessions"], found["session_spread"] = calibration.sessions.count, calibration.sessions.spread
    return {name: round(float(v), 5) for name, v in found.items()}


def _sentence(args: argparse.Namespace) -> Sentence:
    return Sentence(args.source_tokens, args.target_tokens, args.beam)


def _space(args: argparse.Namespace) -> Space:
    if args.space in TRANSFORMER_SPACES:
        return TRANSFORMER_SPACES[args.space].priced(_sentence(args), args.words)
    return space_named(args.space)


def _whole(
    args: argparse.Namespace,
    space: Space,
    architectures: Sequence[Architecture],
    blocks: Mapping[Operator, bytes],
) -> list[bytes]:
    """Networks to measure: joined from their blocks, or archives that write a sentence."""
    if args.space not in TRANSFORMER_SPACES:
        return join_networks(space, architectures, blocks)
    described = TRANSFORMER_SPACES[args.space]
    return [
        measured_archive(described, a, _sentence(args), space.classes, seed)
        for seed, a in enumerate(architectures)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="ofa-mbv3")
    parser.add_argument(
        "--resolution", type=int, action="append", help="may be given several times (default: the middle one)"
    )
    parser.add_argument("--networks", type=int, default=30, help="whole networks to predict")
    parser.add_argument("--probes", type=int, default=20, help="whole networks to calibrate on")
    parser.add_argument(
        "--statistic",
        choices=STATISTICS,
        default="latency_ms",
        help="of the samples; the product uses the undisturbed latency",
    )
    parser.add_argument("--seed", type=int, default=0)
    text = parser.add_argument_group("spaces of transformers: the latency is that of one sentence")
    text.add_argument("--source-tokens", type=int, default=30)
    text.add_argument("--target-tokens", type=int, default=30)
    text.add_argument("--beam", type=int, default=5)
    text.add_argument("--words", type=int, default=2000, help="of each vocabulary")
    args = parser.parse_args()
    space = _space(args)
    resolutions = args.resolution or [space.resolutions[len(space.resolutions) // 2]]
    architectures = sample(space, resolutions, args.networks, args.probes, args.seed)
    operators: list[Operator] = sorted({op for r in resolutions for op in all_operators(space, r)})
    start = time.perf_counter()
    blocks = export_operators(operators)
    files = {op.text: data for op, data in blocks.items()}
    probe_files = {f"probe{i}": data for i, data in enumerate(_whole(args, space, architectures[0], blocks))}
    export_seconds = time.perf_counter() - start
    network_files = {f"net{i}": data for i, data in enumerate(_whole(args, space, architectures[1], blocks))}
    fed = tuple(spec.of_batch(1) for spec in space.inputs_at(resolutions[0]))
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), files[operators[len(operators) // 2].text], args.seed, fed)
        start = time.perf_counter()
        profile = bench.profile({**files, **probe_files})
        profile_seconds = time.perf_counter() - start
        measured, again = bench.measure(network_files).measured, bench.measure(network_files).measured
    by_statistic = {
        s: scores(space, operators, architectures, profile, measured, again, s) for s in STATISTICS
    }
    flags = profile.flags
    report = {
        **by_statistic[args.statistic],
        "profile_seconds": round(profile_seconds, 2),
        "export_seconds": round(export_seconds, 2),
        "seconds": {
            "export": round(export_seconds, 2),
            "transfer": 0.0,
            "measuring": round(profile_seconds, 2),
            "waiting": 0.0,
        },
        "space": args.space,
        "resolutions": resolutions,
        "operators": len(operators),
        "networks": args.networks,
        "probes": args.probes,
        "flagged": {flag: flags.count(flag) for flag in sorted(set(flags))},
        "load": load(),
        "sessions": {
            "sentinel_ms": [round(s.sentinel_ms, 5) for s in profile.speeds],
            "sentinel_error": [None if s.error is None else round(s.error, 4) for s in profile.speeds],
            "factor": [round(f, 4) for f in profile.factors],
            "speed_spread": spread(profile.speeds),
        },
        "by_statistic": by_statistic,
        "seed": args.seed,
        **environment(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
