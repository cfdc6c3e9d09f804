"""What happens between a photographer's file and a network's input: one definition for training, evaluation
and consumers.

A preprocessing is a list of steps from `supernets.data.steps.STEPS`. The first ones take a Pillow picture and
end in the *kept* picture, bytes of shape (C, H, W), which data sets keep and a network with its normalisation
inside takes as input. The others are plain arithmetic on those bytes and end in float32 (C, height, width).
No torch here: NumPy and Pillow reproduce every step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np
import numpy.typing as npt

from supernets.data.steps import (
    MODES,
    STEPS,
    ArrayStep,
    CentreSquare,
    Convert,
    Depth,
    Flatten,
    Floats,
    Interpolate,
    Normalise,
    Orient,
    PictureStep,
    Resize,
    Step,
)
from supernets.errors import InvalidPreprocessing

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

Bytes = npt.NDArray[np.uint8]
VERSION: Final = 1
Chosen = TypeVar("Chosen", bound=Step)


@dataclass(frozen=True)
class Preprocessing:
    """The steps from a picture to a network's input, in order. Raises InvalidPreprocessing for steps that do
    not fit together."""

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        names = [one.step for one in self.steps]
        kept = [isinstance(one, ArrayStep) for one in self.steps]
        if kept != sorted(kept):
            raise InvalidPreprocessing("steps on pictures come before steps on arrays")
        for needed in ("convert", "resize", "normalise"):
            if names.count(needed) != 1:
                raise InvalidPreprocessing(f"exactly one step {needed!r} is needed")
        if len(self._step(Normalise).mean) != self.channels:
            raise InvalidPreprocessing(
                f"normalise: {self.channels} channel(s), {len(self._step(Normalise).mean)} mean(s)"
            )

    @property
    def channel_order(self) -> str:
        """RGB, or L for grey."""
        return self._step(Convert).mode

    @property
    def channels(self) -> int:
        return len(self.channel_order)

    @property
    def kept_size(self) -> tuple[int, int]:
        """(height, width) of the kept picture."""
        resize = self._step(Resize)
        return resize.height, resize.width

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the network's input."""
        found = [one for one in self.steps if isinstance(one, Interpolate)]
        return (found[-1].height, found[-1].width) if found else self.kept_size

    @property
    def mean(self) -> tuple[float, ...]:
        return self._step(Normalise).mean

    @property
    def deviation(self) -> tuple[float, ...]:
        return self._step(Normalise).deviation

    def apply(self, picture: Picture | npt.NDArray[Any]) -> Floats:
        """The network's input, float32 (C, height, width), of an opened picture or an array (H, W) or (H, W,
        C).

        Raises InvalidPreprocessing for an array that is no picture.
        """
        return self.finish(self.keep(picture))

    def keep(self, picture: Picture | npt.NDArray[Any]) -> Bytes:
        """The kept picture, bytes (C, H, W). Raises InvalidPreprocessing for an array that is no picture."""
        return keep(picture, tuple(one for one in self.steps if not isinstance(one, ArrayStep)))

    def finish(self, kept: Bytes) -> Floats:
        """Network inputs, float32 (..., C, height, width), of kept pictures (..., C, H, W)."""
        values: npt.NDArray[Any] = kept
        for one in self.steps:
            if isinstance(one, ArrayStep):
                values = one(values)
        return np.ascontiguousarray(values, dtype=np.float32)

    def to_json(self) -> dict[str, Any]:
        """Plain values, `from_json` reads them back; what is not in `steps` is there for people to read."""
        height, width = self.size
        return {
            "version": VERSION,
            "layout": "NCHW",
            "dtype": "float32",
            "channel_order": self.channel_order,
            "height": height,
            "width": width,
            "steps": [{"step": one.step, **asdict(one)} for one in self.steps],
        }

    @classmethod
    def from_json(cls, data: Any) -> Preprocessing:
        """Read `to_json`'s form. Raises InvalidPreprocessing."""
        try:
            if data["version"] != VERSION:
                raise InvalidPreprocessing(
                    f"preprocessing of version {data['version']!r}; this program reads {VERSION}"
                )
            return cls(tuple(_read(one) for one in data["steps"]))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, InvalidPreprocessing):
                raise
            raise InvalidPreprocessing(f"not a preprocessing: {error}") from error

    def _step(self, kind: type[Chosen]) -> Chosen:
        return next(one for one in self.steps if isinstance(one, kind))


def picture_steps(
    channels: int, height: int, width: int, depth: Depth | None = None
) -> tuple[PictureStep, ...]:
    """The steps from a file to the kept picture of that size; the centre square is cut where the size is a
    square's.

    Raises InvalidPreprocessing for another number of channels than 1 or 3.
    """
    if channels not in MODES:
        raise InvalidPreprocessing(f"pictures have 1 or 3 channels, not {channels}")
    crop = (CentreSquare(),) if height == width else ()
    return (Orient(), depth or Depth(), Flatten(), Convert(MODES[channels]), *crop, Resize(height, width))


def keep(picture: Picture | npt.NDArray[Any], steps: tuple[PictureStep, ...]) -> Bytes:
    """The kept picture, bytes (C, H, W), that steps on pictures end in. Raises InvalidPreprocessing."""
    opened: Picture = _opened(picture) if isinstance(picture, np.ndarray) else picture
    for one in steps:
        opened = one(opened)
    pixels = np.asarray(opened, dtype=np.uint8)
    return np.ascontiguousarray(pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1))


def _opened(array: npt.NDArray[Any]) -> Picture:
    from PIL import Image  # noqa: PLC0415

    flat = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
    deep = {"u2": np.uint16, "i4": np.int32, "f4": np.float32, "f8": np.float32}.get(
        f"{flat.dtype.kind}{flat.dtype.itemsize}"
    )
    if flat.size and (
        (flat.dtype == np.uint8 and flat.ndim in (2, 3)) or (deep is not None and flat.ndim == 2)
    ):
        try:
            return Image.fromarray(np.ascontiguousarray(flat, dtype=deep or np.uint8))
        except (TypeError, ValueError):
            pass
    raise InvalidPreprocessing(
        f"an array of {array.dtype} with shape {array.shape} is no picture; wanted bytes (H, W) or (H, W, "
        "3), or (H, W) of "
        "16-bit whole numbers or floats"
    )


def _read(data: Mapping[str, Any]) -> Step:
    name = data["step"]
    if name not in STEPS:
        raise InvalidPreprocessing(f"unknown step {name!r}; this program knows {', '.join(STEPS)}")
    kind = STEPS[name]
    own = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in data.items()
        if key != "step"
    }
    unknown = set(own) - {field.name for field in fields(kind)}
    if unknown:
        raise InvalidPreprocessing(f"step {name!r} has no {', '.join(sorted(unknown))}")
    made: Callable[..., Step] = kind  # each checks its own values
    return made(**own)
