"""One process or many: the same code, gradients in one flat buffer with one all-reduce per step.

PyTorch's own data-parallel wrapper fails on sub-networks that skip blocks. Here every parameter's gradient is
a view of one buffer that starts at zero, so a block that no sub-network used has gradient zero on every
process.
Source of the pattern: one process per device under `python -m torch.distributed.run`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from supernets.errors import InvalidTraining


class FlatGradients:
    """Gradients of `parameters` as views of one buffer. Never set a `.grad` to None while this is in use."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        first = self.parameters[0]
        self.buffer = torch.zeros(
            sum(p.numel() for p in self.parameters), dtype=first.dtype, device=first.device
        )
        at = 0
        for parameter in self.parameters:
            size = parameter.numel()
            # The view has the parameter's own strides, so channels-last weights accumulate without a copy.
            parameter.grad = torch.as_strided(self.buffer, parameter.shape, parameter.stride(), at)
            at += size

    def zero(self) -> None:
        """Forget all gradients."""
        self.buffer.zero_()

    def average(self) -> None:
        """Mean over all processes, in place; nothing to do for one."""
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(self.buffer)
            self.buffer /= dist.get_world_size()

    def values(self) -> Tensor:
        """A copy of the parameters, laid out as the buffer is."""
        flat = torch.empty_like(self.buffer)
        self._each(flat, lambda part, parameter: part.copy_(parameter.detach()))
        return flat

    def add_to_values(self, change: Tensor) -> None:
        """Add a vector that is laid out as the buffer is to the parameters. Called without gradients."""
        self._each(change, lambda part, parameter: parameter.add_(part))

    def _each(self, flat: Tensor, work: Callable[[Tensor, Tensor], object]) -> None:
        at = 0
        for parameter in self.parameters:
            work(torch.as_strided(flat, parameter.shape, parameter.stride(), at), parameter)
            at += parameter.numel()

    def clip(self, norm: float) -> Tensor:
        """Scale all gradients so that their norm is at most `norm`; gives the norm before."""
        length: Tensor = torch.linalg.vector_norm(self.buffer)
        self.buffer *= torch.clamp(norm / (length + 1e-6), max=1.0)
        return length


def rank_and_size() -> tuple[int, int]:
    """(which process this is, how many there are), from torchrun's environment."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def join(device: str) -> None:
    """Meet the other processes; nothing to do for one."""
    if rank_and_size()[1] > 1:
        if device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # one GPU for each process of this machine
        dist.init_process_group("nccl" if device == "cuda" else "gloo")


def agreed(loss: Tensor, stopping: bool) -> tuple[float, bool]:
    """(mean loss over all processes, whether any of them was told to stop): the same on every process.

    The loss is not finite on every process as soon as it is so on one.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return float(loss), stopping
    both = torch.stack([loss.detach(), torch.tensor(float(stopping), device=loss.device, dtype=loss.dtype)])
    dist.all_reduce(both)
    return float(both[0] / dist.get_world_size()), bool(both[1] > 0)


def check_agreement(digest: str) -> None:
    """Raises InvalidTraining on every process where they were not all given the same training. digest: of
    what this one was given, hexadecimal."""
    if not (dist.is_available() and dist.is_initialized()):
        return
    own = torch.tensor(list(bytes.fromhex(digest)), dtype=torch.uint8)
    if dist.get_backend() == "nccl":
        own = own.cuda()
    found = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(found, own)
    others = [str(rank) for rank, one in enumerate(found) if not torch.equal(one, found[0])]
    if others:
        raise InvalidTraining(
            f"the processes were given different trainings: process {', '.join(others)} another one than "
            "process 0; give all of them the same specification (space, data set, recipe, seed, distributed)"
        )


def greatest(value: float) -> float:
    """The greatest of all processes' values."""
    if not (dist.is_available() and dist.is_initialized()):
        return value
    found = torch.tensor(float(value), dtype=torch.float64)
    if dist.get_backend() == "nccl":
        found = found.cuda()
    dist.all_reduce(found, dist.ReduceOp.MAX)
    return float(found)


def wait_for_all() -> None:
    """Return when every process is here."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()


def leave() -> None:
    """Say goodbye to the other processes."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
