"""Supernets and data sets, loaded once for all requests that name them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from service.artifacts import ArtifactStore
from supernets.data.catalog import load_for
from supernets.network import Supernet
from supernets.spaces.catalog import space_at, space_named
from supernets.tasks.data import Data
from supernets.training.job import as_expected, load_supernet
from supernets.training.tuning import alone
from worker.compute.requests import Places, SupernetRef


def store_of(places: Places) -> ArtifactStore:
    """Where files are put that an answer names."""
    return ArtifactStore(Path(places.store))


def supernet_of(places: Places, supernet: SupernetRef) -> Supernet:
    """Its weights, in evaluation mode. Raises ArtifactMissing, ArtifactCorrupt, InvalidCheckpoint."""
    return _supernet(places.store, supernet)


def dataset_of(places: Places, supernet: SupernetRef, *, expected: bool = True) -> Data:
    """What it was trained on, prepared for its space. Raises UnknownDataset, InvalidDataset,
    InvalidCheckpoint.

    expected: with inputs normalised as its weights expect them; else by the data set's own moments.
    """
    registered = tuple(sorted(places.registered.items()))
    found = _dataset(supernet.space.name, supernet.dataset, supernet.fingerprint, places.data_dir, registered)
    if not expected:
        return found
    return as_expected(found, store_of(places).path(supernet.weights_sha256))


@lru_cache(maxsize=2)  # a supernet, and the network that was fine-tuned from it
def _supernet(store: str, supernet: SupernetRef) -> Supernet:
    sized = space_at(supernet.space)
    own = sized if supernet.alone is None else alone(sized, supernet.alone)
    return load_supernet(ArtifactStore(Path(store)).read(supernet.weights_sha256), own)


@lru_cache(maxsize=1)  # it may be most of the memory there is
def _dataset(
    space: str, name: str, fingerprint: str | None, data_dir: str, registered: tuple[tuple[str, str], ...]
) -> Data:
    return load_for(space_named(space), name, Path(data_dir), dict(registered), fingerprint=fingerprint)
