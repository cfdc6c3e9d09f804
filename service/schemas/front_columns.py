"""The front in columns: what a page or a notebook draws, a tenth of the size of the same with whole
architectures."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Final

from service.schemas.strict import JsonObject
from supernets.errors import InvalidArchitecture
from supernets.spaces.architecture import Architecture
from supernets.spaces.space import Space

ALPHABET: Final = string.digits + string.ascii_letters


def legend(space: Space) -> JsonObject:
    """What the genes mean: resolutions, and for each stage its widths, depths and the choices of each
    block."""
    return {
        "space": space.name,
        "resolutions": list(space.resolutions),
        "stages": [
            {
                "name": stage.name,
                "widths": [state["width"] for state in stage.states],
                "states": [state.as_dict() for state in stage.states],
                "depths": list(stage.depths),
                "choices": [[choice.as_dict() for choice in block] for block in stage.choices],
            }
            for stage in space.stages
        ],
    }


def gene_text(genes: Sequence[int]) -> str:
    """One character for each gene."""
    return "".join(ALPHABET[gene] for gene in genes)


def architecture_of(space: Space, text: str) -> Architecture:
    """The architecture of a text of `gene_text`. Raises InvalidArchitecture."""
    genes = [ALPHABET.find(character) for character in text]
    if -1 in genes:
        raise InvalidArchitecture("genes are digits and letters")
    return space.architecture(genes)
