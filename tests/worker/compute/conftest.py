"""A supernet of random weights, as a child finds it."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save

from service.artifacts import ArtifactStore
from supernets.network import Supernet
from supernets.spaces.catalog import space_named
from worker.compute.requests import Places, SupernetRef

SPACE = space_named("digits-mbv3")


@pytest.fixture(scope="session")
def life(tmp_path_factory: pytest.TempPathFactory) -> tuple[Places, SupernetRef]:
    """Where a child finds the supernet, and its name."""
    home = tmp_path_factory.mktemp("life")
    weights = save(Supernet(SPACE, generator=torch.Generator().manual_seed(0)).state_dict())
    sha256, _ = ArtifactStore(home / "store").put(weights)
    return Places(str(home / "store"), str(home / "data"), {}), SupernetRef(SPACE.ref, "digits", sha256)
