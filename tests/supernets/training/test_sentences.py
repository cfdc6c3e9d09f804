"""Transformers through the ordinary trainer: batches of tokens, accumulation, resuming, tuning, delivery."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from latency_tables.generation import PADDING
from latency_tables.text_network import TextNetwork, files_of, on_cpu
from service.cli.run_file import run_text
from supernets.data.catalog import load_digits
from supernets.data.text.number_words import load_number_words
from supernets.data.text.pronunciations import load_pronunciations
from supernets.data.text.sentences import Split
from supernets.delivery.format import Delivery
from supernets.delivery.sentences import deliver_sentences
from supernets.delivery.sentences import tested_sentences as quality_of_file
from supernets.errors import ExportFailed, InvalidTraining, TrainingDiverged
from supernets.experiments.controls import alone_recipe, run_controls, unshrunk_recipe
from supernets.experiments.depth import advise
from supernets.experiments.ranking import Ranks, ranking_of
from supernets.sentence_supernet import SentenceSupernet
from supernets.spaces.catalog import SPACES, space_named
from supernets.spaces.transformer_space import HAT_SMALL, SentenceSpace
from supernets.tasks.catalog import task_of
from supernets.training.batching import batching_of
from supernets.training.catalog import RECIPES_OF_SENTENCES, recipe_named
from supernets.training.control import control_recipe, from_scratch
from supernets.training.loop import Trainer, TrainingStopped, rate
from supernets.training.recipe import Phase, Recipe, tune_recipe
from supernets.training.tuning import tuned

DATA = load_number_words()
TINY = replace(
    HAT_SMALL,
    name="hat-tiny",
    encoder_widths=(16, 32),
    decoder_widths=(16, 32),
    feed_forward=(32, 64),
    qkv_width=32,
)
RECIPE = replace(
    RECIPES_OF_SENTENCES["trial"], epoch_steps=4, phases=(Phase("uniform", 2, 3e-3, warmup_epochs=1),)
)


def space() -> SentenceSpace:
    return TINY.priced(words=len(DATA.classes))


def trainer(recipe: Recipe = RECIPE, seed: int = 0) -> Trainer:
    torch.set_num_threads(1)
    return Trainer(space(), DATA, recipe, seed)


def weights_of(made: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in made.supernet.state_dict().items()}


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = trainer()
    whole.run(tmp_path / "whole")
    again = trainer()
    left = iter([False, False, False, False, False, True])
    with pytest.raises(TrainingStopped):
        again.run(tmp_path / "parts", stopping=lambda: next(left, True))
    resumed = trainer()
    resumed.run(tmp_path / "parts")
    assert resumed.position.step == 8 == whole.position.step
    for name, value in weights_of(whole).items():
        assert torch.equal(value, resumed.supernet.state_dict()[name]), name


def test_epochs_go_on_in_the_pass_over_the_data_and_leave_nothing_out() -> None:
    samples = task_of(DATA).batches(DATA, "train", torch.device("cpu"))
    batching = batching_of(samples, replace(RECIPE, epoch_steps=0), 3)
    seen = np.concatenate([rows for step in batching.steps(0, 0, 0) for rows in step])
    assert sorted(seen.tolist()) == list(range(len(samples)))
    few = batching_of(samples, RECIPE, 3)
    parts = [step for epoch in range(2) for step in few.steps(0, epoch, 0)]
    whole = list(batching.steps(0, 0, 0))[: len(parts)]
    assert all(np.array_equal(one[0], two[0]) for one, two in zip(parts, whole, strict=True))
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(few.steps(0, 1, 2), parts[6:], strict=True))


def test_accumulated_batches_give_the_gradients_of_one_mean(tmp_path: Path) -> None:
    made = trainer(replace(RECIPE, accumulate=2))
    phase, networks = made.recipe.phases[0], [made.space.largest()]
    (batches,) = [step for number, step in enumerate(made.batches()) if number == 0]
    assert len(batches) == 2
    made.backward(phase, batches, 0, networks)
    found = made.gradients.buffer.clone()
    total, tokens = torch.zeros_like(found), 0.0
    for rows in batches:
        made.backward(phase, rows, 0, networks)
        own = float(made.samples[rows][1].ne(PADDING).sum())
        total, tokens = total + own * made.gradients.buffer, tokens + own
    torch.testing.assert_close(found, total / tokens, rtol=1e-4, atol=1e-6)


def test_the_sandwich_distils_and_the_published_way_draws_one() -> None:
    assert RECIPES_OF_SENTENCES["standard"].phases[0].teacher == "largest"
    published = RECIPES_OF_SENTENCES["hat"]
    assert (published.phases[0].networks, published.schedule) == (1, "inverse_sqrt")
    phase = published.phases[0]
    peak = phase.warmup_epochs * 200
    assert rate(phase, peak - 1, 200, "inverse_sqrt") == pytest.approx(phase.learning_rate)
    assert rate(phase, 4 * peak - 1, 200, "inverse_sqrt") == pytest.approx(phase.learning_rate / 2)
    made = trainer(replace(RECIPES_OF_SENTENCES["standard"], epoch_steps=2))
    before = weights_of(made)
    batch = next(iter(made.batches()))
    assert np.isfinite(made.step(made.recipe.phases[0], batch, 0, 1e-3))
    assert any(not torch.equal(value, before[name]) for name, value in made.supernet.state_dict().items())


def test_a_loss_that_is_no_number_keeps_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = trainer()
    task = made.task

    class Broken:
        def __getattr__(self, name: str) -> object:
            return getattr(task, name)

        def loss(
            self, outputs: torch.Tensor, targets: torch.Tensor, *, smoothing: float = 0.0
        ) -> torch.Tensor:
            found = task.loss(outputs, targets, smoothing=smoothing)
            return found * float("nan") if made.position.epoch else found

    made.task = Broken()  # type: ignore[assignment]
    with pytest.raises(TrainingDiverged):
        made.run(tmp_path)
    resumed = trainer()
    assert resumed._resume(tmp_path) and resumed.position.epoch == 1
    assert all(torch.isfinite(value).all() for value in resumed.supernet.state_dict().values())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch_tokens": 0, "accumulate": 2}, "accumulate is of batches of tokens"),
        ({"schedule": "linear"}, "schedule is one of"),
        ({"second_moment": 1.0}, "second_moment"),
        ({"accumulate": 0}, "at least one batch"),
    ],
)
def test_recipes_that_cannot_be_followed_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidTraining, match=said):
        replace(RECIPE, **change)


def test_pictures_have_no_tokens_and_sentences_no_pictures_recipe() -> None:
    from supernets.data.catalog import load_digits  # noqa: PLC0415

    with pytest.raises(InvalidTraining, match="counts tokens"):
        Trainer(space_named("digits-mbv3"), load_digits(), RECIPE, 0)
    with pytest.raises(InvalidTraining, match="read no sentences"):
        Trainer(space_named("digits-mbv3"), DATA, recipe_named("trial"), 0)
    assert recipe_named("trial", SPACES["hat-small"]) is RECIPES_OF_SENTENCES["trial"]


def test_a_tuned_network_is_delivered_tested_and_run(tmp_path: Path) -> None:
    """From weights of a supernet to an answer on the command line."""
    made = trainer()
    made.run(tmp_path / "supernet")
    supernet, architecture = made.supernet, space().smallest()
    own, _, _ = tuned(supernet, architecture, DATA, RECIPE, 1, 0, tmp_path / "tuned")
    assert isinstance(own, SentenceSupernet)
    written = deliver_sentences(own, architecture, DATA, Delivery())
    assert written.parity < 1e-4
    said = quality_of_file(written.file, DATA, limit=20)
    scores = task_of(DATA).evaluator(own, DATA, "test", limit=20)
    assert said.samples == 20 and -100 <= said.quality <= 100
    assert np.isfinite(scores.qualities([architecture])).all()
    opened = TextNetwork(files_of(written.measured), on_cpu())
    sentence = space().generation
    assert opened.generation.beam == sentence.beam
    assert {len(h.tokens) for h in opened.generate([[5, 6, 2]])[0]} == {sentence.target_tokens}
    (tmp_path / "network.zip").write_bytes(written.file)
    text = DATA.split("test").texts[0][0]
    (answer,) = run_text(str(tmp_path / "network.zip"), [text], None, None)
    assert answer["text"] == text and isinstance(answer["answer"], str)
    with pytest.raises(ExportFailed, match="batch `device`"):
        deliver_sentences(own, architecture, DATA, Delivery(batch_size=None))


def test_letters_are_cut_as_the_data_set_cuts_them() -> None:
    import json  # noqa: PLC0415

    from latency_tables.text_tokens import tokenizer_of  # noqa: PLC0415

    data = load_pronunciations()
    read = tokenizer_of({"tokenizer.json": data.source.tokenizer_json.encode()}, "tokenizer.json")
    words = ["bespoke", "o'clock"]
    assert [read.encode(word) for word in words] == data.source.encode_all(words)
    assert (
        read.encode("BeSpoke") == read.encode("bespoke") and read.decode(read.encode("bespoke")) == "bespoke"
    )
    theirs = pytest.importorskip("tokenizers").Tokenizer.from_str(json.dumps(read.to_json()))
    assert theirs.encode("Bespoke").ids == read.encode("bespoke")
    assert theirs.decode(read.encode("bespoke")) == "bespoke"


def test_a_tuning_of_one_epoch_needs_no_warm_up() -> None:
    short = tune_recipe(RECIPES_OF_SENTENCES["hat"], 1)
    assert (short.schedule, short.phases[0].warmup_epochs) == ("cosine", 0)


def test_networks_that_write_are_not_grown() -> None:
    with pytest.raises(InvalidTraining, match="only those of pictures"):
        advise(space(), DATA, RECIPE, 0)


def test_networks_that_write_are_held_against_the_published_sampling_with_as_many_batches_passed() -> None:
    standard = RECIPES_OF_SENTENCES["standard"]
    found = unshrunk_recipe(standard)
    (phase,) = found.phases
    assert (found.schedule, phase.networks, phase.sampling) == ("inverse_sqrt", 1, "uniform")
    passes = standard.epochs * standard.phases[0].networks
    assert phase.epochs * found.accumulate == passes and found.epoch_steps == standard.epoch_steps
    assert alone_recipe(standard, 2).phases[0].warmup_epochs == standard.phases[0].warmup_epochs


def test_a_network_that_writes_is_trained_from_scratch_and_tested_as_its_file_is(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    few = space().generating({"beam": 2})
    own, steps = from_scratch(few, few.smallest(), DATA, RECIPE, 5, 0, tmp_path)
    assert steps == 8, "whole epochs of four steps"
    whole = control_recipe(RECIPES_OF_SENTENCES["transfer"], 5, 4)
    assert (whole.highest_rate, whole.epochs) == (1.5e-3, 2)
    data = replace(DATA, splits={**DATA.splits, "test": few_of(DATA.split("test"), 8)})
    tester, samples = task_of(data).tester(own, data)
    assert samples == 8 and np.isfinite(tester.qualities([few.smallest()])).all()
    assert tester._scores.beam == 2


def test_networks_are_ranked_by_loss_and_by_what_they_write() -> None:
    torch.set_num_threads(1)
    data = replace(DATA, splits={name: few_of(DATA.split(name), 12) for name in DATA.splits})
    found = ranking_of(SentenceSupernet(space()), data, 4, np.random.default_rng(0)).to_json()
    assert found["networks"] == 4 and set(found["loss"]) == {"spearman", "kendall"}
    assert Ranks.of(np.array([1.0, 2, 3]), np.array([1.0, 2, 4])) == Ranks(1.0, 1.0)
    assert Ranks.of(np.array([1.0, 1, 1]), np.array([1.0, 2, 4])) == Ranks(None, None)
    with pytest.raises(InvalidTraining, match="not made of sentences"):
        ranking_of(SentenceSupernet(space()), load_digits(), 4, np.random.default_rng(0))


def few_of(split: Split, rows: int) -> Split:
    kept = np.arange(rows)
    return Split(split.source.take(kept), split.target.take(kept), split.texts[:rows])


@pytest.mark.slow
def test_controls_train_networks_that_write_alone(tmp_path: Path) -> None:
    found = run_controls(space(), DATA, RECIPE, 0, tmp_path, networks=1, scored=12, without_shrinking=False)
    (one,) = found.networks
    assert np.isfinite([one.supernet, one.alone]).all()
