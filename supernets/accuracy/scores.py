"""Measured accuracies of sub-networks from a CSV file: the form of once-for-all's published scores."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from latency_tables.dense import Array, Genes
from supernets.errors import InvalidPredictor
from supernets.spaces.architecture import Architecture
from supernets.spaces.published import architecture_from_lists
from supernets.spaces.space import Space

_COLUMNS = ("depth", "kernel", "expand", "resolution", "top1_percent")


def read_scores(space: Space, path: str | Path) -> tuple[Genes, Array]:
    """(genes, top-1 in percent) of every row; `.gz` is unpacked.

    Columns depth (one number a stage), kernel and expand (one a block, unused ones included), space
    separated, resolution and top1_percent. Raises InvalidPredictor that names the row.
    """
    source = Path(path)
    opened = gzip.open if source.suffix == ".gz" else open
    try:
        with opened(source, "rt", encoding="utf-8", newline="") as file:
            return parse_scores(space, csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidPredictor(
            f"the scores cannot be read ({error}); a CSV file with the columns {list(_COLUMNS)} is wanted"
        ) from error


def parse_scores(space: Space, rows: Iterable[Mapping[str, str | None]]) -> tuple[Genes, Array]:
    """The same from rows already split."""
    genes, values = [], []
    for number, row in enumerate(rows, 2):  # the header is row 1
        try:
            architecture = _architecture(space, row)
            value = float(row["top1_percent"] or "")
            if not 0 <= value <= 100:
                raise ValueError("top1_percent must lie between 0 and 100")
            genes.append(space.genes(architecture))
            values.append(value)
        except (KeyError, ValueError, IndexError) as error:
            raise InvalidPredictor(
                f"row {number}: {error}; wanted the columns {list(_COLUMNS)} of space {space.name!r}"
            ) from error
    if not genes:
        raise InvalidPredictor("the scores have no rows")
    return np.array(genes), np.array(values)


def _architecture(space: Space, row: Mapping[str, str | None]) -> Architecture:
    depths, kernels, expands = (
        [float(text) for text in (row[column] or "").split()] for column in ("depth", "kernel", "expand")
    )
    whole = [[int(value) for value in values] for values in (depths, kernels)]
    return architecture_from_lists(space, whole[0], whole[1], expands, int(row["resolution"] or ""))
