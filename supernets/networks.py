"""The supernet of a space, whatever class the space names. Torch is loaded by the class's module."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from supernets.network import Supernet
    from supernets.spaces.space import Space


def build_supernet(space: Space, **settings: Any) -> Supernet:
    """A supernet with random weights. settings: `dropout`, `generator` and `form`, as `Supernet` takes
    them.

    What it must offer is what `supernets.network.Supernet` does: plans, a forward pass by a plan, one network
    alone (`cut_out`, `specialised`).
    """
    module, _, name = space.network.partition(":")
    return cast("Supernet", getattr(import_module(module), name)(space, **settings))
