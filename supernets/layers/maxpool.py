"""`maxpool`: nothing to learn."""

from __future__ import annotations

from typing import Final

from torch import nn

from latency_tables.operators.maxpool import MaxPool
from supernets.layers.block import Layer, LayerSettings


def _plain(op: MaxPool, settings: LayerSettings) -> nn.Module:
    return nn.MaxPool2d(op.kernel, op.stride, op.kernel // 2)


MAXPOOL: Final = Layer("maxpool", _plain)
