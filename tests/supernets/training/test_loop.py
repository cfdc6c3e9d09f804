"""Training: it learns, resumes to the same weights, refuses what is not its own, stops at a loss that is no
number."""

from dataclasses import replace

import pytest
import torch

from supernets.data import glyphs
from supernets.data.catalog import load_dataset
from supernets.errors import InvalidCheckpoint, InvalidTraining, TrainingDiverged
from supernets.layers.block import start_as_identity
from supernets.layers.mbconv import PlainMBConv
from supernets.network import Supernet, shared_blocks
from supernets.spaces.catalog import space_named
from supernets.training.augment import resized
from supernets.training.catalog import RECIPES, recipe_named
from supernets.training.evaluation import evaluate
from supernets.training.loop import Trainer, TrainingStopped, rate
from supernets.training.losses import network_loss
from supernets.training.recipe import Augmentation, Phase, Recipe
from supernets.training.sampling import step_networks


class Stop(Exception):
    """A kill between two epochs."""


def weights_of(trainer):
    return {name: value.clone() for name, value in trainer.supernet.state_dict().items()}


def interrupted(trainer, folder, after):
    """Run until `after` epochs were finished, then die."""
    done = []

    def report(progress):
        done.append(progress)
        if len(done) == after:
            raise Stop

    with pytest.raises(Stop):
        trainer.run(folder, report)


def test_it_learns(space, dataset, sandwich, tmp_path):
    trainer = Trainer(space, dataset, replace(sandwich, phases=(replace(sandwich.phases[0], epochs=40),)), 0)
    trainer.run(tmp_path)
    accuracy = evaluate(trainer.supernet.eval(), [space.largest(), space.smallest()], dataset, "test")
    assert (accuracy > 0.9).all()


@pytest.mark.parametrize("recipe", ["sandwich", "progressive"])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_resumed_training_gives_the_same_weights(space, dataset, recipe, after, tmp_path, request):
    recipe = request.getfixturevalue(recipe)
    whole = Trainer(space, dataset, recipe, 7)
    whole.run(tmp_path / "whole")
    if after < recipe.epochs:
        interrupted(Trainer(space, dataset, recipe, 7), tmp_path / "parts", after)
    resumed = Trainer(space, dataset, recipe, 7)
    epochs = []
    resumed.run(tmp_path / "parts", epochs.append)
    # On a slow machine something is told within an epoch too.
    ended = {told.message.partition(", step")[0] for told in epochs}
    assert len(ended) == (recipe.epochs - after if after < recipe.epochs else recipe.epochs)
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(resumed)[name]), name


@pytest.mark.parametrize("recipe", ["sandwich", "progressive"])
@pytest.mark.parametrize("after", [2, 4, 6])
def test_a_training_stopped_inside_an_epoch_loses_no_step_and_gives_the_same_weights(
    space, dataset, recipe, after, tmp_path, request
):
    recipe = replace(request.getfixturevalue(recipe), dropout=0.2)
    whole = Trainer(space, dataset, recipe, 7)
    whole.run(tmp_path / "whole")
    asked = []
    stopped = Trainer(space, dataset, recipe, 7)
    with pytest.raises(TrainingStopped):
        stopped.run(tmp_path / "parts", stopping=lambda: asked.append(1) or len(asked) == after)
    newest = sorted((tmp_path / "parts").glob("checkpoint-*"))[-1]
    assert int(newest.name.removeprefix("checkpoint-")) == after
    resumed = Trainer(space, dataset, recipe, 7)
    steps = []
    resumed.run(tmp_path / "parts", stopping=lambda: steps.append(1) and False)
    assert len(steps) == recipe.epochs * whole.steps_per_epoch - after
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(resumed)[name]), name


def plain_gradients(trainer, phase, batch, step):
    """The same step with nothing shared: contiguous, every network and every teacher a forward pass of its
    own."""
    supernet = Supernet(trainer.space, generator=torch.Generator().manual_seed(trainer.seed)).train()
    networks = step_networks(trainer.space, phase, trainer.seed, step)
    stored, labels = trainer.samples[batch]
    for position, architecture in enumerate(networks):
        inputs = resized(stored, architecture.resolution)
        with torch.no_grad():
            targets = supernet(inputs, networks[0]) if position else None
        outputs = supernet(inputs, architecture)
        loss = network_loss(trainer.task, outputs, labels, targets, trainer.recipe)
        loss.backward()
    return {name: parameter.grad for name, parameter in supernet.named_parameters()}


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_step_gives_the_gradients_of_the_plain_way(space, dataset, sandwich, step):
    trainer = Trainer(space, dataset, replace(sandwich, augmentation=Augmentation()), 0)
    # Random weights of every branch: as a training begins, they would pass nothing on.
    trainer.supernet.load_state_dict(Supernet(space, generator=torch.Generator().manual_seed(0)).state_dict())
    stem_passes = []
    trainer.supernet.blocks["stem_0"].register_forward_hook(lambda *passed: stem_passes.append(step))
    phase, batch = replace(sandwich.phases[0], networks=4), torch.arange(96)
    trainer.backward(phase, batch, step)
    assert len(stem_passes) == 1, "the stem of all four networks is computed once"
    wanted = plain_gradients(trainer, phase, batch, step)
    for name, parameter in trainer.supernet.named_parameters():
        plain = torch.zeros_like(parameter) if wanted[name] is None else wanted[name]
        torch.testing.assert_close(
            parameter.grad, plain, rtol=1e-3, atol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_networks_without_a_block_in_common_and_equal_networks_share_what_they_can(space):
    supernet = Supernet(space)
    large, small = (supernet.plan(a) for a in (space.largest(8), space.smallest(8)))
    assert shared_blocks([large]) == 0
    assert shared_blocks([large, small]) == 1
    assert shared_blocks([large, large]) == len(large)
    assert shared_blocks([large, supernet.plan(space.largest(12))]) == 0


def test_another_seed_gives_other_weights(space, dataset, sandwich, tmp_path):
    one, two = (Trainer(space, dataset, sandwich, seed) for seed in (0, 1))
    assert any(not torch.equal(v, weights_of(two)[name]) for name, v in weights_of(one).items())


def test_a_damaged_checkpoint_falls_back_to_the_one_before(space, dataset, sandwich, tmp_path):
    whole = Trainer(space, dataset, sandwich, 0)
    whole.run(tmp_path / "whole")
    interrupted(Trainer(space, dataset, sandwich, 0), tmp_path / "parts", 2)
    newest = sorted((tmp_path / "parts").glob("checkpoint-*"))[-1]
    data = bytearray((newest / "supernet.safetensors").read_bytes())
    data[-5] ^= 1
    (newest / "supernet.safetensors").write_bytes(data)
    resumed, epochs = Trainer(space, dataset, sandwich, 0), []
    resumed.run(tmp_path / "parts", epochs.append)
    assert len(epochs) == 2
    assert all(torch.equal(v, weights_of(resumed)[name]) for name, v in weights_of(whole).items())


def test_a_folder_of_another_training_is_refused(space, dataset, sandwich, tmp_path):
    interrupted(Trainer(space, dataset, sandwich, 0, inputs_digest="a"), tmp_path, 1)
    with pytest.raises(InvalidCheckpoint, match="another training"):
        Trainer(space, dataset, sandwich, 0, inputs_digest="b").run(tmp_path)


def test_a_loss_that_is_no_number_stops_the_phase(space, dataset, sandwich, tmp_path, monkeypatch):
    trainer = Trainer(space, dataset, sandwich, 0)
    inner = trainer.backward
    monkeypatch.setattr(
        trainer,
        "backward",
        lambda phase, batch, step, networks: (
            inner(phase, batch, step, networks) * (float("nan") if step == 4 else 1.0)
        ),
    )
    with pytest.raises(TrainingDiverged) as caught:
        trainer.run(tmp_path)
    assert (caught.value.phase, caught.value.epoch, caught.value.step) == ("sandwich", 2, 2)
    kept = Trainer(space, dataset, sandwich, 0)
    kept._resume(tmp_path)
    assert (kept.position.epoch, kept.position.step) == (1, 3)
    assert all(torch.isfinite(p).all() for p in kept.supernet.parameters())


def test_a_huge_learning_rate_is_told_as_divergence(space, dataset, sandwich, tmp_path):
    phase = replace(sandwich.phases[0], learning_rate=1e30, warmup_epochs=0, epochs=6)
    with pytest.raises(TrainingDiverged):
        Trainer(space, dataset, replace(sandwich, phases=(phase,), optimiser="sgd"), 0).run(tmp_path)


def test_what_does_not_fit_is_refused(space, dataset, sandwich):
    with pytest.raises(InvalidTraining, match="classes"):
        Trainer(space.with_classes(5), dataset, sandwich, 0)
    with pytest.raises(InvalidTraining, match="cpu or cuda"):
        Trainer(space, dataset, sandwich, 0, device="tpu")
    if not torch.cuda.is_available():
        with pytest.raises(InvalidTraining, match="no CUDA"):
            Trainer(space, dataset, sandwich, 0, device="cuda")


def test_progress_counts_to_one(space, dataset, progressive, tmp_path):
    seen = []
    Trainer(space, dataset, progressive, 0).run(tmp_path, seen.append)
    assert [p.phase for p in seen] == ["full", "full", "kernel", "depth 1", "width 1", "width 1"]
    assert seen[-1].fraction == 1.0 and seen[-1].eta_s == 0.0
    assert all(a.fraction < b.fraction for a, b in zip(seen, seen[1:], strict=False))


def test_bf16_trains(space, dataset, sandwich, tmp_path):
    trainer = Trainer(space, dataset, replace(sandwich, bf16=True, channels_last=False), 0)
    trainer.run(tmp_path)
    assert all(torch.isfinite(p).all() for p in trainer.supernet.parameters())


def test_learning_rate_warms_up_and_falls_to_zero():
    phase = Phase("p", 10, 1.0, warmup_epochs=2)
    rates = [rate(phase, step, 5) for step in range(50)]
    assert rates[0] == pytest.approx(0.1) and max(rates) == pytest.approx(1.0) and rates[-1] < 0.01
    assert rates[9:] == sorted(rates[9:], reverse=True)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_round_trip(name):
    recipe = recipe_named(name)
    assert Recipe.from_json(recipe.to_json()) == recipe


@pytest.mark.parametrize(
    "broken",
    [{}, {"phases": 3}, {"phases": [{"name": "x", "epochs": 0, "learning_rate": 1}]}, {"unknown": 1}],
)
def test_broken_recipes_are_named(broken):
    with pytest.raises(InvalidTraining):
        Recipe.from_json({**RECIPES["quick"].to_json(), **broken} if broken else {})


def test_progressive_shrinking_has_the_published_phases():
    phases = recipe_named("progressive").phases
    assert [p.name for p in phases] == ["full", "kernel", "depth 1", "depth 2", "width 1", "width 2"]
    assert [p.networks for p in phases] == [1, 1, 2, 2, 4, 4]
    assert [p.sort_channels for p in phases] == [False] * 4 + [True] * 2


@pytest.mark.parametrize("name", RECIPES)
def test_a_short_run_of_every_recipe_trains(space, dataset, name, tmp_path):
    recipe = recipe_named(name)
    epochs = max(2, 5 // len(recipe.phases))
    phases = tuple(
        replace(phase, epochs=epochs, warmup_epochs=min(1, phase.warmup_epochs)) for phase in recipe.phases
    )
    trainer = Trainer(space, dataset, replace(recipe, phases=phases, batch_size=16), 0)
    losses = []
    trainer.run(tmp_path, lambda progress: losses.append(progress.loss))
    assert len(losses) >= epochs * len(phases)
    accuracy = evaluate(trainer.supernet.eval(), [space.largest()], dataset, "test")
    assert accuracy[0] > 0.5


def test_a_space_of_another_size_trains_on_glyphs(tmp_path, monkeypatch):
    monkeypatch.setattr(glyphs, "PER_CLASS", {"train": 1, "validation": 1, "test": 1})
    found = load_dataset("glyphs", tmp_path)
    space = space_named("cifar-mbv3").with_classes(62)
    recipe = Recipe("one step", "", (Phase("all", 1, 1e-3, networks=1),), batch_size=8, optimiser="adamw")
    trainer = Trainer(space, found, recipe, 0)
    assert trainer.step(recipe.phases[0], torch.arange(8), 0, 1e-3) > 0
    assert all(torch.isfinite(p).all() for p in trainer.supernet.parameters())


@pytest.mark.parametrize(("name", "first"), [("cifar-mbv3", 0), ("digits-mbv3", 0), ("ofa-resnet50", 1)])
def test_a_training_begins_with_blocks_that_pass_on_what_they_get(name, first):
    """Depth changes nothing yet: every block with a shortcut is the identity, but for the convolution in
    ResNet-D's stem."""
    space = space_named(name)
    resolution = min(space.resolutions)
    network = Supernet(space, generator=torch.Generator().manual_seed(0))
    deep, shallow = space.largest(resolution), shallowest(space, resolution, first)
    x = torch.randn(2, *space.input_shape(resolution), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert not torch.allclose(network(x, deep), network(x, shallow)), (
            "random weights alone tell them apart"
        )
        start_as_identity(network)
        torch.testing.assert_close(network(x, deep), network(x, shallow))


def test_blocks_with_weights_of_their_own_for_each_choice_begin_so_too():
    network = Supernet(space_named("proxyless"), generator=torch.Generator().manual_seed(0))
    start_as_identity(network)
    paths = [part for part in network.modules() if isinstance(part, PlainMBConv)]
    assert {bool(part.project.norm.weight.any()) for part in paths if part.residual} == {False}
    assert {bool(part.project.norm.weight.all()) for part in paths if not part.residual} == {True}


def test_a_training_begins_as_the_identity(dataset):
    space = space_named("digits-mbv3").with_classes(len(dataset.classes))
    supernet = Supernet(space, generator=torch.Generator().manual_seed(3))
    start_as_identity(supernet)
    trainer = Trainer(space, dataset, RECIPES["trial"], 3)
    assert all(
        torch.equal(value, supernet.state_dict()[name])
        for name, value in trainer.supernet.state_dict().items()
    )


def shallowest(space, resolution, first):
    """The largest network with the fewest blocks of every stage from `first` on."""
    largest = space.largest(resolution)
    stages = tuple(
        chosen if number < first else replace(chosen, blocks=chosen.blocks[: stage.depths[0]])
        for number, (stage, chosen) in enumerate(zip(space.stages, largest.stages, strict=True))
    )
    return replace(largest, stages=stages)
