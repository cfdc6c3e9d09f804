"""What a super transformer of `hat-small` learns from sentences in some minutes of one core, and how its
sub-networks rank.

    python -m benchmarks.text_quality --seconds 300                       the built-in pronunciations
    python -m benchmarks.text_quality --sampling largest --seconds 300    one network alone
    python -m benchmarks.text_quality --folder TEXTS --seconds 600        a folder with two text files
    python -m benchmarks.text_quality --load FILE --networks 100          how sub-networks of a saved one rank

Seconds are of the processor, one thread, so that a busy machine takes longer and gives the same. Sampling:
`sandwich` (largest, smallest, two between, distilled from the largest: ours), `uniform` (one sub-network an
update: HAT's), `largest` or `smallest` (one network alone).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.environment import environment
from latency_tables.dense import Array
from supernets.data.catalog import load_dataset
from supernets.data.text.sentences import Sentences
from supernets.encoder_decoder import Dropout, EncoderDecoder, stepper
from supernets.experiments.ranking import Ranks
from supernets.spaces.transformer import Transformer
from supernets.spaces.transformer_space import TransformerSpace, transformer_space_named
from supernets.tasks.catalog import task_of
from supernets.tasks.decoding import DecodedScores
from supernets.tasks.sentences import SentencesTask, teacher_forced
from supernets.training.recipe import Augmentation

SMOOTHING = 0.1
BETAS = (0.9, 0.98)
NLL_BATCHES = 2  # of 4,000 tokens each


def networks_of(space: TransformerSpace, sampling: str, step: int, drawn: int) -> list[Transformer]:
    """Those of one update; the largest comes first in a sandwich."""
    if sampling in ("largest", "smallest"):
        return [space.largest() if sampling == "largest" else space.smallest()]
    generator = np.random.default_rng([0, step])
    if sampling == "uniform":
        return space.sample(generator, 1)
    return [space.largest(), space.smallest(), *space.sample(generator, drawn)]


def rate_at(share: float, step: int, peak: float, warmup: int, schedule: str) -> float:
    """Linear warm-up, then cosine over the time that there is, or the inverse square root of the steps."""
    if step < warmup:
        return peak * (step + 1) / warmup
    if schedule == "cosine":
        return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return peak * math.sqrt(warmup / (step + 1))


def train(
    module: EncoderDecoder,
    space: TransformerSpace,
    data: Sentences,
    task: SentencesTask,
    args: argparse.Namespace,
) -> dict[str, Any]:
    """Train until the seconds are spent; how many steps and tokens that were."""
    optimiser = torch.optim.AdamW(module.parameters(), betas=BETAS, weight_decay=args.weight_decay)
    batches = task.batches(data, "train", torch.device("cpu"))
    start, step, tokens, epoch = time.process_time(), 0, 0, 0
    module.train()
    said = start
    while True:
        for rows in batches.of_tokens(args.tokens, [args.seed, epoch]):
            share = (time.process_time() - start) / args.seconds
            if share >= 1:
                return {"steps": step, "target_tokens": tokens, "epochs": epoch}
            for group in optimiser.param_groups:
                group["lr"] = rate_at(share, step, args.rate, args.warmup, args.schedule)
            inputs, targets = batches[torch.from_numpy(rows)]
            inputs = task.prepare(
                inputs, data.longest, Augmentation(noise=args.noise), torch.Generator().manual_seed(step)
            )
            torch.manual_seed(step)
            optimiser.zero_grad()
            teacher: Tensor | None = None
            for network in networks_of(space, args.sampling, step, args.drawn):
                outputs = teacher_forced(lambda s, t, n=network: module(s, t, n), inputs)
                if teacher is None:
                    loss = task.loss(outputs, targets, smoothing=SMOOTHING)
                    teacher = outputs.detach()
                else:
                    loss = task.imitation(outputs, teacher)
                    if args.labels:
                        loss = 0.5 * (loss + task.loss(outputs, targets, smoothing=SMOOTHING))
                loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), args.clip)
            optimiser.step()
            step += 1
            tokens += int(targets.ne(1).sum())
            if time.process_time() - said > 30:
                said = time.process_time()
                print(f"{share:.0%} step {step} loss {loss.item():.3f}", flush=True)
        epoch += 1


@torch.no_grad()
def validation_nll(
    module: EncoderDecoder, data: Sentences, task: SentencesTask, networks: list[Transformer]
) -> Array:
    """Mean negative log-likelihood of a validation token, HAT's fitness without smoothing; (networks,)."""
    batches = task.batches(data, "validation", torch.device("cpu"))
    parts = batches.of_tokens(4000, [0])[:NLL_BATCHES]
    found = []
    for network in networks:
        total = weight = 0.0
        for rows in parts:
            inputs, targets = batches[torch.from_numpy(rows)]
            outputs = teacher_forced(lambda s, t, n=network: module(s, t, n), inputs)
            count = float(batches.weights(rows).sum())
            total += float(task.loss(outputs, targets)) * count
            weight += count
        found.append(total / weight)
    return np.array(found)


def rank_correlation(first: Array, second: Array) -> float | None:
    """Spearman's."""
    return Ranks.of(first, second).spearman


def ranking(
    module: EncoderDecoder,
    space: TransformerSpace,
    data: Sentences,
    task: SentencesTask,
    args: argparse.Namespace,
) -> dict[str, Any]:
    """How well an additive predictor explains decoded scores of sub-networks (5 folds), and how well the loss
    ranks them; what each gene is worth."""
    networks = space.sample(np.random.default_rng(1), args.networks)
    rows = np.stack([features(space, network) for network in networks])
    scores = DecodedScores(step_of(module), task.scoring, data, sentences=args.sentences)
    start = time.process_time()
    tallies = [scores.tally(network) for network in networks]
    seconds = time.process_time() - start
    metric = task.scoring.metric
    qualities = np.array([task.scoring.quality(tally) for tally in tallies])
    nll = validation_nll(module, data, task, networks)
    predicted, by_loss = np.zeros(len(networks)), np.zeros(len(networks))
    folds = np.random.default_rng(2).permutation(len(networks)) % 5
    for fold in range(5):
        train_rows, held = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        for values, into in ((qualities, predicted), (-nll, by_loss)):
            into[held] = additive(rows[train_rows], values[train_rows], rows[held])
    on_test = DecodedScores(step_of(module), task.scoring, data, "test", sentences=args.sentences)
    few = np.argsort(qualities)[:: max(1, len(networks) // 24)]
    tested = np.array([on_test.quality(networks[row]) for row in few])
    depths = np.array([len(network.decoder) for network in networks])
    return {
        "networks": len(networks),
        "seconds_a_network": seconds / len(networks),
        "metric": metric.name,
        "range": sorted(metric.value(float(q)) for q in (qualities.min(), qualities.max())),
        "additive": {"r2": r2(qualities, predicted), "rho": rank_correlation(qualities, predicted)},
        "additive_nll": {"r2": r2(-nll, by_loss), "rho": rank_correlation(-nll, by_loss)},
        "loss_against_decoded_rho": rank_correlation(-nll, qualities),
        "loss_against_decoded_kendall": Ranks.of(-nll, qualities).kendall,
        "loss_against_test_rho": rank_correlation(-nll[few], tested),
        "loss_against_test_kendall": Ranks.of(-nll[few], tested).kendall,
        "validation_against_test_kendall": Ranks.of(qualities[few], tested).kendall,
        "loss_against_decoded_rho_by_depth": {
            str(d): rank_correlation(-nll[depths == d], qualities[depths == d]) for d in np.unique(depths)
        },
        "validation_against_test_rho": rank_correlation(qualities[few], tested),
        "mean_by_depth": {
            str(d): metric.value(float(qualities[depths == d].mean())) for d in np.unique(depths)
        },
        "nll_by_depth": {str(d): float(nll[depths == d].mean()) for d in np.unique(depths)},
    }


def features(space: TransformerSpace, network: Transformer) -> Array:
    """One-hot values of every choice: widths, depth, each dimension of each layer and summed over layers."""
    found = [float(network.encoder_width == w) for w in space.encoder_widths]
    found += [float(network.decoder_width == w) for w in space.decoder_widths]
    found += [float(len(network.decoder) == d) for d in space.decoder_layers]
    named = (
        (
            network.encoder,
            space.encoder_layers[-1],
            {"feed_forward": space.feed_forward, "heads": space.heads},
        ),
        (
            network.decoder,
            space.decoder_layers[-1],
            {
                "feed_forward": space.feed_forward,
                "heads": space.heads,
                "cross_heads": space.heads,
                "attended": space.attended,
            },
        ),
    )
    for layers, most, dimensions in named:
        for name, values in dimensions.items():
            hot = [
                [float(n < len(layers) and getattr(layers[n], name) == v) for v in values]
                for n in range(most)
            ]
            found += [one for row in hot for one in row] + np.sum(hot, axis=0).tolist()
    return np.array(found)


def additive(known: Array, values: Array, wanted: Array) -> Array:
    """Ridge regression, its penalty chosen by leaving one out."""
    mean = known.mean(axis=0)
    x, y = known - mean, values - values.mean()
    best = None
    for penalty in np.geomspace(0.01, 100, 13):
        inverse = np.linalg.inv(x.T @ x + penalty * np.eye(x.shape[1]))
        hat = np.einsum("ij,jk,ik->i", x, inverse, x) + 1 / len(y)
        weights = inverse @ x.T @ y
        error = float((((y - x @ weights) / (1 - hat)) ** 2).sum())
        if best is None or error < best[0]:
            best = error, weights
    assert best is not None
    found: Array = (wanted - mean) @ best[1] + values.mean()
    return found


def r2(values: Array, predicted: Array) -> float:
    """Share of the variance that is explained."""
    return float(1 - ((values - predicted) ** 2).sum() / ((values - values.mean()) ** 2).sum())


def step_of(module: EncoderDecoder) -> Any:
    """Decoding of one network of a module in evaluation mode."""
    module.eval()
    return lambda source, network: stepper(module, source, network)


def ends(
    module: EncoderDecoder, space: TransformerSpace, data: Sentences, task: SentencesTask, args: Any
) -> dict[str, Any]:
    """All scores of the largest and the smallest network on the test split."""
    named = {"largest": space.largest(), "smallest": space.smallest()}
    if args.sampling in named:
        named = {args.sampling: named[args.sampling]}
    scores = DecodedScores(
        step_of(module), task.scoring, data, "test", sentences=args.sentences, beam=args.beam
    )
    return {name: task.scoring.said(scores.tally(network)) for name, network in named.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="pronunciations")
    parser.add_argument("--folder", type=Path, default=None, help="texts of your own instead of --dataset")
    parser.add_argument("--space", default="hat-small")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument(
        "--sampling", choices=("sandwich", "uniform", "largest", "smallest"), default="sandwich"
    )
    parser.add_argument("--drawn", type=int, default=1, help="random networks of a sandwich")
    parser.add_argument("--labels", action=argparse.BooleanOptionalAction, default=False)
    parser.add_argument("--tokens", type=int, default=500)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--schedule", choices=("cosine", "inverse_sqrt"), default="cosine")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--weight-decay", type=float, default=1e-4)
    parser.add_argument("--clip", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--beam", type=int, default=1)
    parser.add_argument("--sentences", type=int, default=1000)
    parser.add_argument("--networks", type=int, default=0, help="sub-networks to score and rank")
    parser.add_argument("--load", type=Path, default=None)
    parser.add_argument("--save", type=Path, default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    registered = {} if args.folder is None else {args.folder.name: str(args.folder)}
    data: Any = load_dataset(args.dataset if args.folder is None else args.folder.name, None, registered)
    task: Any = task_of(data)
    space = transformer_space_named(args.space)
    sizes = space.sizes(len(data.source.tokens), len(data.target.tokens))
    module = EncoderDecoder(
        sizes, dropout=Dropout(args.dropout), generator=torch.Generator().manual_seed(args.seed)
    )
    found: dict[str, Any] = {"space": space.name, "dataset": data.name}
    if args.load is None:
        found["training"] = {**train(module, space, data, task, args), "seconds": args.seconds}
    else:
        module.load_state_dict(torch.load(args.load, weights_only=True))
    if args.save is not None:
        torch.save(module.state_dict(), args.save)
    found["test"] = ends(module, space, data, task, args)
    if args.networks:
        found["ranking"] = ranking(module, space, data, task, args)
    arguments = {k: str(v) if isinstance(v, Path) else v for k, v in vars(args).items()}
    print(json.dumps({**found, "arguments": arguments, "environment": environment()}, indent=1))


if __name__ == "__main__":
    main()
