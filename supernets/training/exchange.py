"""What the processes of one training send each other, and when they wait for it.

`EveryStep` averages the gradients of each step. `Delayed` lets each process take its own steps; the sum of
what it did since its last sending goes out in the background, and on arrival, `delay` steps later, the
process replaces its own part by the mean of all: w += mean - own (Zhu et al., "Delayed Gradient Averaging",
NeurIPS 2021; updates instead of gradients, so that any optimiser can be used). `Sparse` sends the largest
gradients only, with momentum correction, momentum factor masking, clipping per process and a warm-up of the
share (Lin et al., "Deep Gradient Compression", ICLR 2018; values travel as 16-bit numbers, and what rounding
them leaves stays in the residual).

At the end of an epoch nothing is under way any more and all processes hold one network and one state of the
optimiser, so the checkpoint of the first process is that of all of them.
"""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor, nn

from supernets.errors import InvalidCheckpoint, RankLost
from supernets.training.parallel import FlatGradients, agreed, rank_and_size
from supernets.training.recipe import Recipe
from supernets.training.sharing import Sharing, check_recipe

MOMENTUM: Final = 0.9
_LOST: Final = (
    "another process of this training is gone or did not answer in time; its last whole epoch is kept: start "
    "all processes again and they go on from there"
)


@dataclass
class Link:
    """All that goes between the processes of a training.

    latency_s, bytes_per_s: of a slower link than there is, for tests and benchmarks: a message is not there
    before a ring of such links would have brought it. sent_bytes: what this process has sent so far.
    """

    latency_s: float = 0.0
    bytes_per_s: float = math.inf
    sent_bytes: int = 0

    def begin_sum(self, values: Tensor) -> Pending:
        """Begin to replace values by their sum over all processes."""
        others = dist.get_world_size() - 1
        self.sent_bytes += round(2 * others / (others + 1) * values.nbytes)
        slow_s = 2 * others * (self.latency_s + values.nbytes / (others + 1) / self.bytes_per_s)
        try:
            return Pending(dist.all_reduce(values, async_op=True), time.monotonic() + slow_s)
        except RuntimeError as error:
            raise RankLost(_LOST) from error

    def sum(self, values: Tensor) -> None:
        """The same at once."""
        self.begin_sum(values).wait()

    def gather(self, values: Tensor) -> list[Tensor]:
        """The values of all processes, each of one size, in the order of ranks."""
        others = dist.get_world_size() - 1
        self.sent_bytes += others * values.nbytes
        slow_s = others * (self.latency_s + values.nbytes / self.bytes_per_s)
        found = [torch.empty_like(values) for _ in range(others + 1)]
        try:
            pending = Pending(dist.all_gather(found, values, async_op=True), time.monotonic() + slow_s)
        except RuntimeError as error:
            raise RankLost(_LOST) from error
        pending.wait()
        return found


@dataclass(frozen=True)
class Pending:
    """A message under way."""

    work: dist.Work | None
    there_at: float

    def wait(self) -> None:
        """Return when it is there. Raises RankLost."""
        try:
            if self.work is not None:
                self.work.wait()
        except RuntimeError as error:
            raise RankLost(_LOST) from error
        time.sleep(max(0.0, self.there_at - time.monotonic()))


class Exchange(ABC):
    """How one training is shared by processes. One for each training, with its flat gradients."""

    def __init__(self, gradients: FlatGradients, clip_norm: float, link: Link) -> None:
        self.gradients, self.clip_norm, self.link = gradients, clip_norm, link
        self.size, self.epoch = rank_and_size()[1], 0

    def optimiser(
        self, groups: list[dict[str, object]], recipe: Recipe, rate: float
    ) -> torch.optim.Optimizer:
        """A fresh one for these groups of parameters."""
        if recipe.optimiser == "adamw":
            return torch.optim.AdamW(groups, lr=rate, betas=(0.9, recipe.second_moment))
        return torch.optim.SGD(groups, lr=rate, momentum=MOMENTUM, nesterov=True)

    def begin_epoch(self, number: int) -> None:
        """Told before each epoch of the whole training, from 0."""
        self.epoch = number

    @abstractmethod
    def step(self, optimiser: torch.optim.Optimizer, loss: Tensor, stopping: bool) -> tuple[float, bool]:
        """One step by the gradients that are there: (loss, whether all processes stop after it).

        The loss is no number on all processes at once, and both are told when every process knows it.
        """

    @abstractmethod
    def settle(
        self, optimiser: torch.optim.Optimizer, network: nn.Module, stopping: bool
    ) -> tuple[float, bool]:
        """Let nothing be under way, and all processes hold one network; (a loss that is no number where any
        was, whether any process was told to stop)."""

    def state(self) -> dict[str, Tensor]:
        """What a later process needs to go on, after `settle`."""
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` gave. Raises InvalidCheckpoint for that of another exchange."""
        if state:
            raise InvalidCheckpoint("the checkpoint is of a training that exchanged other things")

    def _clip(self, norm: float) -> None:
        if self.clip_norm:
            self.gradients.clip(norm)

    def _average(self, tensors: Sequence[Tensor]) -> None:
        """Mean over all processes, in one message."""
        flat = torch.cat([one.detach().reshape(-1).float() for one in tensors])
        self.link.sum(flat)
        flat /= self.size
        for one, mean in zip(tensors, torch.split(flat, [one.numel() for one in tensors]), strict=True):
            one.copy_(mean.view_as(one))


class Alone(Exchange):
    """One process: nothing to exchange."""

    def step(self, optimiser: torch.optim.Optimizer, loss: Tensor, stopping: bool) -> tuple[float, bool]:
        self._clip(self.clip_norm)
        value = float(loss)
        if math.isfinite(value):  # a step that would destroy the weights is not taken
            optimiser.step()
        return value, stopping

    def settle(
        self, optimiser: torch.optim.Optimizer, network: nn.Module, stopping: bool
    ) -> tuple[float, bool]:
        return 0.0, False


class EveryStep(Exchange):
    """Every process waits for the gradients of all, and takes the step of all."""

    def step(self, optimiser: torch.optim.Optimizer, loss: Tensor, stopping: bool) -> tuple[float, bool]:
        self.link.sum(self.gradients.buffer)
        self.gradients.buffer /= self.size
        self._clip(self.clip_norm)
        value, stop = agreed(loss, stopping)
        if math.isfinite(value):
            optimiser.step()
        return value, stop

    @torch.no_grad()
    def settle(
        self, optimiser: torch.optim.Optimizer, network: nn.Module, stopping: bool
    ) -> tuple[float, bool]:
        statistics = statistics_of(network)
        if statistics:
            self._average(statistics)
        return 0.0, False


class Delayed(Exchange):
    """Every process takes its own steps; those of the others come in later."""

    def __init__(self, gradients: FlatGradients, clip_norm: float, link: Link, delay: int) -> None:
        super().__init__(gradients, clip_norm, link)
        self.delay = delay
        self._begin()

    def _begin(self) -> None:
        self.taken = 0
        self.done = torch.zeros_like(self.gradients.buffer)  # by this process, since its last sending
        self.loss, self.stopping = 0.0, False
        self.last = 0.0  # a loss that is a number
        self.under_way: tuple[Pending, Tensor, Tensor] | None = None  # with the sum and its own part

    @torch.no_grad()
    def step(self, optimiser: torch.optim.Optimizer, loss: Tensor, stopping: bool) -> tuple[float, bool]:
        self._clip(self.clip_norm)
        value = float(loss)
        self.loss += value
        self.stopping = self.stopping or stopping
        if math.isfinite(value):
            before = self.gradients.values()
            optimiser.step()
            self.done += self.gradients.values() - before
            self.last = value
        self.taken += 1
        if self.taken % self.delay:
            return self.last, False
        mean_loss, stop = self._receive()
        own = self.done
        message = torch.cat([own, own.new_tensor([self.loss, float(self.stopping)])])
        self.under_way = (self.link.begin_sum(message), message, own)
        self.done, self.loss, self.stopping = torch.zeros_like(own), 0.0, False
        # Only what all know ends a training: else one would leave and the others wait for it.
        return (self.last if math.isfinite(mean_loss) else mean_loss), stop

    def _receive(self) -> tuple[float, bool]:
        """Apply what is under way; (its mean loss, whether any process was told to stop)."""
        if self.under_way is None:
            return 0.0, False
        pending, message, own = self.under_way
        self.under_way = None
        pending.wait()
        self.gradients.add_to_values(message[:-2] / self.size - own)
        return float(message[-2] / self.size / self.delay), bool(message[-1] > 0)

    @torch.no_grad()
    def settle(
        self, optimiser: torch.optim.Optimizer, network: nn.Module, stopping: bool
    ) -> tuple[float, bool]:
        loss, stop = self._receive()
        said = self.done.new_tensor([self.loss, float(self.stopping or stopping)])
        # The mean of weights that differ by what was not sent yet is what sending it would give.
        self._average([said, *self.gradients.parameters, *statistics_of(network), *numbers_of(optimiser)])
        self._begin()
        return loss + float(said[0]), stop or bool(said[1] > 0)


class Sparse(Exchange):
    """Every step, but only the largest gradients of each process."""

    def __init__(self, gradients: FlatGradients, clip_norm: float, link: Link, top: float) -> None:
        super().__init__(gradients, clip_norm, link)
        self.top = self.share = top
        self.velocity = torch.zeros_like(gradients.buffer)
        self.residual = torch.zeros_like(gradients.buffer)

    def optimiser(
        self, groups: list[dict[str, object]], recipe: Recipe, rate: float
    ) -> torch.optim.Optimizer:
        """Without momentum: that is in what is sent."""
        return torch.optim.SGD(groups, lr=rate)

    def begin_epoch(self, number: int) -> None:
        """25 % of the gradients in the first epoch, a quarter of that in each further one."""
        self.share = max(self.top, 4.0 ** -(number + 1))

    @torch.no_grad()
    def step(self, optimiser: torch.optim.Optimizer, loss: Tensor, stopping: bool) -> tuple[float, bool]:
        # The mean of N such vectors is no longer than the limit of one (section 3.2 of the paper).
        self._clip(self.clip_norm * self.size**-0.5)
        own = self.gradients.buffer
        if bool(torch.isfinite(loss)):
            self.velocity.mul_(MOMENTUM).add_(own)
            self.residual.add_(self.velocity)
        count = max(1, round(self.share * own.numel()))
        places = torch.topk(self.residual.abs(), count, sorted=False).indices
        values = self.residual[places].half()
        said = torch.stack([loss.detach().float(), loss.new_tensor(float(stopping)).float()])
        parts = [one.contiguous().view(torch.uint8) for one in (places.int(), values, said)]
        sizes = [len(one) for one in parts]
        own.zero_()
        told = torch.zeros_like(said)
        for message in self.link.gather(torch.cat(parts)):
            their_places, their_values, their_said = torch.split(message, sizes)
            sent = their_values.clone().view(torch.half).float()
            own.index_add_(0, their_places.clone().view(torch.int32).long(), sent / self.size)
            told += their_said.clone().view(torch.float32)
        value = float(told[0] / self.size)
        if math.isfinite(value):
            self.residual[places] -= values.float()
            self.velocity[places] = 0
            optimiser.step()
        return value, bool(told[1] > 0)

    @torch.no_grad()
    def settle(
        self, optimiser: torch.optim.Optimizer, network: nn.Module, stopping: bool
    ) -> tuple[float, bool]:
        # What all of them have not sent yet is shared out evenly: nothing of it is lost.
        self._average([self.residual, self.velocity, *self.gradients.parameters, *statistics_of(network)])
        return 0.0, False

    def state(self) -> dict[str, Tensor]:
        return {"velocity": self.velocity, "residual": self.residual}

    def load(self, state: dict[str, Tensor]) -> None:
        self.velocity.copy_(state["velocity"])
        self.residual.copy_(state["residual"])


def exchange_of(sharing: Sharing, recipe: Recipe, gradients: FlatGradients, link: Link) -> Exchange:
    """The exchange of a training. Raises InvalidTraining where the recipe cannot be trained so."""
    clip, several = recipe.clip_norm, dist.is_available() and dist.is_initialized()
    check_recipe(sharing, recipe.name, recipe.optimiser)
    if not several:
        return Alone(gradients, clip, link)
    if sharing.top is not None:
        return Sparse(gradients, clip, link, sharing.top)
    if sharing.sync == "delayed":
        return Delayed(gradients, clip, link, sharing.delay)
    return EveryStep(gradients, clip, link)


def statistics_of(network: nn.Module) -> list[Tensor]:
    """Running batch-norm statistics, which each process took from its own share of the batches.

    Nothing in training reads them, and every cut-out network gets new ones.
    """
    return [buffer for buffer in network.buffers() if buffer.is_floating_point()]


def numbers_of(optimiser: torch.optim.Optimizer) -> list[Tensor]:
    """What an optimiser remembers of each weight, in the order of the weights."""
    found = []
    for group in optimiser.param_groups:
        for parameter in group["params"]:
            state = optimiser.state.get(parameter, {})
            found += [
                state[name] for name in sorted(state) if isinstance(state[name], Tensor) and state[name].ndim
            ]
    return found
