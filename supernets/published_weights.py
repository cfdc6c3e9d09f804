"""Published checkpoints: their keys and shapes against ours, nothing left over on either side.

Once-for-All (Cai et al., ICLR 2020) published its supernets as pickled state dicts, in several spellings of
the same keys over time; they are compared with repeated parts written once. Only tensors are read
(`weights_only`), and only from the command line: a file of this kind never comes over HTTP.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor

from supernets.errors import InvalidCheckpoint
from supernets.network import Supernet
from supernets.spaces.space import Space
from supernets.state_dicts import State, read_state_dict

FORMATS: Final = ("once-for-all",)
_SHOWN: Final = 3

Pair = tuple[str, str]


@dataclass(frozen=True)
class Published:
    """A supernet with the weights of a file, in evaluation mode, and one line on what was read of the
    file."""

    supernet: Supernet
    read: str


def load_published(
    path: Path | str,
    *,
    space: Space,
    format: str = "once-for-all",  # noqa: A002 (the option of the command line)
    weights: str | None = None,
    backbone: bool = False,
) -> Published:
    """The supernet of that space, with its number of classes, and the weights of a published checkpoint.

    weights: which of several state dicts in the file, such as `ema`. backbone: take all but the last layer,
    which the file may lack or have for any classes; ours is then random. Raises InvalidCheckpoint for a
    damaged file, one that is not a state dict, or one of another space.
    """
    if format not in FORMATS:
        raise InvalidCheckpoint(f"unknown checkpoint format; known are {', '.join(FORMATS)}")
    supernet = Supernet(space)
    found = read_state_dict(Path(path), weights)
    state, described = found.state, found.described
    if backbone:
        own, head = supernet.state_dict(), set(_head(supernet))
        named = {published: own[ours] for ours, published in published_keys(supernet) if ours in head}
        plain = {_plain(published) for published in named}
        state = {**{key: value for key, value in state.items() if _plain(key) not in plain}, **named}
        described += "; the last layer is random"
    supernet.load_state_dict(from_published(supernet, state))
    return Published(supernet.eval(), described)


def from_published(supernet: Supernet, state: Mapping[str, Tensor]) -> State:
    """A published state dict as a state dict of `supernet`, every key and shape checked. Raises
    InvalidCheckpoint."""
    ours = supernet.state_dict()
    wanted = {_plain(published): name for name, published in published_keys(supernet)}
    given: dict[str, Tensor] = {}
    for key, value in state.items():
        # Two spellings of one key in one file: nothing says which of them is meant.
        if given.setdefault(_plain(key), value) is not value:
            raise _mismatch(supernet, f"two tensors are named {key!r}")
    missing = [key for key in wanted if key not in given and not key.endswith("num_batches_tracked")]
    unknown = [key for key in given if key not in wanted]
    if missing or unknown:
        raise _mismatch(
            supernet,
            f"{len(missing)} tensors missing{_some(missing)}, {len(unknown)} unknown{_some(unknown)}",
        )
    result: State = {}
    for key, name in wanted.items():
        value = given.get(key, ours[name])
        expected = ours[name].shape
        # The published feature layer is a 1x1 convolution.
        if value.shape == (*expected, 1, 1) and name.endswith("feature.weight"):
            value = value.flatten(1)
        if value.shape != expected:
            what = f"{key} has shape {tuple(value.shape)} instead of {tuple(expected)}"
            raise (
                _other_classes(supernet, what, len(value))
                if name in _head(supernet)
                else _mismatch(supernet, what)
            )
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InvalidCheckpoint(f"{key} holds values that are not finite; download the checkpoint again")
        result[name] = value.to(ours[name].dtype)
    return result


def published_keys(supernet: Supernet) -> Iterator[Pair]:
    """(our key, published key) of every tensor of the supernet. Raises InvalidCheckpoint for a space never
    published."""
    space = supernet.space
    resnet = any(stage.family == "bottleneck" for stage in space.stages)
    kinds = {name: type(block).__name__ for name, block in supernet.blocks.items()}
    number = convs = 0
    for name, kind in kinds.items():
        state = supernet.blocks[name].state_dict()
        if kind == "ElasticConvBlock":
            target = _resnet_stem(convs) if resnet else ("first_conv", _last_conv(supernet))[convs]
            convs += 1
            renames = {"unit.conv": f"{target}.conv", "unit.norm": f"{target}.bn"}
        elif kind in _BLOCKS:
            renames = {ours: f"blocks.{number}.{published}" for ours, published in _BLOCKS[kind].items()}
            number += 1
        elif kind == "ElasticHead":
            renames = {"feature": "feature_mix_layer.conv", "linear": "classifier.linear"}
        else:
            raise InvalidCheckpoint(f"no published checkpoints exist for the space {space.name}")
        for key in state:
            yield f"blocks.{name}.{key}", _renamed(key, renames)


_BLOCKS: Final[dict[str, dict[str, str]]] = {
    "ElasticMBConv": {
        "expand.conv": "conv.inverted_bottleneck.conv",
        "expand.norm": "conv.inverted_bottleneck.bn",
        "depthwise.conv": "conv.depth_conv.conv",
        "depthwise.norm": "conv.depth_conv.bn",
        "squeeze_excite": "conv.depth_conv.se.fc",
        "project.conv": "conv.point_linear.conv",
        "project.norm": "conv.point_linear.bn",
    },
    "ElasticBottleneck": {
        "reduce.conv": "conv1.conv",
        "reduce.norm": "conv1.bn",
        "spatial.conv": "conv2.conv",
        "spatial.norm": "conv2.bn",
        "project.conv": "conv3.conv",
        "project.norm": "conv3.bn",
        "shortcut.conv": "downsample.conv",
        "shortcut.norm": "downsample.bn",
    },
}


def _renamed(key: str, renames: Mapping[str, str]) -> str:
    for ours, published in renames.items():
        if key.startswith(f"{ours}."):
            rest = key[len(ours) + 1 :]
            matrix = "_matrix" if rest.startswith("transforms.") else ""
            return f"{published}.{rest.removeprefix('transforms.')}{matrix}"
    return key


def _resnet_stem(number: int) -> str:
    """The convolutions of ResNet-D's stem; the middle one is inside a residual block."""
    return ("input_stem.0", "input_stem.1.conv", "input_stem.2")[number]


def _last_conv(supernet: Supernet) -> str:
    """The last convolution is its own layer where a feature layer follows the pooling (MobileNetV3)."""
    features = supernet.space.stages[-1].settings["feature_channels"]
    return "final_expand_layer" if features else "feature_mix_layer"


def _plain(key: str) -> str:
    """One spelling of a published key: `module.` dropped, the old block name replaced, repeated parts written
    once."""
    key = key.removeprefix("module.").replace(".mobile_inverted_conv.", ".conv.")
    return re.sub(r"\.(conv|bn|linear)(?:\.\1)+(?=\.)", r".\1", key)


def _head(supernet: Supernet) -> tuple[str, ...]:
    """Our names of the tensors of which the first dimension is the number of classes."""
    last = list(supernet.blocks)[-1]
    return (f"blocks.{last}.linear.weight", f"blocks.{last}.linear.bias")


def _other_classes(supernet: Supernet, what: str, classes: int) -> InvalidCheckpoint:
    return InvalidCheckpoint(
        f"{what}: the file's head tells {classes} classes apart, {supernet.space.name} as asked for "
        f"{supernet.space.classes}. "
        f"If it is that space, give --classes {classes} and the data set it was trained for with --dataset"
    )


def _mismatch(supernet: Supernet, what: str) -> InvalidCheckpoint:
    return InvalidCheckpoint(
        f"the checkpoint is not one of {supernet.space.name}: {what}. Name the space it was trained for "
        "with --space"
    )


def _some(keys: list[str]) -> str:
    return f" ({', '.join(keys[:_SHOWN])}{', ...' if len(keys) > _SHOWN else ''})" if keys else ""
