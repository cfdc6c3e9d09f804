"""Transformers from a profile to a sentence, through the real worker: trained, searched, tested, delivered. The
agent is simulated; `bespoke demo --text` does the same with a real one."""

from pathlib import Path

import pytest
from sqlalchemy import select

from latency_tables.generation import Hypothesis
from latency_tables.text_network import TextNetwork
from service.cli.run_file import run_text
from service.datasets import known
from service.db.models import Model, NetworkMeasurement, Supernet, now
from supernets.data.text.number_words import load_number_words
from supernets.spaces.catalog import space_named
from supernets.tasks.text_metrics import Bleu
from tests.worker.installation import Installation
from tests.worker.simulated_agent import SimulatedAgent, register

pytestmark = pytest.mark.slow
GENERATION = {"source_tokens": 9, "target_tokens": 8, "beam": 2}


@pytest.fixture
def installation(tmp_path: Path, migrated_sqlite: str) -> Installation:
    with Installation(tmp_path, migrated_sqlite) as made:
        yield made


def test_from_a_profile_to_a_sentence(installation: Installation, tmp_path: Path) -> None:
    data = load_number_words()
    words = len(data.classes)
    space = space_named("hat-small", words).generating(GENERATION)
    device_id = register(installation, "board")
    with installation.sessions.begin() as session:
        session.add(
            Supernet(
                id="sup_text",
                tenant_id="ten_1",
                digest="e" * 64,
                space="hat-small",
                dataset=data.name,
                recipe="trial",
                seed=0,
                classes=words,
                created_at=now(),
                dataset_fingerprint=known(installation.settings, data.name).fingerprint,
            )  # fmt: skip
        )
    installation.start_worker()
    with SimulatedAgent(installation, [device_id]):
        profile = installation.submit(
            "profile",
            {"device_id": device_id, "device": "board", "space": space.name, "classes": words, "resolutions": [9], "networks": 8},
        )  # fmt: skip
        table = installation.wait(profile, 600).result
        assert table["state"] == "ready" and table["networks"] == 8
        target = {
            "device": "board",
            "device_id": device_id,
            "table_id": table["table_id"],
            "budget": {"latency_ms": 1e6},
        }
        asked = {
            "supernet_id": "sup_text", "strategy": "exact", "confidence": None, "candidates": 2, "verify": True,
            "measured_candidates": 1, "targets": [target], "generation": GENERATION, "tune_epochs": 1,
        }  # fmt: skip
        job = installation.wait(installation.submit("search", asked), 900)
    assert job.state == "succeeded", job.error
    with installation.sessions() as session:
        (model,) = session.scalars(select(Model))
        measured = list(session.scalars(select(NetworkMeasurement)))
    assert {row.space for row in measured} == {space.name}
    card = model.card
    assert card["generation"] == GENERATION and card["file"]["archive"] is True
    assert card["accuracy"]["metric"]["name"] == Bleu.metric.name and card["accuracy"]["samples"] > 0
    assert card["latency"]["verified"] and card["tuning"] is not None
    file = tmp_path / "network.zip"
    file.write_bytes(installation.store.read(model.onnx_sha256))
    network = TextNetwork.open(file)
    assert network.generation.beam == 2
    texts = [source for source, _ in data.split("test").texts[:5]]
    answers = run_text(str(file), texts, None, None)
    assert [one["text"] for one in answers] == texts
    (found,) = network.generate([[*range(4, 8), 2]])
    assert isinstance(found[0], Hypothesis)
