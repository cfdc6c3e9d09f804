"""The `glyphs` data set: 62 characters at 32 pixels, rendered from the fonts that matplotlib ships.

Seeded, so every machine that has the same fonts renders the same images. Geometry, colours, contrast,
clutter, blur and noise are random. Validation and test have fonts of their own that training never sees.
"""

from __future__ import annotations

import hashlib
import string
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from latency_tables.files import whole
from supernets.data.splits import SPLITS, Dataset, Labels, Split
from supernets.errors import InvalidDataset

Bytes = npt.NDArray[np.uint8]

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
SIZE = 32
PER_CLASS = {"train": 240, "validation": 40, "test": 60}
FONTS = {
    "train": (
        "DejaVuSans",
        "DejaVuSans-Bold",
        "DejaVuSans-Oblique",
        "DejaVuSansMono",
        "DejaVuSansMono-Oblique",
        "DejaVuSerif",
        "DejaVuSerif-BoldItalic",
        "STIXGeneral",
        "STIXGeneralBolIta",
        "cmr10",
        "cmtt10",
    ),
    "validation": ("DejaVuSansMono-Bold", "DejaVuSerif-Italic", "STIXGeneralBol", "cmb10"),
    "test": ("DejaVuSansMono-BoldOblique", "DejaVuSerif-Bold", "STIXGeneralItalic", "cmss10"),
}
_VERSION = 1
_CANVAS = 96


def load_glyphs(folder: Path | None = None) -> Dataset:
    """Render the data set, or read what an earlier run rendered into `folder`. Raises InvalidDataset without
    the fonts."""
    cached = None if folder is None else folder / f"glyphs-{_digest()}.npz"
    arrays = _read(cached) if cached is not None else None
    if arrays is None:
        arrays = _render_all()
        if cached is not None:
            _write(cached, arrays)
    train, validation, test = (Split(arrays[f"{name}_images"], arrays[f"{name}_labels"]) for name in SPLITS)
    return Dataset("glyphs", tuple(CHARACTERS), train, validation, test)


def _digest() -> str:
    """Names the rendering: another version, other fonts or sizes have another file."""
    fonts = {
        path: hashlib.sha256((_font_folder() / f"{path}.ttf").read_bytes()).hexdigest()
        for path in _all_fonts()
    }
    return hashlib.sha256(repr((_VERSION, SIZE, PER_CLASS, FONTS, fonts)).encode()).hexdigest()[:16]


def _all_fonts() -> list[str]:
    return [font for name in SPLITS for font in FONTS[name]]


def source_files() -> dict[str, Path]:
    """What the pictures are rendered from, by name. Raises InvalidDataset without the fonts."""
    folder = _font_folder()
    return {f"{font}.ttf": folder / f"{font}.ttf" for font in _all_fonts()}


def rendering() -> str:
    """Tells one way to render from another."""
    return hashlib.sha256(repr((_VERSION, SIZE, PER_CLASS, FONTS)).encode()).hexdigest()[:16]


def _font_folder() -> Path:
    found = find_spec("matplotlib")  # only to find its fonts: importing it takes a second
    places = (found.submodule_search_locations or []) if found else []
    folder = Path(next(iter(places), "")) / "mpl-data" / "fonts" / "ttf"
    missing = [font for font in _all_fonts() if not (folder / f"{font}.ttf").is_file()]
    if missing:
        raise InvalidDataset(
            f"this matplotlib lacks the fonts {', '.join(missing)}; install the pinned one (constraints.txt)"
        )
    return folder


def _read(path: Path) -> dict[str, Any] | None:
    """Cached arrays; None where there are none or the file is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:  # checks the end of the file first; numpy would leave it open
            archive.testzip()
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError):
        return None


def _write(path: Path, arrays: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as file:
        np.savez(file, **arrays)


def _render_all() -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for number, name in enumerate(SPLITS):
        labels = np.tile(np.arange(len(CHARACTERS)), PER_CLASS[name])
        arrays[f"{name}_labels"] = labels
        arrays[f"{name}_images"] = render(labels, FONTS[name], np.random.default_rng([_VERSION, number]))
    return arrays


def render(labels: Labels, fonts: tuple[str, ...], generator: np.random.Generator) -> Bytes:
    """One image per label, (N, 3, 32, 32) bytes, fonts drawn at random."""
    from PIL import ImageFont  # noqa: PLC0415 - workers only

    folder = _font_folder()
    loaded = [ImageFont.truetype(str(folder / f"{font}.ttf"), 56) for font in fonts]
    images = np.empty((len(labels), 3, SIZE, SIZE), dtype=np.uint8)
    for index, label in enumerate(labels):
        images[index] = _glyph(CHARACTERS[label], loaded, generator)
    return images


def _glyph(character: str, fonts: list[FreeTypeFont], generator: np.random.Generator) -> Bytes:
    """One character on a background, with clutter at the rim, blur and noise."""
    ink = _mask(character, fonts[generator.integers(len(fonts))], generator, reach=0.1)
    away = generator.uniform(0, 2 * np.pi)
    other = CHARACTERS[generator.integers(len(CHARACTERS))]
    neighbour = _mask(
        other,
        fonts[generator.integers(len(fonts))],
        generator,
        0.1,
        0.75 * np.array([np.cos(away), np.sin(away)]),
    )
    paper, pen, blot = _colours(generator)
    slope = (
        generator.normal(0, 20, size=(3, 2, 1, 1))
        * np.stack(np.meshgrid(*[np.linspace(-1, 1, SIZE)] * 2))[None]
    )
    picture = paper[:, None, None] + slope.sum(axis=1)
    picture = picture + neighbour * (blot - paper)[:, None, None]
    picture = picture + ink * (pen[:, None, None] - picture)
    picture = picture + generator.normal(0, generator.uniform(4, 28), size=picture.shape)
    return np.asarray(np.clip(np.rint(picture), 0, 255), dtype=np.uint8)


def _colours(generator: np.random.Generator) -> list[Any]:
    """Paper, pen and clutter; the pen differs from the paper by a random contrast."""
    paper = generator.uniform(40, 215, size=3)
    contrast = generator.uniform(45, 140) * (1 if paper.mean() < 128 else -1)
    pen = paper + contrast + generator.normal(0, 18, size=3)
    return [paper, pen, paper + generator.uniform(0.2, 0.8) * (pen - paper)]


def _mask(
    character: str, font: FreeTypeFont, generator: np.random.Generator, reach: float, offset: Any = (0.0, 0.0)
) -> Any:
    """Ink of a character in [0, 1], (32, 32): random size, turn, shear, stretch, place and blur.

    offset: of its centre, in sides of the picture.
    """
    from PIL import Image, ImageDraw, ImageFilter  # noqa: PLC0415 - workers only

    canvas = Image.new("L", (_CANVAS, _CANVAS))
    ImageDraw.Draw(canvas).text((_CANVAS / 2, _CANVAS / 2), character, fill=255, font=font, anchor="mm")
    scale = generator.uniform(1.7, 2.9)  # canvas pixels per picture pixel
    angle, shear, stretch = (
        generator.uniform(-0.3, 0.3),
        generator.uniform(-0.25, 0.25),
        np.exp(generator.uniform(-0.2, 0.2)),
    )
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = scale * turn @ np.array([[stretch, shear], [0, 1 / stretch]])
    centre = SIZE * (0.5 + np.asarray(offset) + generator.uniform(-reach, reach, size=2))
    corner = _CANVAS / 2 - matrix @ centre
    terms = (*matrix[0], corner[0], *matrix[1], corner[1])
    picture = canvas.filter(ImageFilter.GaussianBlur(0.45 * scale)).transform(
        (SIZE, SIZE), Image.Transform.AFFINE, tuple(float(t) for t in terms), Image.Resampling.BILINEAR
    )
    return (
        np.asarray(picture.filter(ImageFilter.GaussianBlur(generator.uniform(0, 0.8))), dtype=np.float64)
        / 255
    )
