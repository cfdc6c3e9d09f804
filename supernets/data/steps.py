"""The steps that a preprocessing is made of: each says exactly what it does, so that NumPy and Pillow can do
it anywhere.

Steps on pictures take and give a Pillow picture; steps on arrays take and give (..., C, H, W).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import numpy.typing as npt

from supernets.errors import InvalidPreprocessing

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Floats = npt.NDArray[np.float32]
MODES: Final = {
    1: "L",
    3: "RGB",
}  # number of channels -> Pillow's mode; the order is that of the mode's letters


@dataclass(frozen=True)
class Orient:
    """Turn and mirror the picture as its EXIF orientation says."""

    step: ClassVar[str] = "orient"

    def __call__(self, picture: Picture) -> Picture:
        from PIL import ImageOps  # noqa: PLC0415 - as everywhere here: only who opens pictures needs Pillow

        return ImageOps.exif_transpose(picture)


@dataclass(frozen=True)
class Depth:
    """Bring pictures of more than 8 bits to bytes: (low, high) becomes (0, 255), what lies outside is
    clipped.

    integers: range of 16- and 32-bit pictures (modes I;16, I). floats: range of mode F. Other pictures stay
    as they are.
    """

    integers: tuple[float, float] = (0.0, 65535.0)
    floats: tuple[float, float] = (0.0, 1.0)
    step: ClassVar[str] = "depth"

    def __post_init__(self) -> None:
        for low, high in (self.integers, self.floats):
            if not -np.inf < low < high < np.inf:
                raise InvalidPreprocessing("depth: a range is two finite numbers, the lower one first")

    def __call__(self, picture: Picture) -> Picture:
        if not is_deep(picture.mode):
            return picture
        from PIL import Image  # noqa: PLC0415

        low, high = self.floats if picture.mode == "F" else self.integers
        values = np.nan_to_num((np.asarray(picture, dtype=np.float64) - low) / (high - low) * 255)
        return Image.fromarray(np.rint(np.clip(values, 0, 255)).astype(np.uint8))


@dataclass(frozen=True)
class Flatten:
    """Lay a picture with transparent parts (alpha channel or palette entry) on an even background."""

    background: int = 255
    step: ClassVar[str] = "flatten"

    def __call__(self, picture: Picture) -> Picture:
        if not (
            picture.mode in ("La", "RGBa") or "A" in picture.getbands() or "transparency" in picture.info
        ):
            return picture
        from PIL import Image  # noqa: PLC0415

        above = picture.convert("RGBA")
        paper = Image.new("RGBA", above.size, (self.background,) * 3 + (255,))
        return Image.alpha_composite(paper, above).convert("RGB")


@dataclass(frozen=True)
class Convert:
    """Convert to mode RGB or L (grey, ITU-R 601 luma): palettes, CMYK, one bit a pixel and the like."""

    mode: str
    step: ClassVar[str] = "convert"

    def __post_init__(self) -> None:
        if self.mode not in MODES.values():
            raise InvalidPreprocessing("convert: the mode is RGB or L")

    def __call__(self, picture: Picture) -> Picture:
        return picture if picture.mode == self.mode else picture.convert(self.mode)


@dataclass(frozen=True)
class CentreSquare:
    """Cut out the largest centred square; an odd pixel too many is cut off on the right or at the bottom."""

    step: ClassVar[str] = "centre_square"

    def __call__(self, picture: Picture) -> Picture:
        side = min(picture.size)
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        return (
            picture if picture.width == picture.height else picture.crop((left, top, left + side, top + side))
        )


@dataclass(frozen=True)
class Resize:
    """Resize to height x width with Pillow's BILINEAR, which averages where it shrinks; bytes in, bytes
    out."""

    height: int
    width: int
    step: ClassVar[str] = "resize"

    def __post_init__(self) -> None:
        _check_sides(self.step, self.height, self.width)

    def __call__(self, picture: Picture) -> Picture:
        from PIL import Image  # noqa: PLC0415

        size = (self.width, self.height)
        return picture if picture.size == size else picture.resize(size, Image.Resampling.BILINEAR)


@dataclass(frozen=True)
class Normalise:
    """(value - mean) / deviation, one number for each channel, in raw values 0 to 255."""

    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    step: ClassVar[str] = "normalise"

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.deviation) or not np.isfinite([*self.mean, *self.deviation]).all():
            raise InvalidPreprocessing(
                "normalise: mean and deviation are finite, one of each for every channel"
            )
        if min(self.deviation) <= 0:
            raise InvalidPreprocessing("normalise: a deviation is greater than 0")

    def __call__(self, values: npt.NDArray[Any]) -> Floats:
        mean, deviation = (np.array(v, dtype=np.float32)[:, None, None] for v in (self.mean, self.deviation))
        normalised: Floats = (values.astype(np.float32) - mean) / deviation
        return normalised


@dataclass(frozen=True)
class Interpolate:
    """Bilinear to height x width in float32, pixel centres at half pixels, no averaging where it shrinks.

    The same as `torch.nn.functional.interpolate(mode="bilinear", align_corners=False)` and ONNX `Resize`
    (linear, half_pixel): networks are trained at several resolutions on what this makes of one kept picture.
    """

    height: int
    width: int
    step: ClassVar[str] = "interpolate"

    def __post_init__(self) -> None:
        _check_sides(self.step, self.height, self.width)

    def __call__(self, values: npt.NDArray[Any]) -> Floats:
        if values.shape[-2:] == (self.height, self.width):
            return np.ascontiguousarray(values, dtype=np.float32)
        rows, columns = (
            interpolation(values.shape[-2], self.height),
            interpolation(values.shape[-1], self.width),
        )
        return np.ascontiguousarray(rows @ values.astype(np.float32) @ columns.T, dtype=np.float32)


PictureStep = Orient | Depth | Flatten | Convert | CentreSquare | Resize
ArrayStep = Normalise | Interpolate
Step = PictureStep | ArrayStep
STEPS: Final[dict[str, type[Step]]] = {
    kind.step: kind
    for kind in (Orient, Depth, Flatten, Convert, CentreSquare, Resize, Normalise, Interpolate)
}


def is_deep(mode: str) -> bool:
    """Whether pictures of that Pillow mode have more than 8 bits a channel."""
    return mode in ("I", "F") or mode.startswith("I;16")


@lru_cache(maxsize=128)
def interpolation(before: int, after: int) -> Floats:
    """Matrix (after, before) of `Interpolate` along one axis; every row sums to 1."""
    centres = (np.arange(after) + 0.5) * before / after - 0.5
    columns = [
        np.interp(centres, np.arange(before), unit) for unit in np.eye(before)
    ]  # holds the edges' values outside
    return np.stack(columns, axis=1).astype(np.float32)


def _check_sides(step: str, *sides: int) -> None:
    if any(not isinstance(side, int) or side < 1 for side in sides):
        raise InvalidPreprocessing(f"{step}: height and width are whole numbers from 1 on")
