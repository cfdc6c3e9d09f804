"""From sounds to a delivered network: trained, scored, searched, exported, tested and measured on this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from latency_tables.agent.runner import Job, Network, measure_in_child
from latency_tables.agent.runtimes.probe import found
from latency_tables.agent.runtimes.setup import Setup
from latency_tables.measuring.profiling import Settings
from latency_tables.table import LatencyTable
from supernets.data.catalog import load_for, task_for
from supernets.delivery.catalog import delivery_of, format_named
from supernets.delivery.passes import Source
from supernets.delivery.pipeline import deliver
from supernets.delivery.testing import tested
from supernets.search.exact import strategy as exact
from supernets.search.problem import Constraint, Problem
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators, dense_latency
from supernets.training.evaluation import Evaluator, score
from supernets.training.loop import Trainer
from supernets.training.recipe import Augmentation, Phase, Recipe

space, data = space_named("tones").at([256]), load_for(space_named("tones"), "two-tones")
metric = task_for("two-tones").metric
sandwich = Phase("sandwich", 12, 0.02, warmup_epochs=1, networks=3, sampling="sandwich", teacher="largest")
recipe = Recipe("tones", "", (sandwich,), 50, "adamw", augmentation=Augmentation(shift=0.05, noise=0.1))
trainer = Trainer(space, data, recipe, 0)
with tempfile.TemporaryDirectory() as folder:
    trainer.run(Path(folder))
supernet = trainer.supernet.eval()
predictor = score(Evaluator(supernet, data), 24, np.random.default_rng(0))
best = int(np.argmax(predictor.qualities))
print(len(predictor.genes), "networks, best", metric.name, round(metric.value(predictor.qualities[best]), 3))

setup, quick = Setup(), Settings(least_s=0.2, limit_s=0.5, most_s=1.0)
context = found(setup).context
form = delivery_of(context)
runtime = format_named(form.format)
with tempfile.TemporaryDirectory() as folder:

    def timed(files: dict[str, bytes], shapes: dict[str, tuple]) -> dict:
        networks = {}
        for number, (name, file) in enumerate(files.items()):
            path = Path(folder) / f"{number}.onnx"
            path.write_bytes(file)
            networks[name] = Network(path, shapes[name])
        return {
            name: one.measurement for name, one in measure_in_child(Job(networks, settings=quick)).items()
        }

    rows = all_operators(space, 256)
    files = {op.text: file for op, file in runtime.operators(rows, form).items()}
    measured = timed(files, {op.text: tuple(spec.of_batch(1) for spec in op.inputs) for op in rows})
    table = LatencyTable(context, {op: measured[op.text] for op in rows})
    prices = dense_latency(space, table)
    least, most = exact.bounds(prices)
    budget = Constraint("latency_ms", prices, (least + most) / 2)
    chosen = exact.solve(Problem(space.chain, predictor.dense(), (budget,))).candidates[0]
    written = deliver(Source(supernet, space.architecture(chosen.genes), data), form)
    on_test = tested(runtime.open(written.file), data, 256)
    told = f"{metric.value(on_test.quality):.3f} of {on_test.samples}"
    print(
        "file",
        metric.name,
        told,
        [one["name"] for one in on_test.by_class],
        "parity",
        written.parity.max_abs_error,
    )
    whole = timed({"it": written.file}, {"it": tuple(spec.of_batch(1) for spec in written.inputs)})["it"]
    print("predicted", round(chosen.costs[0], 4), "of", round(budget.limit, 4), "measured", whole.latency_ms)
