"""How the operators of `tone_operators` are computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from tone_operators import Conv1d, ToneHead
from torch import Tensor, nn
from torch.nn import functional as F

from supernets.layers.block import Drawn, ElasticBlock, Foldable, Graph, Layer, LayerSettings, State
from supernets.layers.norm import ElasticBatchNorm


class PlainConv1d(nn.Module, Foldable, Drawn):
    """What is cut out, trained alone, timed and delivered."""

    def __init__(self, op: Conv1d, eps: float) -> None:
        super().__init__()
        padding = op.kernel // 2
        self.conv = nn.Conv1d(op.channels, op.width, op.kernel, op.stride, padding, bias=False)
        self.norm: nn.Module = nn.BatchNorm1d(op.width, eps=eps)
        self.relu, self.residual = nn.ReLU(), op.residual

    def forward(self, x: Tensor) -> Tensor:
        y = cast(Tensor, self.relu(self.norm(self.conv(x))))
        return x + y if self.residual else y

    def fold(self) -> None:
        norm = self.norm
        if (
            isinstance(norm, nn.BatchNorm1d)
            and norm.running_mean is not None
            and norm.running_var is not None
        ):
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            self.conv.weight.data *= scale[:, None, None]
            self.conv.bias = nn.Parameter(norm.bias - norm.running_mean * scale)
            self.norm = nn.Identity()

    def draw(self, graph: Graph, x: str) -> str:
        y = graph.module(self.relu, graph.module(self.norm, graph.module(self.conv, x)))
        return graph.add("Add", [x, y]) if self.residual else y


class ElasticConv1d(ElasticBlock[Conv1d]):
    """The first channels of one weight, and the middle of its largest kernel."""

    def __init__(self, operators: Sequence[Conv1d], eps: float) -> None:
        super().__init__()
        channels, width = max(op.channels for op in operators), max(op.width for op in operators)
        self.conv = nn.Conv1d(channels, width, max(op.kernel for op in operators), bias=False)
        self.norm = ElasticBatchNorm(width, eps=eps)

    def sliced(self, op: Conv1d) -> Tensor:
        edge = (self.conv.kernel_size[0] - op.kernel) // 2
        return self.conv.weight[: op.width, : op.channels, edge : edge + op.kernel]

    def forward(self, x: Tensor, op: Conv1d) -> Tensor:
        y = F.relu(self.norm(F.conv1d(x, self.sliced(op), None, op.stride, op.kernel // 2)))
        return x + y if op.residual else y

    def state(self, op: Conv1d) -> State:
        return {"conv.weight": self.sliced(op), **self.norm.state("norm.", op.width)}


class PlainToneHead(nn.Module):
    """It does not draw itself, so its ONNX file comes from torch's exporter: the same nodes, in more time."""

    def __init__(self, op: ToneHead) -> None:
        super().__init__()
        self.linear = nn.Linear(op.channels, op.classes)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.linear(x.mean(2)))


class ElasticToneHead(ElasticBlock[ToneHead]):
    def __init__(self, operators: Sequence[ToneHead]) -> None:
        super().__init__()
        self.linear = nn.Linear(max(op.channels for op in operators), operators[0].classes)

    def forward(self, x: Tensor, op: ToneHead) -> Tensor:
        return F.linear(x.mean(2), self.linear.weight[:, : op.channels], self.linear.bias)

    def state(self, op: ToneHead) -> State:
        return {"linear.weight": self.linear.weight[:, : op.channels], "linear.bias": self.linear.bias}


def _conv1d(op: Conv1d, settings: LayerSettings) -> nn.Module:
    return PlainConv1d(op, settings.eps)


def _elastic_conv1d(operators: Sequence[Conv1d], settings: LayerSettings) -> ElasticConv1d:
    return ElasticConv1d(operators, settings.eps)


def _head(op: ToneHead, settings: LayerSettings) -> nn.Module:
    return PlainToneHead(op)


def _elastic_head(operators: Sequence[ToneHead], settings: LayerSettings) -> ElasticToneHead:
    return ElasticToneHead(operators)


CONV1D = Layer("conv1d", _conv1d, _elastic_conv1d)
TONE_HEAD = Layer("tone_head", _head, _elastic_head)
