"""From a space to a network that keeps a budget on this machine, timed by the agent's runtime."""

from __future__ import annotations

import tempfile
from pathlib import Path

from latency_tables.agent.runner import Job, Network, measure_in_child
from latency_tables.agent.runtimes.probe import found
from latency_tables.agent.runtimes.setup import Setup
from latency_tables.measuring.profiling import Settings
from latency_tables.table import LatencyTable
from supernets.cut_out import cut_out, fold_batch_norm
from supernets.delivery.export import export_onnx, export_operators, parity
from supernets.network import Supernet
from supernets.search.exact import strategy as exact
from supernets.search.problem import Constraint, Problem
from supernets.spaces.catalog import space_named
from supernets.spaces.lowering import all_operators, dense_from, dense_latency

space = space_named("tones").at([256])
operators = all_operators(space, 256)
with tempfile.TemporaryDirectory() as folder:
    networks = {}
    for number, (op, data) in enumerate(export_operators(operators).items()):
        path = Path(folder) / f"{number}.onnx"
        path.write_bytes(data)
        networks[op.text] = Network(path, tuple(spec.of_batch(1) for spec in op.inputs))
    quick = Settings(least_s=0.2, limit_s=0.5, most_s=1.0)
    measured = measure_in_child(Job(networks, settings=quick))
    table = LatencyTable(found(Setup()).context, {op: measured[op.text].measurement for op in operators})
    prices = dense_latency(space, table)  # milliseconds of every network of the space
    worth = dense_from(space, lambda op: op.macs)  # in place of an accuracy predictor: more work is better
    least, most = exact.bounds(prices)
    budget = Constraint("latency_ms <= middle", prices, (least + most) / 2)
    best = exact.solve(Problem(space.chain, worth, (budget,))).candidates[0]
    architecture = space.architecture(best.genes)
    print(len(operators), "rows,", space.count(), "networks, chosen", space.to_json(architecture))
    print("predicted", round(best.costs[0], 4), "of at most", round(budget.limit, 4), "ms")
    network = fold_batch_norm(cut_out(Supernet(space).eval(), architecture))
    file = export_onnx(network, network.inputs)
    print("parity", parity(network, file).max_abs_error)
    path = Path(folder) / "network.onnx"
    path.write_bytes(file)
    whole = Job({"it": Network(path, tuple(spec.of_batch(1) for spec in network.inputs))}, settings=quick)
    print("measured", round(measure_in_child(whole)["it"].measurement.latency_ms, 4), "ms")
