"""An operator family is two files and two lines of catalogs; whoever else names one reads or draws what others published."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from latency_tables.operators.catalog import FAMILIES
from supernets.layers.catalog import LAYERS

ROOT = Path(__file__).parents[2]
ROOMS = ("latency_tables", "supernets", "service", "worker")
CATALOGS = {"latency_tables/operators/catalog.py", "supernets/layers/catalog.py"}
USES = {
    "supernets/spaces/catalog.py",  # the spaces that are made of it
    "supernets/spaces/published.py",  # lists, weights and tables in the forms that others published them in
    "supernets/published_weights.py",
    "latency_tables/formats/keyed_yaml.py",
    "latency_tables/formats/once_for_all.py",
    "latency_tables/formats/proxylessnas.py",
    "supernets/spaces/transformer_space.py",
    "supernets/spaces/lowering.py",  # the pair that changes a precision, between blocks of any family
    "supernets/delivery/int8_export.py",
    "supernets/delivery/int8_graphs.py",
}

FOLLOWS = {
    "maxpool": {"latency_tables/operators/conv.py"},  # a stage of convolutions may end in a pool
    # A layer of a transformer is a block of several operators.
    "source_embed": {"latency_tables/operators/encoder_attend.py"},
    "ffn": {"latency_tables/operators/encoder_attend.py", "latency_tables/operators/step_attend.py"},
    "cross_memory": {"latency_tables/operators/step_attend.py"},
    "step_cross": {"latency_tables/operators/step_attend.py"},
    "step_embed": {"latency_tables/operators/step_attend.py"},
    # The way there and back are one pair.
    "quantize": {"latency_tables/operators/dequantize.py", "supernets/layers/dequantize.py"},
}


@pytest.mark.parametrize("name", sorted(FAMILIES.keys() & LAYERS.keys()))
def test_a_family_is_named_in_its_two_files_and_the_catalogs(name: str) -> None:
    """By an import of one of its files, or by its name in quotes where that is no word of other trades."""
    imported = rf"^ *(?:from|import) (?:latency_tables\.operators|supernets\.layers)\.{name}\b"
    named = re.compile(imported if name in ("conv", "head") else rf'{imported}|"{name}"', re.M)
    found = {
        path.relative_to(ROOT).as_posix()
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if named.search(path.read_text())
    }
    own = {f"latency_tables/operators/{name}.py", f"supernets/layers/{name}.py"}
    follows = FOLLOWS.get(name, set())
    allowed = own | CATALOGS
    assert found <= allowed | USES | follows and found >= CATALOGS
