"""Validation while it trains: numbers for a curve, and the same weights as without."""

import torch

from supernets.training import loop
from supernets.training.loop import Trainer
from supernets.training.validating import Validation


def test_every_phase_ends_with_accuracies_and_every_report_has_a_rate(space, dataset, progressive, tmp_path):
    said = []
    Trainer(space, dataset, progressive, 0).run(tmp_path, said.append)
    last = {p.phase: p for p in said}
    assert all(set(p.validation) == {"largest", "smallest"} for p in last.values())
    assert all(0 <= share <= 1 for p in last.values() for share in p.validation.values())
    assert all(p.rate is not None and p.rate >= 0 for p in said)


def test_it_changes_no_weight(space, dataset, sandwich, tmp_path, monkeypatch):
    weights = []
    for number, least_s in enumerate((1e9, 0.0)):
        monkeypatch.setattr(loop, "Validation", lambda s, d, least=least_s: Validation(s, d, least))
        trainer = Trainer(space, dataset, sandwich, 3)
        trainer.run(tmp_path / str(number))
        weights.append({name: value.clone() for name, value in trainer.supernet.state_dict().items()})
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
