"""`bespoke search`: a network for a device and a budget, or for many of both in one job."""

from __future__ import annotations

from rich.markup import escape

from service.cli import search_options as option
from service.cli.connection import client
from service.cli.deliveries import deliver, show_matrix
from service.cli.front import newest_trained
from service.cli.generations import Generation, sentence_of
from service.cli.screen import errors, follow, milliseconds, problem_text, result, say
from service.cli.targets import narrowing_of, targets_of
from service.client import BespokeClient, ClientError
from service.client.jobs import Json
from supernets.delivery.precision import FLOAT32


class SomeFailed(ClientError):
    """Some targets of a job were delivered, others cannot be met."""

    def __init__(self, failures: list[Json]) -> None:
        lines = [f"{_name_of(f)}: {problem_text(f.get('error'))}" for f in failures]
        super().__init__("not every target was met.\n  " + "\n  ".join(lines))


class Suspect(ClientError):
    """Networks were delivered that do not do what was predicted of them."""

    def __init__(self, models: list[Json]) -> None:
        super().__init__(
            f"not to be trusted: {', '.join(m['id'] for m in models)}. Accuracy on the test split lies far "
            "below the prediction; the card says by how much (`bespoke models show`)"
        )


def search(
    device: option.Device = None,
    budget_ms: option.BudgetMs = None,
    target: option.Target = None,
    exclude: option.Exclude = None,
    resolution: option.Resolution = None,
    exclude_missing: option.ExcludeMissing = False,
    precision: option.Precision = FLOAT32,
    prune: option.Prune = False,
    p95_ms: option.P95Ms = None,
    energy_mj: option.EnergyMj = None,
    size_bytes: option.SizeBytes = None,
    macs: option.Macs = None,
    memory_bytes: option.MemoryBytes = None,
    adaptation_bytes: option.AdaptationBytes = None,
    supernet: option.Supernet = None,
    space: option.Space = None,
    dataset: option.Dataset = None,
    recipe: option.Recipe = None,
    strategy: option.Strategy = "exact",
    gate_epochs: option.GateEpochs = None,
    tune_epochs: option.TuneEpochs = None,
    memory_mb: option.MemoryMb = None,
    train: option.Train = "all",
    defensive: option.Defensive = False,
    robustness: option.Robustness = False,
    control: option.Control = None,
    confidence: option.Confidence = None,
    candidates: option.Candidates = 5,
    verify: option.Verify = True,
    measured_candidates: option.MeasuredCandidates = 3,
    batch: option.Batch = "device",
    preprocessing: option.Preprocessing = "separate",
    generation: Generation = None,
    output: option.Output = None,
    detach: option.Detach = False,
) -> None:
    """Find the most accurate network that keeps a latency budget on a device.

    Examples:

    [cyan]bespoke search --device this-machine --budget-ms 0.5 -o model.onnx[/]

    [cyan]bespoke search --target pixel7=12 --target pi5=30 -o networks/[/]  one job, one supernet, many
    devices

    [cyan]bespoke search --device pixel7 --budget-ms 12 --confidence 0.95 --strategy evolution[/]

    [cyan]bespoke search --device board --budget-ms 20 --size-bytes 1000000 --memory-bytes 262144[/]  all of
    it at once

    [cyan]bespoke search --device board --budget-ms 20 --p95-ms 28 --energy-mj 5[/]  now and then too

    [cyan]bespoke search --size-bytes 250000 --memory-bytes 65536[/]  for a microcontroller: no device, no
    table

    [cyan]bespoke search --target pixel7=12+pi5=30[/]  one network that keeps both budgets

    [cyan]bespoke search --device npu --budget-ms 3 --exclude kernel=7 --exclude squeeze_excite=true[/]

    [cyan]bespoke search --device board --budget-ms 15 --precision mixed[/]  blocks in int8 where that is
    faster there; first [cyan]bespoke profile --precision mixed[/]

    [cyan]bespoke search --device board --budget-ms 15 --prune[/]  and channels of blocks cut out; first
    [cyan]bespoke profile --prune[/]

    [cyan]bespoke search --device board --budget-ms 20 --tune-epochs 5[/]  minutes more, for the last points
    of accuracy

    A budget that no network can meet is refused at once, with the range that can be reached;
    [cyan]bespoke front[/] shows that range.

    The strategy exact solves in milliseconds and proves its answer. The strategy gradient (ProxylessNAS)
    trains the supernet's weights together with the probability of every choice, for each target anew: one
    epoch to warm up and one to search where the recipe was trial, 1 and 10 for quick, 2 and 30 for others. It
    takes minutes where exact takes none.

    A network cut out of a supernet shares its weights with all others. With --tune-epochs the chosen one goes
    on training with its own, for every target: small networks gain most. Where it does not help on the
    validation split the network stays as it was, and the card says so.
    """
    given = {
        "size_bytes": size_bytes,
        "macs": macs,
        "memory_bytes": memory_bytes,
        "adaptation_bytes": adaptation_bytes,
    }
    limits = {name: value for name, value in given.items() if value is not None}
    further = {"latency_p95_ms": p95_ms, "energy_mj": energy_mj}
    wanted = targets_of(
        device, budget_ms, target or [], limits, {n: v for n, v in further.items() if v is not None}
    )
    narrowed = narrowing_of(exclude or [], resolution or [], exclude_missing, precision, prune)
    request: Json = {
        "targets": [{**one, **narrowed} for one in wanted],
        "strategy": strategy,
        "candidates": candidates,
        "verify": verify,
        "measured_candidates": measured_candidates,
        "batch": batch,
        "preprocessing": preprocessing,
    }
    asked: Json = {
        "confidence": confidence,
        "gate_epochs": gate_epochs,
        "tune_epochs": tune_epochs,
        "memory_mb": memory_mb,
        "control": control,
        "train": None if train == "all" else train,
        "defensive": defensive or None,
        "robustness": robustness or None,
        "generation": sentence_of(generation),
    }
    request |= {name: value for name, value in asked.items() if value is not None}
    with client() as service:
        job = service.search({**source_of(service, supernet, space, dataset, recipe), **request})
        if detach:
            say(job.id)
            result(job.raw)
            return
        for note in job.raw.get("remarks", []):
            errors.print(f"[yellow]{escape(note)}[/]")
        done = follow(service, job, f"search {job.id[:12]}")
        deliver(service, done.result.get("models") or [], output)
        result({**done.raw, "cards": [service.model(one["id"]) for one in done.result.get("models") or []]})
    show_matrix(done.result, output)
    check_delivered(done.result)


def check_delivered(found: Json) -> None:
    """Raises SomeFailed where a target has no network, Suspect where one does not do what was predicted."""
    failures = found.get("failures") or []
    if failures:
        raise SomeFailed(failures)
    suspects = [model for model in found.get("models") or [] if model.get("state") == "suspect"]
    if suspects:
        raise Suspect(suspects)


def source_of(
    service: BespokeClient, supernet: str | None, space: str | None, dataset: str | None, recipe: str | None
) -> dict[str, str]:
    """What the networks are cut from: as asked for, else the newest trained supernet, else the built-in
    digits."""
    if supernet is not None:
        return {"supernet": supernet}
    if (space, dataset, recipe) == (None, None, None):
        trained = newest_trained(service)
        if trained is not None:
            errors.print(f"from supernet {trained['id']} ({trained['space']} on {trained['dataset']})")
            return {"supernet": trained["id"]}
    source = {"space": space or "digits-mbv3", "dataset": dataset or "digits"}
    return source if recipe is None else {**source, "recipe": recipe}


def _name_of(failure: Json) -> str:
    """The target of a failure as a person reads it."""
    return str(failure.get("target") or f"{failure['device']} within {milliseconds(failure['budget_ms'])} ms")
