"""Batches of a training: the same numbers whether the pictures lie in memory or are converted when asked
for."""

import numpy as np
import torch
from PIL import Image

from benchmarks.image_folder import make_folder, measured
from supernets.data.catalog import load_dataset, load_for
from supernets.data.loaders import folder as folder_form
from supernets.delivery.catalog import Delivery
from supernets.spaces.catalog import space_named
from supernets.tasks.images import ImagesTask, NormalisedImages
from supernets.training.evaluation import Evaluator
from supernets.training.loop import Trainer
from supernets.training.recipe import Phase, Recipe


def write_pictures(folder):
    generator = np.random.default_rng(0)
    for title in ("left", "top"):
        (folder / title).mkdir(parents=True)
        for number in range(24):
            pixels = generator.integers(0, 256, size=(20, 20, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / title / f"{number:02}.png")


def test_a_training_step_and_an_evaluation_are_the_same_from_memory_and_lazily(tmp_path, monkeypatch):
    write_pictures(tmp_path / "pictures")
    space = space_named("cifar-mbv3").with_classes(2)
    recipe = Recipe("step", "one step", (Phase("step", 1, 1e-3),), batch_size=16)
    losses, batches, shares = [], [], []
    for eager_bytes in (folder_form.EAGER_BYTES, 0):
        monkeypatch.setattr(folder_form, "EAGER_BYTES", eager_bytes)
        data = load_dataset(
            "mine", tmp_path / "kept", {"mine": str(tmp_path / "pictures")}, size=32, channels=3
        )
        trainer = Trainer(space.at(space.resolutions[:1]), data, recipe, 0)
        batch = next(trainer.batches())[0]
        batches.append(trainer.samples[batch][0])
        losses.append(trainer.step(recipe.phases[0], batch, 0, 0.01))
        shares.append(Evaluator(trainer.supernet.eval(), data).qualities([trainer.space.smallest()])[0])
    assert torch.equal(*batches) and losses[0] == losses[1] and shares[0] == shares[1]


def test_arrays_are_held_as_bytes():
    data = load_dataset("digits")
    images = NormalisedImages(data, "train", torch.device("cpu"))
    assert images._source.dtype == torch.uint8
    rows = torch.tensor([5, 1, 5])
    wanted = (data.train.images[rows.numpy()].astype(np.float32) - data.mean[:, None, None]) / data.deviation[
        :, None, None
    ]
    assert np.allclose(images[rows][0].numpy(), wanted, atol=1e-6)


def test_the_benchmark_of_large_folders_measures_what_it_says(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_form, "EAGER_BYTES", 0)
    make_folder(tmp_path / "pictures", 60, 3, 16)
    found = measured(tmp_path / "pictures", tmp_path / "kept", 16, 8, 2)
    assert found["files"] == 60 and found["classes"] == 3 and found["batch"] == [8, 3, 16, 16]
    assert found["peak_mib"] >= found["before_mib"] > 0
    assert found["load_s"] > 0 and found["images_per_s"] > 0


def test_a_file_says_where_training_pictures_were_grey():
    grey, colour = space_named("digits-mbv3"), space_named("cifar-mbv3")
    described = []
    for space in (grey, colour):
        data = load_for(space, "digits")
        assert data.coloured is (space is colour)
        described.append(ImagesTask().input_of(data, space.resolutions[0], Delivery(), "input"))
    assert "channels" not in described[0] and "grey" in described[1]["channels"]
    assert described[1]["channel_order"] == "RGB"
