"""Two processes give the gradients of one, end with one network, and stop together."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from supernets.data.catalog import load_dataset
from supernets.errors import TrainingDiverged
from supernets.spaces.catalog import space_named
from supernets.training import parallel
from supernets.training.checkpoint import load_checkpoint
from supernets.training.loop import Trainer
from supernets.training.recipe import Phase, Recipe

PHASE = Phase("all", 1, 0.1, networks=2)
RECIPE = Recipe("gradients", "for a test", (PHASE,), batch_size=32)
TWO_EPOCHS = Recipe("two epochs", "for a test", (Phase("all", 2, 4e-3),), batch_size=512, optimiser="adamw")


def gradients() -> dict[str, torch.Tensor]:
    """Gradients of one step over samples 0 to 31, averaged over all processes.

    Batch-norm uses its running statistics here: those of a batch depend on how it is shared out.
    """
    torch.set_num_threads(1)
    parallel.join("cpu")
    trainer = Trainer(space_named("digits-mbv3").at([8]), load_dataset("digits"), RECIPE, 0)
    trainer.supernet.eval()
    trainer.backward(PHASE, torch.arange(32)[trainer.rank :: trainer.processes], step=3)
    trainer.gradients.average()
    return {name: parameter.grad.clone() for name, parameter in trainer.supernet.named_parameters()}


class Spoilt(Trainer):
    """Its loss is no number at one step, on rank 1 only."""

    spoilt_step = 3  # the second step of the second epoch

    def backward(self, phase, batch, step, networks=None):
        loss = super().backward(phase, batch, step, networks)
        return loss * float("nan") if self.rank == 1 and step == self.spoilt_step else loss


def diverge_and_go_on(folder):
    """One rank's loss is no number, then the training goes on from what was kept; writes down what this rank
    saw."""
    space, dataset = space_named("digits-mbv3").at([8]), load_dataset("digits")
    spoilt, whole = Spoilt(space, dataset, TWO_EPOCHS, 0), Trainer(space, dataset, TWO_EPOCHS, 0)
    seen = {"error": "", "kept": [], "epochs": []}
    try:
        spoilt.run(folder / "training")
    except TrainingDiverged as error:
        seen["error"] = f"{error.phase} {error.epoch} {error.step}"
    parallel.wait_for_all()
    seen["kept"] = sorted(path.name for path in (folder / "training").glob("checkpoint-*"))
    parallel.wait_for_all()
    whole.run(folder / "training", lambda progress: seen["epochs"].append(progress.epoch))
    seen["epochs"] = sorted(set(seen["epochs"]))
    (folder / f"rank-{whole.rank}.json").write_text(json.dumps(seen))
    save_file(
        {k: v.contiguous() for k, v in whole.supernet.state_dict().items()},
        folder / f"rank-{whole.rank}.safetensors",
    )


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    """The folder that two processes under torchrun have written to."""
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--max-restarts",
        "0",
        "--nproc-per-node",
        "2",
    ]
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run(
        [*command, __file__, str(folder)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_two_ranks_give_the_gradients_of_one(two_ranks):
    shared, alone = load_file(two_ranks / "gradients.safetensors"), gradients()
    assert any((g == 0).all() for g in alone.values())  # blocks that no sub-network of the step used
    for name, gradient in alone.items():
        assert torch.allclose(shared[name], gradient, rtol=1e-4, atol=1e-6), name


def test_a_loss_that_is_no_number_on_one_rank_stops_both_at_the_last_checkpoint(two_ranks):
    seen = [json.loads((two_ranks / f"rank-{rank}.json").read_text()) for rank in (0, 1)]
    assert seen[0] == seen[1]
    assert seen[0] == {"error": "all 2 2", "kept": ["checkpoint-00000002"], "epochs": [2]}


def test_two_ranks_end_with_one_network_and_its_statistics(two_ranks):
    first, second = (load_file(two_ranks / f"rank-{rank}.safetensors") for rank in (0, 1))
    kept = load_checkpoint(two_ranks / "training").tensors["supernet"]
    assert any(name.endswith("running_var") and (value != 1).any() for name, value in first.items())
    for name, value in first.items():
        assert torch.equal(value, second[name]), f"the ranks disagree on {name}"
        assert torch.equal(value, kept[name]), f"the checkpoint has another {name}"


def test_gradients_are_views_of_one_buffer():
    layer = torch.nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    flat = parallel.FlatGradients(layer.parameters())
    layer(torch.ones(1, 2, 5, 5)).sum().backward()
    assert flat.buffer.norm() == pytest.approx(
        float(torch.cat([p.grad.flatten() for p in layer.parameters()]).norm())
    )
    before = flat.clip(0.5)
    assert before > 0.5 and float(flat.buffer.norm()) == pytest.approx(0.5, rel=1e-3)
    flat.zero()
    assert not layer.weight.grad.any()


if __name__ == "__main__":
    out = Path(sys.argv[1])
    found = gradients()
    if parallel.rank_and_size()[0] == 0:
        save_file({name: value.contiguous() for name, value in found.items()}, out / "gradients.safetensors")
    diverge_and_go_on(out)
    parallel.wait_for_all()
    parallel.leave()
