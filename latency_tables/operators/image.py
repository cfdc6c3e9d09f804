"""What the families of image networks have in common: one picture of H x W x C goes in."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Final, Self

from latency_tables.errors import InvalidOperator
from latency_tables.inputs import InputSpec
from latency_tables.named import Named, Value
from latency_tables.operators.operator import MAX_SIZE, Block, Dimension, Operator

ACTIVATIONS: Final = ("none", "relu", "relu6", "hswish")
KERNEL: Final = Dimension("kernel", 1, opens="kernel")
EXPAND: Final = Dimension("expand", 1, opens="expand")
"""Ratio of channels in the middle: over those of the input (`mbconv`) or of the output (`bottleneck`)."""


def make_divisible(value: float, divisor: int = 8) -> int:
    """The nearest multiple of `divisor`, never below 90 % of `value` (MobileNet's rounding rule)."""
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def kept_channels(values: Named, channels: int) -> int:
    """Of so many middle channels those that a choice keeps, by its value `kept`: a share, in steps of 8."""
    share = values.get("kept")
    return channels if share is None else max(8, 8 * round(channels * float(share) / 8))


def squeeze_excite_channels(mid_channels: int) -> int:
    """Hidden channels of the squeeze-excite part of a block with that many mid channels (once-for-all)."""
    return make_divisible(mid_channels // 4, 8)


@dataclass(frozen=True)
class ImageOperator(Operator):
    """Operators on pictures. All of these families have one text form, so they have the same fields.

    mid_channels is a *number of channels*, never a ratio: once-for-all writes channels into its `expand`
    field and ProxylessNAS writes ratios into a field of the same name, and mixing the two is the classic
    mistake of this field.
    groups: of the kxk convolution.
    """

    form: ClassVar[str] = (
        "in={in_height}x{in_width}x{in_channels}/out={out_channels}/kernel={kernel}/stride={stride}/mid={mid_channels}"
        "/residual={residual}/se={squeeze_excite}/act={activation}/groups={groups}"
    )
    settings: ClassVar[Mapping[str, Value]] = {
        "stride": 1,
        "activation": "relu",
        "squeeze_excite": False,
        "residual": True,
    }
    # Every choice of an image space names both, in its digest too, whatever its family makes of them.
    dimensions: ClassVar[tuple[Dimension, ...]] = (KERNEL, EXPAND)
    excludable: ClassVar[tuple[str, ...]] = ("kernel", "squeeze_excite", "activation")
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "in_height": ("in_width",),
        "mid_channels": ("groups",),
        "kernel": (),
    }

    in_height: int
    in_width: int
    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    mid_channels: int
    residual: bool
    squeeze_excite: bool
    activation: str
    groups: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.activation not in ACTIVATIONS:
            raise InvalidOperator(f"unknown activation; known are {', '.join(ACTIVATIONS)}")
        sizes = (
            self.in_height,
            self.in_width,
            self.in_channels,
            self.out_channels,
            self.kernel,
            self.stride,
            self.groups,
        )
        if any(type(s) is not int or not 1 <= s <= MAX_SIZE for s in sizes):
            raise InvalidOperator(
                f"sizes, channels, kernel, stride and groups must be whole numbers from 1 to {MAX_SIZE}"
            )
        if type(self.mid_channels) is not int or not 0 <= self.mid_channels <= MAX_SIZE:
            raise InvalidOperator(f"mid channels must be a whole number from 0 to {MAX_SIZE}")
        self.check()

    def check(self) -> None:
        """What the family asks beyond that. Raises InvalidOperator."""
        if self.residual and not self.keeps_shape:
            raise InvalidOperator("a residual connection needs stride 1 and equal input and output channels")

    @classmethod
    def from_block(
        cls, block: Block, *, mid_channels: int = 0, groups: int = 1, residual: bool | None = None
    ) -> Self:
        """The operator of a block. residual: None where it has one if the stage wants it and the shape
        stays."""
        channels, height, width = block.shape
        settings = block.settings
        stride = whole(settings, "stride") if block.first and "stride" in settings else 1
        same = stride == 1 and channels == block.width
        return cls(
            in_height=height,
            in_width=width,
            in_channels=channels,
            out_channels=block.width,
            kernel=whole(block.values, "kernel"),
            stride=stride,
            mid_channels=mid_channels,
            residual=bool(settings["residual"]) and same if residual is None else residual,
            squeeze_excite=bool(settings.get("squeeze_excite")),
            activation=str(settings["activation"]),
            groups=groups,
        )

    @classmethod
    def optional(cls, first: bool, settings: Named) -> bool:
        return bool(settings.get("residual")) and (not first or settings["stride"] == 1)

    @property
    def keeps_shape(self) -> bool:
        """Whether input and output have the same shape."""
        return self.stride == 1 and self.in_channels == self.out_channels

    @property
    def out_height(self) -> int:
        # Padding is kernel // 2 everywhere, so the kernel does not matter.
        return (self.in_height - 1) // self.stride + 1

    @property
    def out_width(self) -> int:
        return (self.in_width - 1) // self.stride + 1

    @property
    def inputs(self) -> tuple[InputSpec, ...]:
        return (InputSpec("input", (self.in_channels, self.in_height, self.in_width)),)

    @property
    def output_shape(self) -> tuple[int, ...]:
        return (self.out_channels, self.out_height, self.out_width)

    @property
    def pixels_in(self) -> int:
        return self.in_height * self.in_width

    @property
    def pixels_out(self) -> int:
        return self.out_height * self.out_width

    @property
    def peak_values(self) -> int:
        return self.pixels_in * self.in_channels + self.mid_channels + self.pixels_out * self.out_channels

    @property
    def kept_of_unit(self) -> int:
        """How often a convolution, batch-norm and activation of this operator keep what they make: as the
        input of the batch-norm, as the output of the activation, and before ReLU6 and h-swish too (where
        weights are shared, ReLU6 works in place and keeps less)."""
        return {"none": 1, "relu": 2}.get(self.activation, 3)

    @property
    def kind(self) -> str:
        squeeze = " with squeeze-excite" if self.squeeze_excite else ""
        return f"{self.family}{squeeze}, kernel {self.kernel}"

    @property
    def traits(self) -> Mapping[str, str]:
        channels = self.mid_channels or self.out_channels
        step = next((n for n in (32, 16, 8) if channels % n == 0), 1)
        return {
            "activation": f"activation {self.activation}",
            "alignment": f"channels a multiple of {step}" if step > 1 else "channels no multiple of 8",
            "channels": f"up to {1 << (channels - 1).bit_length()} channels",
            "input": f"input of {self.in_height} x {self.in_width}",
            "stride": f"stride {self.stride}",
            "residual": "with a residual connection" if self.residual else "without a residual connection",
        }

    @property
    def alike(self) -> Mapping[str, Hashable]:
        return {
            "kernel": (self.family, self.kernel),
            "expansion": (self.family, round(self.mid_channels / self.in_channels, 1)),
            "size": (self.in_height, self.out_channels),
            "activation": (self.activation, self.squeeze_excite),
        }

    @property
    def path(self) -> str:
        return f"in{self.in_channels}_out{self.out_channels}_mid{self.mid_channels}_k{self.kernel}"


def whole(values: Mapping[str, Value], name: str) -> int:
    """A value that must be a whole number. Raises InvalidOperator."""
    value = values[name]
    if type(value) is not int:
        raise InvalidOperator(f"{name} must be a whole number, not {value!r}")
    return value
