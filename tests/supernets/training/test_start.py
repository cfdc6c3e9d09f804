"""Trainings that begin with the weights of another supernet: the same classes, others, and weights that are none."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save

from supernets.cut_out import cut_out
from supernets.data.splits import Dataset, Split
from supernets.errors import InvalidCheckpoint
from supernets.network import Supernet
from supernets.spaces.catalog import space_named
from supernets.tasks.images import ImagesTask
from supernets.training import start
from supernets.training.batchnorm import calibration_batches, recalibrate
from supernets.training.evaluation import evaluate
from supernets.training.job import Job
from supernets.training.loop import Trainer
from supernets.training.recipe import Phase
from supernets.training.spec import TrainingSpec
from supernets.training.start import begin_with, ridge


@pytest.fixture(scope="module")
def halves(dataset):
    """The same pictures told apart otherwise: left or right, which no quarter says by itself."""

    def other(split):
        return Split(split.images, split.labels % 2)

    return Dataset(
        "halves", ("left", "right"), *(other(dataset.split(s)) for s in ("train", "validation", "test"))
    )


@pytest.fixture(scope="module")
def trained(space, dataset, tmp_path_factory):
    from supernets.training.recipe import Recipe

    phase = Phase("sandwich", 25, 5e-3, networks=3, sampling="sandwich", teacher="largest")
    trainer = Trainer(space, dataset, Recipe("source", "", (phase,), batch_size=32, optimiser="adamw"), 0)
    trainer.run(tmp_path_factory.mktemp("source"))
    return {name: value.clone() for name, value in trainer.supernet.state_dict().items()}


def test_the_same_classes_take_all_weights(space, dataset, trained):
    supernet = Supernet(space)
    assert begin_with(supernet, trained, dataset) is False
    assert all(torch.equal(value, trained[name]) for name, value in supernet.state_dict().items())


def test_as_many_other_classes_get_a_last_layer_of_their_own_too(space, dataset, trained):
    turned = len(dataset.classes) - 1

    def other(split):
        return Split(split.images, turned - split.labels)

    splits = (other(dataset.split(s)) for s in ("train", "validation", "test"))
    backwards = Dataset("backwards", tuple(reversed(dataset.classes)), *splits)
    supernet = Supernet(space).eval()
    assert begin_with(supernet, trained, backwards) is True
    largest = [space.largest()]
    kept = Supernet(space).eval()
    kept.load_state_dict(trained)
    wrong, right = (float(evaluate(net, largest, backwards, "test")[0]) for net in (kept, supernet))
    assert wrong < 0.5 < 0.8 < right, "the names are turned round, the pictures are the same"


def test_weights_of_the_same_data_set_are_taken_as_they_are(space, dataset, trained):
    supernet = Supernet(space)
    assert begin_with(supernet, trained, None) is False
    assert all(torch.equal(value, trained[name]) for name, value in supernet.state_dict().items())


def test_other_classes_get_a_last_layer_fitted_to_them_and_keep_everything_else(space, halves, trained):
    sized = space.with_classes(2)
    random = Supernet(sized, generator=torch.Generator().manual_seed(3)).eval()
    supernet = Supernet(sized, generator=torch.Generator().manual_seed(3)).eval()
    assert begin_with(supernet, trained, halves) is True
    linear = [name for name in trained if ".linear." in name]
    assert len(linear) == 2
    for name, value in supernet.state_dict().items():
        assert name in linear or torch.equal(value, trained[name]), name
    largest = [sized.largest()]
    before, after = (float(evaluate(net, largest, halves, "test")[0]) for net in (random, supernet))
    assert after > 0.8 and after > before, "no step was taken, and it is far above chance"


def test_a_training_from_weights_needs_fewer_steps_and_resumes_to_the_same(
    space, halves, trained, sandwich, tmp_path
):
    sized, recipe = space.with_classes(2), replace(sandwich, phases=(replace(sandwich.phases[0], epochs=2),))

    def run(folder, start, epochs=2):
        trainer = Trainer(sized, halves, recipe, 1, start=start)
        said = []

        def report(progress):
            said.append(progress)
            if len(said) == epochs < 2:
                raise KeyboardInterrupt

        if epochs < 2:
            with pytest.raises(KeyboardInterrupt):
                trainer.run(tmp_path / folder, report)
        else:
            trainer.run(tmp_path / folder, report)
        return trainer.supernet.eval()

    whole = run("whole", trained)
    run("parts", trained, epochs=1)
    resumed = run("parts", trained)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    scratch = run("scratch", None)
    smallest = [sized.smallest()]
    reached = [float(evaluate(net, smallest, halves, "test")[0]) for net in (whole, scratch)]
    assert reached[0] > reached[1]


def test_weights_of_another_space_are_refused(space, dataset, trained):
    with pytest.raises(InvalidCheckpoint, match="digits-mbv3"):
        begin_with(Supernet(space_named("digits-mbv3")), trained, dataset)
    wider = {
        name: value[..., :-1] if "stem" in name and value.ndim == 4 else value
        for name, value in trained.items()
    }
    with pytest.raises(InvalidCheckpoint, match="has shape"):
        begin_with(Supernet(space), wider, dataset)


def test_ridge_leaves_each_row_out_as_a_fit_without_it_does():
    generator = np.random.default_rng(0)
    features, wanted = generator.normal(size=(40, 6)), generator.normal(size=(40, 3))
    weights, bias, left_out = ridge(features, wanted)
    assert left_out.shape == wanted.shape and weights.shape == (6, 3) and bias.shape == (3,)
    exact = features @ weights + bias
    assert np.abs(exact - wanted).sum() < np.abs(left_out - wanted).sum(), "what was seen is told better"
    tell = features @ np.array([[1.0], [2.0], [0.0], [0.0], [-1.0], [0.5]]) + 3
    weights, bias, left_out = ridge(features, tell)
    assert np.allclose(left_out, tell, atol=1e-3) and bias == pytest.approx(3, abs=1e-3)


def test_the_digest_says_what_a_training_began_with_and_nothing_where_that_is_random():
    spec = TrainingSpec("digits-mbv3", "digits", "trial", 3)
    assert (
        spec.digest == Job(space="digits-mbv3", dataset="digits", recipe="trial", seed=3, out_dir="o").digest
    )
    others = [
        replace(spec, start="a" * 64),
        replace(spec, start="b" * 64),
        replace(spec, only={"space": "x"}),
    ]
    assert len({spec.digest, *(other.digest for other in others)}) == 4


def test_initial_weights_are_read_by_their_hash(tmp_path):
    data = save({"a": torch.ones(2)})
    file = tmp_path / "weights"
    file.write_bytes(data)
    job = Job(
        space="digits-mbv3",
        dataset="digits",
        out_dir=str(tmp_path),
        start=hashlib.sha256(data).hexdigest(),
        start_file=str(file),
    )
    assert torch.equal(job.load_start()["a"], torch.ones(2))
    file.write_bytes(data[:-1] + b"x")
    with pytest.raises(InvalidCheckpoint, match="damaged"):
        job.load_start()
    with pytest.raises(InvalidCheckpoint, match="cannot be read"):
        replace(job, start_file=str(tmp_path / "none")).load_start()
    assert replace(job, start=None).load_start() is None


def test_ridge_counts_rows_by_their_weights_and_leaves_them_out_the_same(monkeypatch):
    monkeypatch.setattr(start, "_PENALTIES", np.array([0.1]))
    generator = np.random.default_rng(0)
    features, wanted = generator.normal(size=(30, 4)), generator.normal(size=(30, 2))
    counts = generator.integers(1, 9, size=30).astype(float)

    def fitted(kept, penalty):
        """Weighted ridge with an unpunished bias, by its normal equations."""
        design = np.hstack([features[kept], np.ones((kept.sum(), 1))])
        shares = counts[kept] / counts.mean()
        normal = design.T @ (shares[:, None] * design) + penalty * np.diag([1.0] * 4 + [0.0])
        return np.linalg.solve(normal, design.T @ (shares[:, None] * wanted[kept]))

    centred = features - counts @ features / counts.sum()
    penalty = 0.1 * np.mean(np.linalg.svd(np.sqrt(counts / counts.mean())[:, None] * centred)[1] ** 2)
    weights, bias, left_out = ridge(features, wanted, counts)
    assert np.allclose(np.vstack([weights, bias]), fitted(np.full(30, True), penalty))
    for row in range(30):
        without = fitted(np.arange(30) != row, penalty)
        assert np.allclose(left_out[row], np.append(features[row], 1) @ without)
    alike = ridge(features, wanted, np.full(30, 7.0))
    assert all(np.allclose(a, b) for a, b in zip(alike, ridge(features, wanted), strict=True))


def test_a_new_last_layer_is_fitted_by_class_weights(space, halves):
    """One class ten times rarer: weighed, it is recognised more often."""
    left, right = (np.flatnonzero(halves.train.labels == label) for label in (0, 1))
    rows = np.sort(np.concatenate([left, right[: max(2, len(left) // 10)]]))
    rare, sized = replace(halves, train=halves.train.take(rows)), space.with_classes(2)
    # Random features: with those of the source there would be nothing left to weigh.
    given = Supernet(space, generator=torch.Generator().manual_seed(5)).state_dict()
    found = []
    for class_weights in (None, ImagesTask().class_weights(rare)):
        supernet = Supernet(sized).eval()
        assert begin_with(supernet, given, rare, class_weights=class_weights) is True
        network, resolution = cut_out(supernet, sized.largest()), sized.largest().resolution
        recalibrate(network, calibration_batches(rare, resolution, at_once=2000))
        with torch.no_grad():
            answers = network(torch.from_numpy(rare.inputs("test", resolution))).argmax(1).numpy()
        found.append((answers[rare.test.labels == 1] == 1).mean())
    assert found[1] > found[0]
