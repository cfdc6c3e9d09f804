"""Emoji of two makers: what a random split says of one maker's pictures, and what the other maker's say.

Pictures of `fonts-noto-color-emoji` (Debian; OFL 1.1) and `ruby-gemojione` (CC-BY-SA 4.0), classes are the
groups of `emoji-test.txt` (`unicode-data`). The folder that is made has `CLASS/group-MAKER/CODE.png`. One
network of `cifar-mbv3`, the smallest, is trained from random weights for the same epochs on each of three
splits: random over one maker; one maker to train and the other to test; random over both.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from benchmarks.environment import environment
from supernets.data.splits import Dataset, Split, split_three
from supernets.spaces.catalog import space_named
from supernets.training.catalog import recipe_named
from supernets.training.control import from_scratch
from supernets.training.evaluation import Evaluator

SIZE: Final = 32
_GLYPH: Final = 109  # the one size that the font's bitmaps have
_LEFT_OUT: Final = ("Component",)  # skin tones alone are no emoji


def emoji_of(table: Path) -> list[tuple[str, str]]:
    """(group, text) of every fully qualified emoji without a skin tone."""
    group, found = "", []
    for line in table.read_text(encoding="utf-8").splitlines():
        if line.startswith("# group:"):
            group = line.split(":", 1)[1].strip()
        elif "; fully-qualified" in line and group not in _LEFT_OUT:
            codes = [int(code, 16) for code in line.split(";")[0].split()]
            if not any(0x1F3FB <= code <= 0x1F3FF for code in codes):
                found.append((group, "".join(map(chr, codes))))
    return found


def make_folder(folder: Path, font: Path, table: Path, gemojione: Path) -> dict[str, int]:
    """Write the pictures of both makers; how many of each."""
    drawn, made = ImageFont.truetype(str(font), _GLYPH), Counter[str]()
    for group, text in emoji_of(table):
        title = group.lower().replace(" & ", "-and-").replace(" ", "-")
        code = "-".join(f"{ord(c):X}" for c in text if ord(c) != 0xFE0F)
        pictures = {"noto": _noto(drawn, text), "gemojione": _png(gemojione / f"{code}.png")}
        for maker, picture in pictures.items():
            if picture is None:
                continue
            place = folder / title / f"group-{maker}" / f"{code}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            picture.save(place)
            made[maker] += 1
    return dict(made)


def _noto(font: ImageFont.FreeTypeFont, text: str) -> Image.Image | None:
    if font.getlength(text) > 1.5 * _GLYPH:
        return None  # a sequence that this font draws as several pictures
    paper = Image.new("RGB", (136, 128), "white")
    ImageDraw.Draw(paper).text((0, 0), text, font=font, embedded_color=True)
    return None if paper.getextrema() == ((255, 255),) * 3 else _square(paper)


def _png(file: Path) -> Image.Image | None:
    if not file.exists():
        return None
    with Image.open(file) as opened:
        above = opened.convert("RGBA")
    paper = Image.new("RGBA", above.size, "white")
    return _square(Image.alpha_composite(paper, above).convert("RGB"))


def _square(picture: Image.Image) -> Image.Image:
    return picture.resize((SIZE, SIZE), Image.Resampling.BILINEAR)


def split_of(folder: Path, classes: list[str], maker: str) -> Split:
    """All pictures of one maker."""
    files = [
        (path, label)
        for label, title in enumerate(classes)
        for path in sorted((folder / title / f"group-{maker}").glob("*.png"))
    ]
    images = np.stack([np.asarray(Image.open(path)).transpose(2, 0, 1) for path, _ in files])
    return Split(images, np.array([label for _, label in files], dtype=np.int64))


def tested(data: Dataset, epochs: int, seed: int, folder: Path) -> dict[str, Any]:
    """Accuracy on the test split in percent, of one network from random weights."""
    space = replace(space_named("cifar-mbv3").with_classes(len(data.classes)), resolutions=(24,))
    recipe = recipe_named("transfer")
    steps = epochs * max(1, len(data.train) // recipe.batch_size)
    network = space.smallest()
    own, taken = from_scratch(space, network, data, recipe, steps, seed, folder)
    accuracy = float(Evaluator(own, data, "test").qualities([network])[0])
    _say(f"{data.name}: {accuracy:.1%}")
    return {
        "accuracy": round(100 * accuracy, 1),
        "majority": round(100 * float(np.bincount(data.test.labels).max() / len(data.test)), 1),
        "train": len(data.train),
        "test": len(data.test),
        "steps": taken,
    }


def _say(text: str) -> None:
    print(time.strftime("%H:%M:%S"), text, file=sys.stderr, flush=True)


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="where pictures and checkpoints go")
    parser.add_argument(
        "--font", type=Path, default=Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
    )
    parser.add_argument("--table", type=Path, default=Path("/usr/share/unicode/emoji/emoji-test.txt"))
    parser.add_argument("--gemojione", type=Path, required=True, help="folder assets/png of the gem")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only-folder", action="store_true", help="make the folder, train nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    pictures = arguments.folder / "emoji"
    made = make_folder(pictures, arguments.font, arguments.table, arguments.gemojione)
    result: dict[str, Any] = {"pictures": made}
    if not arguments.only_folder:
        classes = sorted(path.name for path in pictures.iterdir())
        noto, other = (split_of(pictures, classes, maker) for maker in ("noto", "gemojione"))
        share = round(0.15 * len(noto))
        one = split_three("one maker, random split", tuple(classes), noto.images, noto.labels, share, share)
        apart = Dataset("trained on one, tested on the other", one.classes, one.train, one.validation, other)
        both = Split(
            np.concatenate([np.asarray(noto.images[:]), np.asarray(other.images[:])]),
            np.concatenate([noto.labels, other.labels]),
        )
        share = round(0.15 * len(both))
        mixed = split_three("both makers, random split", one.classes, both.images, both.labels, share, share)
        for name, data in (("one_maker_random", one), ("other_maker", apart), ("both_random", mixed)):
            place = arguments.folder / f"{name}-{arguments.seed}"
            result[name] = tested(data, arguments.epochs, arguments.seed, place)
    print(json.dumps({**result, "seed": arguments.seed, "environment": environment()}))


if __name__ == "__main__":
    main()
