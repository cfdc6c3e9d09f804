"""What is added to the loss of one network that is fine-tuned, as its recipe asks for it."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from supernets.network import Supernet
from supernets.training.defensive import not_orthogonal
from supernets.training.recipe import Recipe
from supernets.training.sparsity import channels_used


def penalties(recipe: Recipe, network: Supernet) -> Iterator[Tensor]:
    """Scalars with a gradient, none where nothing is asked for. Raises InvalidTraining."""
    if recipe.orthogonality:
        yield recipe.orthogonality * not_orthogonal(network)
    if recipe.sparsity:
        yield channels_used(network, dict(recipe.sparsity))
