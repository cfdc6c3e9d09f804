"""How many searches keep their budget on this machine, and how much of it their networks use.

    python -m benchmarks.kept_budgets --space hat-small --searches 20 --folder kept
    python -m benchmarks.kept_budgets --space hat-small --threads 1 --threads 2 --searches 5 --folder kept
    python -m benchmarks.kept_budgets --space digits-mbv3 --dataset digits --generation none --precision mixed

The real parts do all of it: a service, its worker and the agent on this machine, which profiles it; then one
search job after the other, with budgets spread evenly over what the front reaches, in random order. Each
`--threads` is a device of its own; a search has one target on each, so the matrix shows every network on
both. Budgets of int8 and mixed networks lie in the range of those in float32.

`kept`, `used_median`: of what the searches measured; `kept_again`, `used_again_median`: of the delivered
networks measured once more in a session of their own, which chose nothing. `closest_median`: of the network
that comes closest to the budget among those that were measured and keep it: where the delivered one uses
less, it was the better one on validation. `--folder` is kept, so that the command goes on where it was
interrupted.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.environment import environment
from latency_tables.agent.environment import load
from latency_tables.agent.loop import SENTINEL, SENTINEL_COPIES
from latency_tables.agent.runner import Job, Limits, Network, measure_in_child
from latency_tables.agent.runtimes.setup import Setup
from service.cli.demo import keeps, tended, trained_id
from service.cli.local_agent import LocalAgent, ensure_device
from service.cli.profile import measure
from service.cli.screen import follow
from service.cli.supervisor import Stack
from service.client import ApiProblem, BespokeClient, JobUnfinished, find_access
from service.client.jobs import Json
from supernets.delivery.export import export_operators
from supernets.delivery.precision import FLOAT32, INT8
from supernets.delivery.sentences import to_measure
from supernets.spaces.architecture import SpaceRef
from supernets.spaces.catalog import space_at
from supernets.spaces.lowering import all_operators
from supernets.spaces.space import Space

MARGIN: Final = 0.01
"""Of the range at either end, where no budget is asked for."""
WELL_USED: Final = 0.9


class Bench:
    """A service with this machine as one device or several."""

    def __init__(self, service: BespokeClient, args: argparse.Namespace, folder: Path) -> None:
        self.service, self.args = service, args
        self.asked = folder / f"budgets-{args.seed}-{args.searches}.json"
        self.devices = {f"threads-{n}": Setup(threads=n) for n in args.threads or [1]}
        self.seconds: dict[str, float] = {}

    def prepared(self, running: ExitStack) -> str:
        """Profile every device and train the supernet; its id. The agents run as long as `running`."""
        args, service = self.args, self.service
        for name, setup in self.devices.items():
            ensure_device(service, name, setup)
            agent = running.enter_context(LocalAgent(service, name))
            with self._timed("profile"):
                measure(
                    service,
                    agent,
                    name,
                    args.space,
                    None,
                    args.networks,
                    dataset=args.dataset,
                    generation=args.generation,
                    precisions=None if args.precision == FLOAT32 else [FLOAT32, INT8],
                )
            # A search that begins before its agent is there measures nothing.
            while not (service.device(name)["agent"] or {}).get("present"):
                agent.check()
                time.sleep(0.5)
        with self._timed("train"):
            job = service.train_supernet(args.space, args.dataset, args.recipe, args.seed)
            return trained_id(follow(service, job, "train").result)

    def searched(self, supernet: str) -> list[Json]:
        """One entry for each delivered network, or for each target that has none."""
        args, found = self.args, []
        if not self.asked.exists():  # a front moves with every network that is measured
            budgets = {name: self._budgets(supernet, name) for name in self.devices}
            self.asked.write_text(json.dumps(budgets), encoding="utf-8")
        budgets = json.loads(self.asked.read_text(encoding="utf-8"))
        order = np.random.default_rng(args.seed).permutation(args.searches)
        for number in order.tolist():
            wanted = {name: ms[number] for name, ms in budgets.items()}
            targets = [
                {"device": name, "budget": {"latency_ms": ms}, "precision": args.precision}
                for name, ms in wanted.items()
            ]
            request: Json = {"supernet": supernet, "targets": targets}
            request |= {} if self.sentence is None else {"generation": self.sentence}
            key = f"kept-{args.seed}-{args.searches}-{number}"
            with self._timed("search"):
                try:
                    done = follow(self.service, self.service.search(request, key), f"search {number}").result
                except (JobUnfinished, ApiProblem) as failed:
                    # Refused too: what was measured since may have moved the end of what can be reached.
                    found += [self._failed(name, ms, str(failed)) for name, ms in wanted.items()]
                    continue
            found += [self._delivered(self.service.model(m["id"]), done["matrix"]) for m in done["models"]]
            failures = done["failures"]
            found += [self._failed(f["device"], f["budget_ms"], f["error"]["detail"]) for f in failures]
            print(json.dumps(found[-1]), file=sys.stderr, flush=True)
        return found

    @property
    def sentence(self) -> dict[str, int] | None:
        """The one that is timed; None of a space of pictures."""
        names = ("source_tokens", "target_tokens", "beam")
        given = self.args.generation
        return None if given is None else dict(zip(names, map(int, given.split(",")), strict=True))

    def _budgets(self, supernet: str, device: str) -> list[float]:
        """Evenly over what the front reaches, in ms."""
        points = self.service.front(supernet, device, self.sentence)["points"]
        reach = [p["latency_ms"] if p.get("upper_ms") is None else p["upper_ms"] for p in points]
        low, high = min(reach), max(reach)
        shares = np.linspace(MARGIN, 1 - MARGIN, self.args.searches) if self.args.searches > 1 else [0.5]
        return [float(f"{low + share * (high - low):.4g}") for share in shares]

    def _delivered(self, card: Json, matrix: Json) -> Json:
        budget, latency = card["budget_ms"], card["latency"]
        lines = [line["measured_ms"] for line in card["search"]["measured"]]
        within = [ms for ms in lines if ms <= budget]
        rows = {row["model_id"]: row["latency_ms"] for row in matrix["networks"]}
        return {
            "model": card["id"],
            "device": card["device"],
            "budget_ms": budget,
            "predicted_ms": latency["predicted_ms"],
            "upper_ms": latency.get("upper_ms"),
            "measured_ms": latency.get("measured_ms"),
            "kept": keeps(card),
            "used": None if latency.get("measured_ms") is None else latency["measured_ms"] / budget,
            "closest": max(within) / budget if within else None,
            "networks_measured": len(lines),
            "validation": card["accuracy"]["validation"],
            "test": card["accuracy"]["measured"],
            "predicted_on": rows[card["id"]],
        }

    def _failed(self, device: str, budget_ms: float, reason: str) -> Json:
        return {"device": device, "budget_ms": budget_ms, "kept": False, "used": None, "reason": reason}

    def again(self, found: Sequence[Json]) -> None:
        """Measure every delivered network once more on every device, all in one session of each."""
        models = {one["model"]: self.service.model(one["model"]) for one in found if "model" in one}
        if not models:
            return
        with self._timed("again"), tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            networks: dict[str, Network] = {}
            space: Space | None = None
            for number, (model, card) in enumerate(models.items()):
                path, written = folder / f"delivered-{number}", card["architecture"]
                self.service.download_model(model, path)
                space = space_at(SpaceRef(written["space"], written["classes"]))
                fed = None
                if space.generation is not None:
                    path.write_bytes(to_measure(path.read_bytes(), space.generation))
                    fed = tuple(spec.of_batch(1) for spec in space.inputs_at(written["resolution"]))
                networks[model] = Network(path, fed)
            assert space is not None
            networks[SENTINEL] = Network(_sentinel(space, folder))
            times = {name: self._session(networks, setup) for name, setup in self.devices.items()}
        for one in found:
            if "model" in one:
                one["again_on"] = {name: ms[one["model"]] for name, ms in times.items()}
                one["again_ms"] = one["again_on"][one["device"]]

    def _session(self, networks: Mapping[str, Network], setup: Setup) -> dict[str, float]:
        limits = Limits(memory_mib=16_384)
        job = Job(networks, SENTINEL, None, SENTINEL_COPIES, setup=setup, seed=self.args.seed, limits=limits)
        return {name: reading.measurement.latency_ms for name, reading in measure_in_child(job).items()}

    def _timed(self, name: str) -> _Timed:
        return _Timed(self.seconds, name)


class _Timed:
    """Adds the seconds of a `with` to those of that name."""

    def __init__(self, seconds: dict[str, float], name: str) -> None:
        self._seconds, self._name = seconds, name

    def __enter__(self) -> None:
        self._start = time.monotonic()

    def __exit__(self, *_: object) -> None:
        took = time.monotonic() - self._start
        self._seconds[self._name] = round(self._seconds.get(self._name, 0.0) + took, 1)


def _sentinel(space: Space, folder: Path) -> Path:
    """The file of an operator of middling work."""
    operators = sorted(all_operators(space, space.resolutions[0]), key=lambda op: op.macs)
    middle = operators[len(operators) // 2]
    path = folder / SENTINEL
    path.write_bytes(export_operators([middle])[middle])
    return path


def summary(found: Sequence[Json]) -> Json:
    """Shares and medians over all searches; a target without a network kept nothing."""
    again = [one for one in found if one.get("again_ms") is not None]
    return {
        "kept": float(np.mean([one["kept"] for one in found])),
        "used_median": _median([one["used"] for one in found]),
        "well_used": float(np.mean([(one["used"] or 0.0) >= WELL_USED for one in found])),
        "closest_median": _median([one.get("closest") for one in found]),
        "kept_again": sum(one["again_ms"] <= one["budget_ms"] for one in again) / len(found),
        "used_again_median": _median([one["again_ms"] / one["budget_ms"] for one in again]),
        "networks_measured_median": _median([one.get("networks_measured") for one in found]),
    }


def _median(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return round(float(np.median(known)), 4) if known else None


def matrix(found: Sequence[Json], devices: Sequence[str]) -> Json:
    """Median over the networks made for each device of what they take on each, over what the network made
    for that one at the same place of the range takes; as predicted, and as measured again."""
    place: dict[str, list[Json]] = {name: [] for name in devices}
    for one in sorted((one for one in found if "again_on" in one), key=lambda one: one["budget_ms"]):
        place[one["device"]].append(one)
    rows: Json = {}
    for made, networks in place.items():
        rows[made] = {
            on: {
                "over_its_budget": _median(
                    [
                        mine["again_on"][on] / theirs["budget_ms"]
                        for mine, theirs in zip(networks, place[on], strict=False)
                    ]
                ),
                "prediction_error": _median(
                    [abs(mine["predicted_on"][on] / mine["again_on"][on] - 1) for mine in networks]
                ),
            }
            for on in devices
        }
    return rows


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--space", default="hat-small")
    parser.add_argument("--dataset", default="pronunciations")
    parser.add_argument(
        "--generation", default="9,8,4", help="tokens read, written, beams; `none` of pictures"
    )
    parser.add_argument("--recipe", default="quick")
    parser.add_argument("--searches", type=int, default=20, help="budgets over the reachable range")
    parser.add_argument("--networks", type=int, default=20, help="whole networks that calibrate a table")
    parser.add_argument("--threads", type=int, action="append", help="a device with so many; may be repeated")
    parser.add_argument("--precision", default=FLOAT32, choices=(FLOAT32, INT8, "mixed"), help="of blocks")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="kept: the command goes on in it")
    args = parser.parse_args()
    args.generation = None if args.generation == "none" else args.generation
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary) / "data"
        with tended(Stack(folder, port=0, log_dir=folder / "logs")) as stack:
            access = find_access(stack.url, data_dir=folder)
            with BespokeClient.from_access(access) as service:
                bench = Bench(service, args, folder)
                with ExitStack() as running:
                    found = bench.searched(bench.prepared(running))
                bench.again(found)
                known = {name: service.device(name)["calibration"] for name in bench.devices}
    devices = list(bench.devices)
    report: dict[str, Any] = {
        **summary(found),
        "by_device": {name: summary([o for o in found if o["device"] == name]) for name in devices},
        "matrix": matrix(found, devices) if len(devices) > 1 else None,
        "searches": found,
        "calibration": {name: [c["error"] for c in cs] for name, cs in known.items()},
        "seconds": bench.seconds,
        "load": load(),
        "space": args.space,
        "generation": args.generation,
        "recipe": args.recipe,
        "precision": args.precision,
        "seed": args.seed,
        "environment": environment(),
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
