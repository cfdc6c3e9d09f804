"""The feed-forward part of a transformer's layer, elastic in its width inside and in the features that come
in."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from supernets.layers.slicing import SlicedLinear


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between (Vaswani et al., 2017)."""

    def __init__(self, width: int, inside: int) -> None:
        super().__init__()
        self.first = SlicedLinear(width, inside)
        self.second = SlicedLinear(inside, width)

    def forward(self, x: Tensor, inside: int) -> Tensor:
        """(..., width) to the same shape."""
        return self.second(F.relu(self.first(x, inside)), x.shape[-1])  # type: ignore[no-any-return]
