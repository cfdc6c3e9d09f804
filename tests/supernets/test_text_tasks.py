"""Translation and pronunciation: losses, counts, decoding, and what a network learns from them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from latency_tables.generation import END, PADDING
from supernets.data.text.number_words import load_number_words
from supernets.data.text.pronunciations import load_pronunciations
from supernets.encoder_decoder import EncoderDecoder, stepper
from supernets.errors import InvalidTraining
from supernets.spaces.catalog import SPACES
from supernets.spaces.transformer import DecoderLayer, EncoderLayer, Transformer, TransformerSizes
from supernets.tasks.catalog import task_of
from supernets.tasks.decoding import DecodedScores
from supernets.tasks.sentences import TokenBatches, teacher_forced
from supernets.tasks.text_metrics import SIGNATURE, Bleu, PhonemeError, edit_distance, signature

CPU = torch.device("cpu")
SMALL = Transformer(32, (EncoderLayer(48, 2),), 32, (DecoderLayer(48, 2, 2, 1),))


def small_network(data) -> EncoderDecoder:
    sizes = TransformerSizes(
        *(len(data.source.tokens), len(data.target.tokens), 32, 32, (48,), (48,)),
        qkv_width=32,
        encoder_positions=32,
        decoder_positions=32,
        joined=False,
        tied=False,
    )
    return EncoderDecoder(sizes, generator=torch.Generator().manual_seed(0))


def test_a_network_learns_numbers_and_writes_better() -> None:
    data = load_number_words()
    task, module = task_of(data), small_network(data)
    batches = task.batches(data, "train", CPU)
    assert isinstance(batches, TokenBatches)
    scores = DecodedScores(lambda s, n: stepper(module, s, n), task.scoring, data, sentences=40)
    before = scores.quality(SMALL)
    optimiser = torch.optim.Adam(module.parameters(), 4e-3)
    losses = []
    for rows in batches.of_tokens(400, [0, 0])[:60]:
        inputs, targets = batches[torch.from_numpy(rows)]
        outputs = teacher_forced(lambda s, t: module(s, t, SMALL), inputs)
        assert outputs.shape[1] <= 13, "columns of padding alone cost nothing"
        loss = task.loss(outputs, targets, smoothing=0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0] and scores.quality(SMALL) > before
    assert scores.texts(SMALL) == scores.texts(SMALL)


def test_the_loss_leaves_padding_out() -> None:
    task = task_of(load_pronunciations())
    outputs = torch.randn(2, 4, 43, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([[5, 6, END, PADDING, PADDING], [7, END, PADDING, PADDING, PADDING]])
    rows = torch.cat((outputs[0, :3], outputs[1, :2]))
    wanted = torch.nn.functional.cross_entropy(rows, torch.tensor([5, 6, END, 7, END]), label_smoothing=0.1)
    assert task.loss(outputs, targets, smoothing=0.1).item() == pytest.approx(wanted.item())
    teacher = torch.randn_like(outputs).masked_fill(targets[:, :4].eq(PADDING)[..., None], 0.0)
    changed = outputs.clone()
    changed[0, 3] = changed[1, 2:] = 9.0
    assert task.imitation(outputs, teacher).item() == pytest.approx(task.imitation(changed, teacher).item())


class Oracle:
    """Writes what is wanted, or something else."""

    def __init__(self, data, split: str, wrong: int | None = None) -> None:
        found = data.split(split)
        rows = np.arange(len(found))
        sources, targets = found.source.padded(rows, data.longest), found.target.padded(rows, data.longest)
        self.answers = {tuple(s[s != PADDING]): t for s, t in zip(sources, targets, strict=True)}
        self.tokens, self.wrong = len(data.target.tokens), wrong

    def stepper(self, source: torch.Tensor, network: object):
        wanted = [self.answers[tuple(row[row != PADDING])] for row in source.numpy()]
        places: list[tuple[int, int]] = []

        def step(tokens, parents):
            nonlocal places
            places = (
                [(p, 0) for p in parents]
                if not places
                else [(places[p][0], places[p][1] + 1) for p in parents]
            )
            logits = np.full((len(tokens), self.tokens), -20.0)
            for row, (sentence, place) in enumerate(places):
                token = wanted[sentence][
                    min(place, len(wanted[sentence]) - 1)
                ]  # other beams go on for longer
                logits[row, self.wrong if self.wrong is not None and token != END else token] = 20.0
            return logits

        return step


@pytest.mark.parametrize("beam", [1, 3])
def test_decoded_scores_are_of_the_right_sentences(beam: int) -> None:
    for data in (load_number_words(), load_pronunciations()):
        scoring = task_of(data).scoring
        right = Oracle(data, "test")
        best = DecodedScores(right.stepper, scoring, data, "test", sentences=60, beam=beam)
        assert best.quality(None) == scoring.metric.best
        wrong = Oracle(data, "test", wrong=5)
        worse = DecodedScores(wrong.stepper, scoring, data, "test", sentences=60, beam=beam)
        assert worse.quality(None) < best.quality(None)


def test_the_evaluator_decodes_and_remembers() -> None:
    data = load_pronunciations()
    task, oracle = task_of(data), Oracle(data, "validation")
    modes: list[bool] = []
    supernet = SimpleNamespace(
        stepper=oracle.stepper,
        parameters=lambda: iter([torch.zeros(1)]),
        training=True,
        eval=lambda: modes.append(False),
        train=modes.append,
    )
    cache = {"known": -0.5}
    evaluator = task.evaluator(supernet, data, "validation", cache=cache)
    seen = []
    networks = [SimpleNamespace(digest=name) for name in ("known", "new", "new")]
    found = evaluator.qualities(networks, lambda done, of: seen.append((done, of)))
    assert modes == [False, True], "a training goes on as it was"
    assert found.tolist() == [-0.5, 0.0, 0.0] and seen == [(1, 1)] and cache["new"] == 0.0
    deaf = SimpleNamespace(space=SPACES["digits-mbv3"])
    with pytest.raises(InvalidTraining, match="cannot write"):
        task.evaluator(deaf, data, "validation")


def test_spaces_of_pictures_are_refused_with_what_to_do() -> None:
    data = load_pronunciations()
    with pytest.raises(InvalidTraining, match="read no sentences"):
        task_of(data).check(SPACES["digits-mbv3"].with_classes(43), data)


def test_one_dictionary_for_both_sides_is_asked_for_where_a_space_has_one() -> None:
    data = load_pronunciations()
    with pytest.raises(InvalidTraining, match="vocabulary --joined"):
        task_of(data).check(SPACES["hat-wmt"].with_classes(43), data)
    task_of(data).check(SPACES["hat-iwslt"].with_classes(43), data)


def test_bleu_is_sacrebleus_and_adds_up() -> None:
    import sacrebleu

    found = ["the cat sat on the mat", "a dog", "it is raining again today"]
    wanted = ["the cat sat on a mat", "a dog barks", "it rains again today"]
    bleu = Bleu()
    whole = bleu.of_texts(found, wanted)
    parts = bleu.of_texts(found[:1], wanted[:1]) + bleu.of_texts(found[1:], wanted[1:])
    assert np.array_equal(whole, parts)
    assert bleu.quality(whole) == pytest.approx(sacrebleu.corpus_bleu(found, [wanted]).score)
    assert bleu.quality(bleu.of_texts(["x y"], ["a b"])) == 0.0
    assert signature().startswith(SIGNATURE) and bleu.said(whole)["signature"] == SIGNATURE


def test_phoneme_error_counts_edits() -> None:
    assert [edit_distance(*pair) for pair in (("", "abc"), ("abc", ""), ("abd", "abc"), ("xabc", "abc"))] == [
        3,
        3,
        1,
        1,
    ]
    tally = PhonemeError().of_texts(["K AE T", "D AO"], ["K AE T", "D AO G Z"])
    said = PhonemeError().said(tally)
    assert said == {"phoneme_error": pytest.approx(2 / 7), "word_error": 0.5}
    assert PhonemeError().quality(PhonemeError().of_texts(["A B C D"], ["X"])) == -1.0


def test_noise_makes_source_tokens_unknown_and_nothing_else() -> None:
    from supernets.training.recipe import Augmentation

    data = load_pronunciations()
    task = task_of(data)
    inputs, _ = task.examples(data, "train", data.longest, np.arange(50))
    changed = task.prepare(inputs, data.longest, Augmentation(noise=0.5), torch.Generator().manual_seed(0))
    different = changed != inputs
    assert torch.equal(changed[:, 1], inputs[:, 1]) and set(changed[different].tolist()) == {3}
    assert 0.35 < different.sum() / (inputs[:, 0] > 3).sum() < 0.65
