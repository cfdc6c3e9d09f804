"""Your data from given weights: accuracy against an equal-step control, ranking, what class weights bring.

The source is `cifar-mbv3` at 16 px, trained here on the digits and capitals of the data set `glyphs`. Parts:
`letters` (the small letters, 20 a class: a related source), `fashion` (photographed products, 20 a class: an
unrelated one; `supernet`: ten networks as cut out of a supernet from the weights and of one from scratch, at
equal steps), `imbalance` (fashion, every second class ten times rarer), `rare-letters` (the same of letters,
100 and 10 a class). `--fashion` names the folder of Debian's dataset-fashion-mnist
(/usr/share/datasets/fashion-mnist). Accuracies are of the test split, in percent; steps are equal wherever
two are compared, those of fine-tuning included.

`--folder` keeps the source and finished parts, so that an interrupted run resumes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from benchmarks.environment import environment
from benchmarks.trained import mean_likelihoods
from supernets.accuracy.likelihood import LIKELIHOOD, equal_to_best
from supernets.accuracy.predictor import QualityPredictor, kendall_tau
from supernets.data.catalog import load_dataset
from supernets.data.glyphs import CHARACTERS
from supernets.data.splits import Dataset, Split
from supernets.delivery.verdict import balanced_accuracy, by_class
from supernets.network import Supernet
from supernets.spaces.architecture import Architecture
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import lower
from supernets.spaces.space import Space
from supernets.tasks.catalog import task_of
from supernets.training.catalog import TRANSFER, TUNE_EPOCHS, recipe_named
from supernets.training.checkpoint import load_checkpoint
from supernets.training.control import SCRATCH_RATE, from_scratch
from supernets.training.evaluation import Evaluator
from supernets.training.loop import Trainer
from supernets.training.recipe import Recipe, tuning_steps
from supernets.training.start import begin_with
from supernets.training.tuning import tuned

PIXELS: Final = 16
SOURCE: Final = CHARACTERS[:36]
PER_CLASS: Final = 20
RANKED = 20  # networks
SCORED = 100  # other networks, whose log-likelihoods predict those of the ranked ones, as in a search
PARTS: Final = ("letters", "fashion", "imbalance", "rare-letters")


def space_of(classes: int) -> Space:
    """The space of all parts."""
    return replace(space_named("cifar-mbv3").with_classes(classes), resolutions=(PIXELS,))


def part_of(data: Dataset, labels: list[int], counts: dict[str, list[int]], seed: int) -> Dataset:
    """Some classes of a data set with so many samples of each in each split."""
    generator = np.random.default_rng(seed)

    def taken(name: str) -> Split:
        split, rows = data.split(name), []
        for label, count in zip(labels, counts[name], strict=True):
            rows.append(generator.permutation(np.flatnonzero(split.labels == label))[:count])
        found = split.take(np.concatenate(rows))
        numbers = {label: number for number, label in enumerate(labels)}
        return Split(found.images, np.array([numbers[one] for one in found.labels.tolist()]))

    splits = {name: taken(name) for name in ("train", "validation", "test")}
    return Dataset(data.name, tuple(data.classes[label] for label in labels), **splits)


@dataclass(frozen=True)
class Source:
    """Weights to begin with, and the data set they were trained on: inputs are normalised by its moments."""

    weights: dict[str, torch.Tensor]
    data: Dataset

    def expects(self, data: Dataset) -> Dataset:
        """The data as these weights expect them."""
        task = task_of(data)
        found: Dataset = task.as_expected(data, task.expected(self.data))
        return found


def source_of(glyphs: Dataset, folder: Path, seed: int, epochs: int) -> Source:
    """Weights of the source supernet after so many epochs, from the folder where they are there."""
    labels = [CHARACTERS.index(one) for one in SOURCE]
    counts = {"train": [128] * 36, "validation": [20] * 36, "test": [20] * 36}
    data = part_of(glyphs, labels, counts, seed)
    phase = replace(recipe_named("standard").phases[0], epochs=epochs, networks=3, learning_rate=1e-2)
    recipe = replace(recipe_named("standard"), name="source", phases=(phase,))
    Trainer(space_of(36), data, recipe, seed).run(folder, lambda said: _say(said.message))
    found = load_checkpoint(folder)
    if found is None:
        raise SystemExit("the source has no checkpoint")
    return Source(found.tensors["supernet"], data)


def transferred(
    source: Source, data: Dataset, recipe: Recipe, seed: int, folder: Path
) -> tuple[Supernet, int, float]:
    """(supernet, steps, seconds of processor time). data: as the source expects them."""
    trainer = Trainer(space_of(len(data.classes)), data, recipe, seed, start=source.weights)
    start = time.process_time()
    trainer.run(folder)
    return trainer.supernet.eval(), trainer.position.step, time.process_time() - start


def drawn(space: Space, networks: int, seed: int) -> list[Architecture]:
    """The largest, the smallest and random ones."""
    return [
        space.largest(),
        space.smallest(),
        *space.sample(np.random.default_rng([seed, 7]), networks - 2),
    ]


def tests(network: Supernet, data: Dataset, architectures: list[Architecture]) -> list[float]:
    """Accuracy of each on the test split, percent."""
    return [round(100 * float(one), 2) for one in Evaluator(network, data, "test").qualities(architectures)]


def compared(
    supernet: Supernet,
    source: Source,
    data: Dataset,
    networks: list[Architecture],
    steps: int,
    seed: int,
    folder: Path,
    recipe: Recipe,
    *,
    each_alone: bool,
) -> dict[str, Any]:
    """The networks fine-tuned from the supernet, tuned alone from the source, and from scratch."""
    plain, data = data, source.expects(data)
    space = supernet.space
    per_epoch = max(1, len(data.train) // recipe.batch_size)
    whole = steps + tuning_steps(recipe, TUNE_EPOCHS, per_epoch)
    first = Supernet(space, generator=torch.Generator().manual_seed(seed))
    if each_alone:
        begin_with(first, source.weights, data)
    found: dict[str, list[float]] = {"from_scratch": [], "alone_from_weights": []}
    kept, seconds = [], {"tuning": 0.0, "alone": 0.0}
    for number, architecture in enumerate(networks):
        place = folder / f"{seed}-{number}"
        start = time.process_time()
        own, *_ = tuned(supernet, architecture, data, recipe, TUNE_EPOCHS, seed, place / "tuned")
        seconds["tuning"] += time.process_time() - start
        # As a search has it: fine-tuned weights are delivered where they do better on validation.
        before, after = (_likelihood(net, data, architecture) for net in (supernet, own))
        kept.append(tests(own if after >= before else supernet, data, [architecture])[0])
        if each_alone:
            start = time.process_time()
            alone_net, *_ = tuned(
                first, architecture, data, recipe, whole // per_epoch, seed, place / "alone"
            )
            seconds["alone"] += time.process_time() - start
            found["alone_from_weights"] += tests(alone_net, data, [architecture])
        scratch, taken = from_scratch(space, architecture, plain, recipe, whole, seed, place / "scratch")
        found["from_scratch"] += tests(scratch, plain, [architecture])
        _say(f"network {number + 1} of {len(networks)}: {kept[-1]}, from scratch {found['from_scratch'][-1]}")
    return {
        "steps": taken,
        "tuned": kept,
        **{name: values for name, values in found.items() if values},
        "gain_points": round(float(np.mean(kept) - np.mean(found["from_scratch"])), 2),
        "seconds": {name: round(value, 1) for name, value in seconds.items() if value},
    }


def _likelihood(network: Supernet, data: Dataset, architecture: Architecture) -> float:
    return float(mean_likelihoods(Evaluator(network, data, likelihoods=True), [architecture])[0])


def letters(
    glyphs: Dataset, source: Source, seed: int, folder: Path, networks: int, recipe: Recipe
) -> dict[str, Any]:
    """A related source: gain, sandwich with tuning against each network alone, ranking."""
    labels = [CHARACTERS.index(one) for one in CHARACTERS[36:]]
    counts = {"train": [PER_CLASS] * 26, "validation": [10] * 26, "test": [60] * 26}
    data = part_of(glyphs, labels, counts, seed)
    plain, data = data, source.expects(data)
    supernet, steps, seconds = transferred(source, data, recipe, seed, folder / "supernet")
    ten = drawn(supernet.space, RANKED, seed)
    evaluator = Evaluator(supernet, data, likelihoods=True)
    counted = evaluator.qualities(ten)
    others = supernet.space.sample(np.random.default_rng([seed, 11]), SCORED)
    evaluator.qualities(others)
    known = [(one, evaluator.likelihoods(one)) for one in others]
    predictor = QualityPredictor.fit(
        supernet.space,
        [one for one, groups in known if groups is not None],
        [groups.mean() for _, groups in known if groups is not None],
        metric=LIKELIHOOD,
    )
    groups = [evaluator.likelihoods(one) for one in ten]
    means = np.array([0.0 if one is None else one.mean() for one in groups])
    tested = np.array(tests(supernet, data, ten))
    found = compared(
        supernet, source, plain, ten[:networks], steps, seed, folder / "networks", recipe, each_alone=True
    )
    tuning, each = (found["seconds"][name] / networks for name in ("tuning", "alone"))
    return {
        **found,
        "supernet_steps": steps,
        "supernet_mean_of_all": round(float(tested.mean()), 2),
        "validation_samples": len(data.validation),
        "kendall_tau_with_test": {
            name: round(kendall_tau(np.asarray(values), tested), 3)
            for name, values in {
                "log_likelihood": means,
                "counted": counted,
                "predicted": predictor.predict(np.array([supernet.space.genes(one) for one in ten])),
                # What can be had at best, and what needs no sample at all.
                "log_likelihood_of_test": mean_likelihoods(
                    Evaluator(supernet, data, "test", likelihoods=True), ten
                ),
                "macs": [sum(op.macs for op in lower(supernet.space, one)) for one in ten],
            }.items()
        },
        "equal_to_best": len(equal_to_best([list(one) for one in groups if one is not None])),
        "networks_ranked": len(ten),
        "behind_each_alone_points": round(
            float(np.mean(found["alone_from_weights"]) - np.mean(found["tuned"])), 2
        ),
        "seconds_for_ten": {
            "sandwich_and_tuning": round(seconds + 10 * tuning, 1),
            "each_alone": round(10 * each, 1),
        },
    }


def fashion(
    pictures: Dataset, source: Source, seed: int, folder: Path, networks: int, recipe: Recipe
) -> dict[str, Any]:
    """An unrelated source and few pictures."""
    counts = {"train": [PER_CLASS] * 10, "validation": [20] * 10, "test": [200] * 10}
    data = part_of(pictures, list(range(10)), counts, seed)
    expected = source.expects(data)
    supernet, steps, _ = transferred(source, expected, recipe, seed, folder / "supernet")
    chosen = drawn(supernet.space, 2 + networks, seed)[2:]
    found = compared(
        supernet, source, data, chosen, steps, seed, folder / "networks", recipe, each_alone=False
    )
    phase = replace(recipe.phases[0], learning_rate=SCRATCH_RATE)
    other = Trainer(supernet.space, data, replace(recipe, name="from scratch", phases=(phase,)), seed)
    other.run(folder / "scratch")
    assert other.position.step == steps
    ten = drawn(supernet.space, 10, seed)
    ours, theirs = (
        float(np.mean(tests(one, of, ten)))
        for one, of in ((supernet, expected), (other.supernet.eval(), data))
    )
    means = {"from_weights": round(ours, 2), "from_scratch": round(theirs, 2)}
    return {**found, "supernet": {**means, "gain_points": round(ours - theirs, 2)}}


def imbalance(
    pictures: Dataset, source: Source, seed: int, folder: Path, networks: int, recipe: Recipe
) -> dict[str, Any]:
    """Every second class of clothes ten times rarer."""
    counts = {"train": [100, 10] * 5, "validation": [20] * 10, "test": [200] * 10}
    data = part_of(pictures, list(range(10)), counts, seed)
    return _weighed(source.expects(data), source, seed, folder, networks, recipe)


def rare_letters(
    glyphs: Dataset, source: Source, seed: int, folder: Path, networks: int, recipe: Recipe
) -> dict[str, Any]:
    """Every second letter ten times rarer."""
    labels = [CHARACTERS.index(one) for one in CHARACTERS[36:]]
    counts = {"train": [100, 10] * 13, "validation": [10] * 26, "test": [60] * 26}
    data = part_of(glyphs, labels, counts, seed)
    return _weighed(source.expects(data), source, seed, folder, networks, recipe)


def _weighed(
    data: Dataset, source: Source, seed: int, folder: Path, networks: int, recipe: Recipe
) -> dict[str, Any]:
    """Balanced accuracy with and without class weights."""
    found: dict[str, float] = {}
    for name, weights in (("none", None), ("auto", "auto")):
        asked = replace(recipe, class_weights=weights)
        supernet, _, _ = transferred(source, data, asked, seed, folder / name)
        values = []
        for architecture in drawn(supernet.space, 2 + networks, seed):
            values.append(_balanced(supernet, data, architecture))
        found[name] = round(100 * float(np.mean(values)), 2)
    return {"balanced_accuracy": found, "gain_points": round(found["auto"] - found["none"], 2)}


def _balanced(supernet: Supernet, data: Dataset, architecture: Architecture) -> float:
    from supernets.cut_out import cut_out  # noqa: PLC0415
    from supernets.training.batchnorm import calibration_batches, recalibrate  # noqa: PLC0415

    network, task = cut_out(supernet, architecture), task_of(data)
    recalibrate(network, calibration_batches(data, PIXELS, at_once=1000))
    total = np.zeros((2, len(data.classes)))
    with torch.no_grad():
        for start in range(0, len(data.test), 200):
            rows = np.arange(start, min(start + 200, len(data.test)))
            inputs, targets = task.examples(data, "test", PIXELS, rows)
            total = total + task.tally(network(inputs), targets)
    return float(balanced_accuracy(by_class(total, data.classes)) or 0.0)


def clothes(given: Path, folder: Path) -> Dataset:
    """Photographs in colour, as the source takes them."""
    loaded = load_dataset("fashion", folder, {"fashion": str(given)})
    assert isinstance(loaded, Dataset)
    return loaded.in_colour()


def _say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def _kept(file: Path, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The result of a part, from its file where it is there."""
    if not file.exists():
        file.write_text(json.dumps(work()), encoding="utf-8")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--folder", type=Path, required=True, help="what is rendered, trained and found")
    parser.add_argument("--fashion", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--seeds", type=int, default=3, help="of all parts but letters, which has one")
    parser.add_argument(
        "--source-epochs", type=int, default=32, help="that the given weights were trained for"
    )
    parser.add_argument("--rate", type=float, help="learning rate instead of the recipe's")
    parser.add_argument("--networks", type=int, default=5, help="that are tuned and trained alone")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    folder: Path = arguments.folder
    glyphs = load_dataset("glyphs", folder / "data")
    assert isinstance(glyphs, Dataset)
    source = source_of(glyphs, folder / f"source-{arguments.source_epochs}", 0, arguments.source_epochs)
    recipe = recipe_named(TRANSFER)
    if arguments.rate is not None:
        recipe = replace(recipe, phases=(replace(recipe.phases[0], learning_rate=arguments.rate),))
    result: dict[str, Any] = {}
    if "letters" in arguments.parts:
        result["letters"] = _kept(
            folder / "letters.json",
            lambda: letters(glyphs, source, 0, folder / "letters", arguments.networks, recipe),
        )
    for name, work in (("fashion", fashion), ("imbalance", imbalance), ("rare-letters", rare_letters)):
        if name not in arguments.parts:
            continue
        pictures = glyphs if name == "rare-letters" else clothes(arguments.fashion, folder / "data")
        seeds = []
        for seed in range(arguments.seeds):
            place = folder / f"{name}-{seed}"

            _say(place.name)
            seeds.append(
                _kept(
                    folder / f"{name}-{seed}.json",
                    partial(work, pictures, source, seed, place, arguments.networks, recipe),
                )
            )
        gains = [one["gain_points"] for one in seeds]
        error = float(np.std(gains, ddof=1) / np.sqrt(len(gains))) if len(gains) > 1 else None
        result[name] = {
            "gain_points": round(float(np.mean(gains)), 2),
            "standard_error": error,
            "seeds": seeds,
        }
        if name == "fashion":
            of_supernets = [one["supernet"]["gain_points"] for one in seeds]
            result[name]["supernet_gain_points"] = round(float(np.mean(of_supernets)), 2)
    given = {"rate": recipe.highest_rate, "source_epochs": arguments.source_epochs}
    print(json.dumps({**result, **given, "environment": environment()}))


if __name__ == "__main__":
    main()
