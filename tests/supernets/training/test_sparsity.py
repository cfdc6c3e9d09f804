"""How many channels a block uses, as a part of the loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from supernets.data.catalog import load_digits
from supernets.errors import InvalidTraining
from supernets.network import Supernet
from supernets.spaces.catalog import space_named
from supernets.training.catalog import recipe_named
from supernets.training.recipe import Recipe
from supernets.training.sparsity import channels_used, group_norms, hoyer_square
from supernets.training.tuning import specialised, tuned

SPACE = space_named("digits-mbv3")
NETWORK = SPACE.smallest(8)
BLOCK = "stage1_0"


def test_it_counts_channels_whatever_their_scale() -> None:
    assert hoyer_square(torch.ones(12)).item() == pytest.approx(12)
    assert hoyer_square(torch.tensor([0.0, 3.0, 0.0, 3.0])).item() == pytest.approx(2)
    norms = torch.rand(7)
    assert hoyer_square(5 * norms).item() == pytest.approx(hoyer_square(norms).item(), rel=1e-5)


def test_small_channels_are_drawn_to_nothing_and_large_ones_are_not() -> None:
    norms = torch.tensor([0.1, 1.0], requires_grad=True)
    hoyer_square(norms).backward()  # type: ignore[no-untyped-call]
    assert norms.grad is not None and norms.grad[0] > 0 > norms.grad[1]


def test_a_block_without_channels_to_cut_out_is_named() -> None:
    own = specialised(Supernet(SPACE), NETWORK)
    narrow = space_named("proxyless")
    inputs_alone = specialised(Supernet(narrow), narrow.smallest())
    first = next(name for name, block in inputs_alone.blocks.items() if getattr(block, "expand", 0) is None)
    for network, name in ((own, "head_0"), (own, "nowhere"), (inputs_alone, first)):
        with pytest.raises(InvalidTraining, match=name):
            channels_used(network, {name: 1.0})


def test_fine_tuning_with_it_uses_fewer_channels(tmp_path: Path) -> None:
    start = Supernet(SPACE, generator=torch.Generator().manual_seed(0))
    recipe = recipe_named("trial")
    used: list[float] = []
    for weights in ((), ((BLOCK, 0.2),)):
        asked = replace(recipe, sparsity=weights)
        own, _, _ = tuned(start, NETWORK, load_digits(), asked, 1, 0, tmp_path / str(len(weights)))
        block: Any = own.blocks[BLOCK]
        used.append(hoyer_square(group_norms(block.closing)).item())
    assert used[1] < 0.9 * used[0]


def test_a_recipe_keeps_it_and_those_of_before_keep_their_digest() -> None:
    recipe = recipe_named("trial")
    assert "sparsity" not in recipe.to_json()
    asked = replace(recipe, sparsity=((BLOCK, 0.5),))
    assert Recipe.from_json(asked.to_json()) == asked
    with pytest.raises(InvalidTraining):
        Recipe.from_json({**recipe.to_json(), "sparsity": [["one"]]})
