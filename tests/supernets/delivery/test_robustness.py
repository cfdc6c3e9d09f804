"""Pictures changed to deceive a network: what its file does on them, and fine-tuning that makes it harder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from supernets.data.catalog import load_digits
from supernets.delivery.attacks import STRENGTHS
from supernets.delivery.catalog import format_named
from supernets.delivery.format import Delivery
from supernets.delivery.passes import PLAIN, Source, passed
from supernets.delivery.pipeline import deliver
from supernets.delivery.precision import PrecisionPlan, Rounding
from supernets.delivery.robustness import robustness
from supernets.errors import InvalidSearch
from supernets.layers.units import ElasticConvUnit
from supernets.network import Supernet
from supernets.spaces.catalog import SPACES
from supernets.training.catalog import recipe_named
from supernets.training.defensive import not_orthogonal
from supernets.training.recipe import DEFENSIVE
from supernets.training.start import fit_last_layer
from supernets.training.tuning import specialised, tuned

SPACE = SPACES["digits-mbv3"]
NETWORK = SPACE.smallest(8)


def reading() -> Supernet:
    """Reads digits by its last layer alone."""
    network = specialised(Supernet(SPACE, generator=torch.Generator().manual_seed(0)), NETWORK)
    fit_last_layer(network, load_digits(), given=False)
    return network.eval()


def test_a_file_in_int8_is_deceived_more_by_larger_changes() -> None:
    data, network = load_digits(), reading()
    plan = PrecisionPlan.uniform("int8", len(network.plan(NETWORK)))
    source = Source(network, NETWORK, data, plan, Rounding("minmax", samples=64))
    plain = passed(replace(source, plan=None), PLAIN).eval()
    said: list[int] = []
    opened = format_named("onnx").open(deliver(source, Delivery()).file)
    fed: list[Any] = []
    watched: Any = SimpleNamespace(inputs=opened.inputs, run=lambda x: (fed.append(x), opened.run(x))[1])
    found = robustness(watched, plain, data, 8, lambda done, of: said.append(done))
    assert found.samples == len(data.test.labels) == said[-1]
    assert found.file.keys() == found.float32.keys() == {0, *STRENGTHS}
    for values in (found.file, found.float32):
        assert values[0] > 0.7 and values[8] < values[2] < values[0], (
            "the last layer alone is easily deceived"
        )
    clean = fed[0][0]
    low, high = -data.mean / data.deviation, (data.highest - data.mean) / data.deviation
    assert (np.stack(fed) >= low - 1e-5).all() and (np.stack(fed) <= high + 1e-5).all(), "pixels stay pixels"
    moved = fed[200][0]  # of each batch of 100: as they are, at 2 steps, at 8 steps
    largest = 8 / 255 * data.highest / data.deviation[0]
    assert np.abs(moved - clean).max() == pytest.approx(largest, rel=1e-4)


def test_data_that_are_no_pictures_are_refused() -> None:
    with pytest.raises(InvalidSearch, match="are none"):
        robustness(None, torch.nn.Identity(), SimpleNamespace(name="mine"), 8)  # type: ignore[arg-type]


def test_orthogonal_layers_have_no_penalty_and_others_do() -> None:
    network = reading()
    with torch.no_grad():
        for unit in [part for part in network.modules() if isinstance(part, ElasticConvUnit)]:
            unit.norm.running_var.fill_(1 - unit.norm.eps)  # type: ignore[union-attr, operator]
            unit.norm.weight.fill_(2.0)
            if unit.conv.depthwise:
                torch.nn.init.constant_(unit.conv.weight, 0.5 / unit.conv.weight.shape[-1])
            else:
                torch.nn.init.orthogonal_(unit.conv.weight, 0.5)
        linear = [part for part in network.modules() if isinstance(part, torch.nn.Linear)]
        for part in linear:
            torch.nn.init.orthogonal_(part.weight)
        assert not_orthogonal(network) < 1e-4, "as they are delivered, batch-norm folded"
        linear[-1].weight.mul_(2)
        assert not_orthogonal(network) > 1


def test_defensive_fine_tuning_draws_layers_towards_orthogonal_ones(tmp_path: Path) -> None:
    start = Supernet(SPACE, generator=torch.Generator().manual_seed(0))
    recipe = recipe_named("trial")
    found = []
    for beta in (0.0, DEFENSIVE):
        own, _, _ = tuned(
            start, NETWORK, load_digits(), replace(recipe, orthogonality=beta), 1, 0, tmp_path / str(beta)
        )
        found.append(not_orthogonal(own).item())
    assert found[1] < 0.9 * found[0]
    assert "orthogonality" not in recipe.to_json(), "trainings of before keep their checkpoints"
