"""Two processes give the gradients of one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from supernets.spaces.catalog import space_named
from supernets.training import parallel
from supernets.training.data import load_dataset
from supernets.training.loop import Trainer
from supernets.training.recipe import Phase, Recipe

PHASE = Phase("all", 1, 0.1, networks=2)
RECIPE = Recipe("gradients", "for a test", (PHASE,), batch_size=32)


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


def test_two_ranks_give_the_gradients_of_one(tmp_path):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--max-restarts", "0", "--nproc-per-node", "2"]
    out = tmp_path / "gradients.safetensors"
    done = subprocess.run([*command, __file__, str(out)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    shared, alone = load_file(out), gradients()
    assert any((g == 0).all() for g in alone.values())  # blocks that no sub-network of the step used
    for name, gradient in alone.items():
        assert torch.allclose(shared[name], gradient, rtol=1e-4, atol=1e-6), name


def test_gradients_are_views_of_one_buffer():
    layer = torch.nn.Conv2d(2, 3, 3).to(memory_format=torch.channels_last)
    flat = parallel.FlatGradients(layer.parameters())
    layer(torch.ones(1, 2, 5, 5)).sum().backward()
    assert flat.buffer.norm() == pytest.approx(float(torch.cat([p.grad.flatten() for p in layer.parameters()]).norm()))
    before = flat.clip(0.5)
    assert before > 0.5 and float(flat.buffer.norm()) == pytest.approx(0.5, rel=1e-3)
    flat.zero()
    assert not layer.weight.grad.any()


if __name__ == "__main__":
    found = gradients()
    if parallel.rank_and_size()[0] == 0:
        save_file({name: value.contiguous() for name, value in found.items()}, Path(sys.argv[1]))
    parallel.wait_for_all()
    parallel.leave()
