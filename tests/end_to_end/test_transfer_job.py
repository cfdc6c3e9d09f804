"""Through the real worker: published weights of other classes, without scores, become a supernet of one's own data and
a delivered network with its control on the card."""

import hashlib

import numpy as np
import pytest
import torch
from safetensors.torch import save

from service.db.artifacts import register
from service.db.models import Model, Supernet, now
from service.db.states import ArtifactKind
from supernets.data.catalog import load_digits
from supernets.data.normalisation import Normalisation
from supernets.network import Supernet as Network
from supernets.spaces.catalog import space_named
from tests.worker.installation import Installation

pytestmark = pytest.mark.slow
SPACE = space_named("digits-mbv3")
EXPECTS = Normalisation((100.0,), (80.0,))


@pytest.fixture
def installation(tmp_path, migrated_sqlite):
    with Installation(tmp_path, migrated_sqlite) as made:
        yield made


def with_source(installation):
    """A supernet of five classes whose weights are all that is known of it, and one that is to begin with them."""
    transferred = installation.supernet("transfer")
    weights = Network(SPACE.with_classes(5), generator=torch.Generator().manual_seed(0)).state_dict()
    sha256, size = installation.store.put(save(weights, EXPECTS.header()))
    with installation.sessions.begin() as session:
        register(session, sha256, size, ArtifactKind.SUPERNET)
        row = session.get_one(Supernet, transferred)
        session.add(
            Supernet(
                id="sup_source",
                tenant_id=row.tenant_id,
                digest=hashlib.sha256(b"source").hexdigest(),
                space=SPACE.name,
                dataset="imagenet",
                recipe="imported",
                seed=0,
                classes=5,
                weights_sha256=sha256,
                created_at=now(),
            )  # fmt: skip
        )
        row.parent_id, row.options = "sup_source", {"control": True, "class_weights": "auto"}
    return transferred


def test_weights_of_others_become_a_network_with_its_control(installation):
    supernet = with_source(installation)
    installation.start_worker()
    asked = {
        "supernet_id": supernet, "strategy": "exact", "confidence": None, "candidates": 4, "verify": False,
        "targets": [{"budget": {"macs": 400_000}}], "tune_epochs": 1, "control": True,
    }  # fmt: skip
    job = installation.wait(installation.submit("search", asked), 1200)
    assert job.state == "succeeded", job.error
    with installation.sessions() as session:
        row = session.get_one(Supernet, supernet)
        card = session.get_one(Model, job.result["models"][0]["id"]).card
    highest = load_digits().highest
    scale = highest / EXPECTS.highest
    assert row.summary["normalisation"] == {
        "mean": [pytest.approx(100 * scale)], "deviation": [pytest.approx(80 * scale)], "highest": highest
    }  # fmt: skip
    assert row.summary["steps"] == 160 and row.summary["scale"]["slope"] > 0
    assert row.summary["largest"]["accuracy"] > 0.7
    accuracy, control = card["accuracy"], card["control"]
    assert accuracy["ranked_by"] == "log_likelihood" and accuracy["measured"] > 0.6
    assert np.array(accuracy["confusion"]).sum() == accuracy["samples"] == 360
    recalls = [one["recall"] for one in accuracy["by_class"]]
    assert accuracy["balanced"] == pytest.approx(np.mean(recalls))
    assert control["steps"] == 176, "those of the supernet and one epoch of fine-tuning"
    points = 100 * (accuracy["measured"] - control["from_scratch"])
    assert control["gain_points"] == pytest.approx(points, abs=0.01) and control["standard_error"] > 0
    assert card["tuning"]["epochs"] == 1 and card["provenance"]["from"] == "sup_source"
    assert card["provenance"]["class_weights"] == "auto"
    assert card["suspect_reason"] is None
    for kind in ("initial_weights", "control", "fine_tuned"):
        assert installation.events(job.id, kind), kind
