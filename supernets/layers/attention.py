"""Multi-head attention, elastic in heads and in the features of what asks and of what is read.

Queries, keys and values keep their whole width whatever goes in; h heads are a reshape of it, so they change
what is mixed and no parameter (HAT, Wang et al., ACL 2020). Keys and values are asked for apart, so that they
can be kept from step to step.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from supernets.layers.slicing import SlicedLinear


class KeysValues(NamedTuple):
    """keys, values: (B, heads, length, qkv width / heads) each."""

    keys: Tensor
    values: Tensor

    def followed_by(self, later: KeysValues) -> KeysValues:
        """Both, one after the other."""
        return KeysValues(*(torch.cat(pair, dim=2) for pair in zip(self, later, strict=True)))

    def of_rows(self, rows: Tensor) -> KeysValues:
        """Those of these rows of the batch, in that order."""
        return KeysValues(self.keys.index_select(0, rows), self.values.index_select(0, rows))


class Attention(nn.Module):
    """width: of what asks, and of the output. read_width: of what is read, the same in self attention."""

    def __init__(self, width: int, read_width: int, qkv_width: int) -> None:
        super().__init__()
        self.query = SlicedLinear(width, qkv_width)
        self.key_value = SlicedLinear(read_width, 2 * qkv_width)
        self.output = SlicedLinear(qkv_width, width)

    def read(self, x: Tensor, heads: int) -> KeysValues:
        """Keys and values of (B, length, features)."""
        keys, values = self.key_value(x).chunk(2, dim=-1)
        return KeysValues(_by_head(keys, heads), _by_head(values, heads))

    def forward(
        self,
        x: Tensor,
        read: KeysValues,
        heads: int,
        *,
        mask: Tensor | None = None,
        causal: bool = False,
        dropout: float = 0.0,
    ) -> Tensor:
        """(B, T, features) to the same shape.

        mask: what may be read, True, broadcast to (B, heads, T, length). causal: position t reads the first
        t + 1. dropout: share of attention weights dropped.
        """
        queries = _by_head(self.query(x), heads)
        mixed = F.scaled_dot_product_attention(
            queries, read.keys, read.values, attn_mask=mask, dropout_p=dropout, is_causal=causal
        )
        return self.output(mixed.transpose(1, 2).flatten(2), x.shape[-1])  # type: ignore[no-any-return]


def _by_head(x: Tensor, heads: int) -> Tensor:
    """(B, length, width) as (B, heads, length, width / heads)."""
    batch, length, width = x.shape
    return x.reshape(batch, length, heads, width // heads).transpose(1, 2)
