"""The training loop: phases, steps, checkpoints after every epoch and when told to stop.

Everything random follows from (seed, step) or (seed, epoch), so a training that was interrupted and resumed
gives the same weights as one that was not, and no state of a random generator needs saving.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from supernets.errors import InvalidCheckpoint, InvalidTraining, TrainingDiverged
from supernets.layers.block import start_as_identity
from supernets.layers.norm import stand
from supernets.network import Plan, Supernet, shared_blocks
from supernets.network_form import USUAL, NetworkForm
from supernets.networks import build_supernet
from supernets.spaces.architecture import Architecture
from supernets.spaces.space import Space
from supernets.tasks.catalog import task_of
from supernets.tasks.data import Data
from supernets.training.batching import batching_of
from supernets.training.checkpoint import attempt_folder, load_checkpoint, save_checkpoint
from supernets.training.exchange import Link, exchange_of
from supernets.training.losses import network_loss
from supernets.training.memory import activations_within, resident_bytes, return_freed_memory
from supernets.training.method import MARGIN, MemoryUse, Meter, Method, choose, kept_bytes, methods
from supernets.training.parallel import (
    FlatGradients,
    greatest,
    rank_and_size,
    wait_for_all,
)
from supernets.training.parts import train_part
from supernets.training.penalties import penalties
from supernets.training.recipe import Phase, Recipe
from supernets.training.sampling import step_networks
from supernets.training.sharing import Sharing
from supernets.training.sorting import sort_channels
from supernets.training.start import begin_with
from supernets.training.validating import Validation


@dataclass(frozen=True)
class Progress:
    """Where a training stands. epoch: of the phase, from 1; fraction: of the whole training; eta_s: seconds
    left. rate: learning rate. validation: quality of the largest and smallest sub-network, None where it was
    not looked at."""

    phase: str
    epoch: int
    epochs: int
    fraction: float
    eta_s: float
    loss: float
    message: str
    rate: float | None = None
    validation: dict[str, float] | None = None


@dataclass(frozen=True)
class Position:
    """Where a training goes on: index of the phase and of its epoch, steps before that epoch, batches done of
    it."""

    phase: int = 0
    epoch: int = 0
    step: int = 0
    batch: int = 0


class TrainingStopped(Exception):
    """The training was told to stop, and its checkpoint holds every step that was taken."""


def _never() -> bool:
    return False


class Trainer:
    """Trains one supernet. `run` may be called once; `supernet` holds the result afterwards.

    device: "cpu" or "cuda". inputs_digest: names the training, so that a checkpoint of another one is
    refused. start: weights of a supernet of this space to begin with, of whatever classes; None: random ones.
    own_start: those were trained on this very data set, so their last layer is the right one.
    memory_mb: most that this process may take, with Python and torch; the method of the steps follows.
    train: what of the network, see `supernets.training.spec.PARTS_TRAINED`; all but `all` is for one
    network whose batch-norm statistics are right. form: of the network, where it is not the usual.
    sharing: how several processes do it together, through `link`. Raises InvalidTraining.
    """

    def __init__(
        self,
        space: Space,
        dataset: Data,
        recipe: Recipe,
        seed: int,
        *,
        device: str = "cpu",
        inputs_digest: str = "",
        start: Mapping[str, Tensor] | None = None,
        own_start: bool = False,
        memory_mb: int | None = None,
        train: str = "all",
        form: NetworkForm = USUAL,
        sharing: Sharing | None = None,
        link: Link | None = None,
    ) -> None:
        self.task = task_of(dataset)
        self.task.check(space, dataset)
        _check(recipe, device)
        self.samples = self.task.batches(dataset, "train", torch.device(device))
        self.space, self.dataset, self.seed = space, dataset, seed
        self.batching = batching_of(self.samples, recipe, seed)
        self.recipe = recipe.for_steps_per_epoch(self.batching.steps_per_epoch)
        self.class_weights = None if recipe.class_weights is None else self.task.class_weights(dataset)
        self.device = torch.device(device)
        self.inputs_digest, self.start, self.own_start = inputs_digest, start, own_start
        self.rank, self.processes = rank_and_size()
        self.position = self.position_before = Position()
        self.seconds = 0.0
        self.attempt = Path()
        self._stopping: Callable[[], bool] = _never
        # Of all processes: one that stopped alone would leave the others waiting for its gradients.
        self._stop = False  # agreed by all processes in the last step
        generator = torch.Generator().manual_seed(seed)
        supernet = build_supernet(space, dropout=self.recipe.dropout, generator=generator, form=form)
        # Not in `Supernet`: networks with random weights are measured too, and zeros show nothing.
        start_as_identity(supernet)
        self.supernet = self._placed(supernet).train()
        # One network has the statistics of its own weights; a supernet has those of no sub-network.
        self.standing = own_start and all(size == 1 for size in space.chain.gene_sizes)
        if train != "all" and not self.standing:
            raise InvalidTraining(
                f"train {train!r} is for one network that was trained on these data: fine-tune one with it"
            )
        train_part(self.supernet, train)
        self.train, self.memory_mb, self.meter = train, memory_mb, Meter()
        self.method = Method()
        self.follow(Method(frozen=train != "all"))
        self.teacher: Supernet | None = None
        self.gradients = FlatGradients(self._trained())
        self.exchange = exchange_of(sharing or Sharing(), recipe, self.gradients, link or Link())
        self.optimiser = self._optimiser(self.recipe.phases[0])

    def _trained(self) -> list[torch.nn.Parameter]:
        return [one for one in self.supernet.parameters() if one.requires_grad]

    def follow(self, method: Method) -> None:
        """Compute steps by that method from now on."""
        self.method = method
        self.supernet.train()
        if method.frozen:
            stand(self.supernet)

    def _placed(self, supernet: Supernet) -> Supernet:
        supernet = supernet.to(self.device)
        return supernet.to(memory_format=torch.channels_last) if self.recipe.channels_last else supernet  # type: ignore[call-overload]

    def _optimiser(self, phase: Phase) -> torch.optim.Optimizer:
        """A fresh optimiser; weight decay for the weights of convolutions and linear layers only."""
        decayed = [p for p in self._trained() if p.ndim > 1]
        others = [p for p in self._trained() if p.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": self.recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
        return self.exchange.optimiser(groups, self.recipe, phase.learning_rate)

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of one epoch."""
        return self.batching.steps_per_epoch

    def run(
        self,
        folder: Path,
        report: Callable[[Progress], None] = lambda progress: None,
        stopping: Callable[[], bool] = _never,
    ) -> None:
        """Train to the end, from the newest whole checkpoint in `folder`.

        stopping: asked after each step; once true, a checkpoint is written and TrainingStopped raised. Raises
        besides TrainingDiverged (the checkpoint before is kept), InvalidCheckpoint for a folder of another
        training, MemoryLimitTooLow.
        """
        if self.memory_mb is None:
            self._run(folder, report, stopping)
            return
        return_freed_memory()
        # Half of what is left, for recalibrating, fitting and validating: weights are copied there as well.
        left = self.memory_mb * 2**20 * (1 - MARGIN) - resident_bytes()
        with activations_within(int(left / 2)):
            self._run(folder, report, stopping)

    def _run(self, folder: Path, report: Callable[[Progress], None], stopping: Callable[[], bool]) -> None:
        self._stopping = stopping
        if not self._resume(folder) and self.memory_mb is not None:
            self._choose_method(self.memory_mb)
        self.attempt = attempt_folder(folder) if self.rank == 0 else folder
        clock = _Clock(self.recipe, self.steps_per_epoch, self.position)
        validation = Validation(self.space, self.dataset)
        while self.position.phase < len(self.recipe.phases):
            phase = self.recipe.phases[self.position.phase]
            if self.position.epoch == self.position.batch == 0:
                self._begin(phase)
            start = time.perf_counter()
            done = sum(one.epochs for one in self.recipe.phases[: self.position.phase])
            self.exchange.begin_epoch(done + self.position.epoch)
            loss = self._epoch(phase, clock, report)
            self.seconds += time.perf_counter() - start
            late, stop = self.exchange.settle(self.optimiser, self.supernet, self._stop)
            if not math.isfinite(late):
                raise TrainingDiverged(phase.name, self.position.epoch + 1, self.position.batch)
            self._stop = self._stop or stop
            if self.position.batch == self.steps_per_epoch:
                self._advance(phase)
            if self.rank == 0:
                self._save(self.attempt)
            wait_for_all()
            if self._stop:
                raise TrainingStopped
            said = clock.progress(phase, self.position_before.epoch + 1, self.steps_per_epoch, loss)
            if self.rank == 0 and (self.position.epoch == 0 or validation.due()):
                said = replace(said, validation=validation.values(self.supernet))
            report(replace(said, rate=self.optimiser.param_groups[0]["lr"]))

    @property
    def memory(self) -> MemoryUse:
        """What this process has taken so far, and by which method."""
        return MemoryUse(self.memory_mb, round(self.meter.whole() / 2**20, 1), str(self.method))

    def _choose_method(self, limit_mb: int) -> None:
        """Follow the fastest method that keeps the limit on every process. Raises MemoryLimitTooLow."""
        largest = self.space.largest()
        networks = [largest]
        if self.recipe.phases[0].networks > 1:
            networks.append(self.space.smallest(largest.resolution))
        rows = self.batching.largest()
        share = max(1, len(rows) // self.processes)
        batch = torch.from_numpy(rows[:share]).to(self.device)
        plan = self.supernet.plan(largest)
        phase = self.recipe.phases[0]

        def step(method: Method) -> None:
            # What the optimiser will remember: two numbers for each that is trained. Written, else it takes
            # no memory.
            remembered = torch.ones(2 * self.gradients.buffer.numel(), device=self.device)
            before = {name: value.clone() for name, value in self.supernet.named_buffers()}
            self.follow(method)
            self.backward(phase, batch, 0, networks)
            self.gradients.zero()
            for name, value in self.supernet.named_buffers():
                value.copy_(before[name])
            del remembered

        def kept(method: Method) -> int:
            self.follow(method)
            inputs, _ = self._inputs(batch, 0, largest.resolution)
            part = next(method.parts(share))[0]
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
                return kept_bytes(lambda: self.supernet.through(inputs[part], plan))

        candidates = methods(share, standing=self.standing, must_stand=self.train != "all")
        chosen = choose(limit_mb, candidates, share, step, kept, self.meter, greatest)
        self.follow(chosen)

    def _advance(self, phase: Phase) -> None:
        self.position_before = self.position
        step, epoch = self.position.step + self.steps_per_epoch, self.position.epoch + 1
        ended = epoch == phase.epochs
        self.position = Position(self.position.phase + ended, 0 if ended else epoch, step)

    def _begin(self, phase: Phase) -> None:
        """What happens once, before the first epoch of a phase."""
        index = self.position.phase
        if index == 1 and any(p.teacher == "frozen" for p in self.recipe.phases):
            self.teacher = self._frozen(self.supernet.state_dict())
        if phase.sort_channels and index:
            sort_channels(self.supernet, self.recipe.phases[index - 1])
        self.optimiser = self._optimiser(phase)

    def _frozen(self, weights: dict[str, Tensor]) -> Supernet:
        """A teacher: same space, no gradients, batch statistics (as the published code has it)."""
        teacher = build_supernet(self.space, form=self.supernet.form)
        teacher.load_state_dict(weights)
        return self._placed(teacher).train().requires_grad_(False)

    def batches(self, epoch: int | None = None) -> Iterator[tuple[Tensor, ...]]:
        """Indices of this process's share of every step that is left of an epoch of the phase, the one that
        is under way where none is named: of each batch of it."""
        phase, epoch = self.position.phase, self.position.epoch if epoch is None else epoch
        for step in self.batching.steps(phase, epoch, self.position.batch):
            # Every process draws the same order and takes its own share of it; nothing needs to be sent.
            shares = (one[self.rank :: self.processes] if len(one) >= self.processes else one for one in step)
            yield tuple(torch.from_numpy(share).to(self.device) for share in shares)

    def _epoch(self, phase: Phase, clock: _Clock, report: Callable[[Progress], None]) -> float:
        """One epoch, or what is left of it, or as much of it as there is time for; the mean loss of its
        steps."""
        epoch, first = self.position.epoch, self.position.batch
        total = 0.0
        for index, batch in enumerate(self.batches(), first):
            step = self.position.step + index
            # Dropout. Seeded in each step: a training that goes on in the middle of an epoch must draw the
            # same.
            torch.manual_seed(_mixed(self.seed, step, self.rank, 1))
            done = epoch * self.steps_per_epoch + index
            now = rate(phase, done, self.steps_per_epoch, self.recipe.schedule)
            loss = self.step(phase, batch, step, now)
            if not math.isfinite(loss):
                raise TrainingDiverged(phase.name, epoch + 1, index + 1)
            total += loss
            self.position = replace(self.position, batch=index + 1)
            if self._stop:
                break
            clock.tick(phase)
            if clock.due():
                said = clock.progress(phase, epoch + 1, index + 1, loss)
                report(replace(said, rate=self.optimiser.param_groups[0]["lr"]))
        return total / (self.position.batch - first)

    def step(
        self,
        phase: Phase,
        batch: Tensor | tuple[Tensor, ...],
        step: int,
        learning_rate: float,
        networks: list[Architecture] | None = None,
    ) -> float:
        """One optimiser step over the sub-networks of the step, or over these; the summed loss."""
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        loss = self.backward(phase, batch, step, networks)
        value, self._stop = self.exchange.step(self.optimiser, loss, self._stopping())
        return value

    def backward(
        self,
        phase: Phase,
        batch: Tensor | tuple[Tensor, ...],
        step: int,
        networks: list[Architecture] | None = None,
    ) -> Tensor:
        """Gradients of one step, summed over its sub-networks, into the flat buffer; the summed loss.

        networks: others than those of the step. Batches go through one after the other, each in the parts of
        the method; all of them together are one mean.
        """
        networks = networks or step_networks(self.space, phase, self.seed, step)
        condition = networks[0].resolution
        batches = batch if isinstance(batch, tuple) else (batch,)
        weights = [self.batching.weight(rows) for rows in batches]
        self.gradients.zero()
        total = torch.zeros((), device=self.device)
        plans = [self.supernet.plan(architecture) for architecture in networks]
        for number, (rows, weight) in enumerate(zip(batches, weights, strict=True)):
            inputs, labels = self._inputs(rows, step, condition, number)
            for part, samples in self.method.parts(len(inputs)):
                targets = self._teacher_outputs(phase, inputs[part], condition)
                own = samples if samples == 1 else self.task.share(labels[part], labels)
                share = own * weight / sum(weights)
                total += share * self._backward(phase, inputs[part], labels[part], plans, targets, share)
        for penalty in penalties(self.recipe, self.supernet):
            penalty.backward()  # type: ignore[no-untyped-call]
            total += penalty.detach()
        return total

    def _inputs(self, batch: Tensor, step: int, condition: int, number: int = 0) -> tuple[Tensor, Tensor]:
        """(inputs as networks take them, targets) of batch `number` of a step, randomly changed as the step
        has it."""
        further = (2, number) if number else ()
        generator = torch.Generator(self.device).manual_seed(_mixed(self.seed, step, self.rank, *further))
        stored, labels = self.samples[batch]
        inputs = self.task.prepare(stored, condition, self.recipe.augmentation, generator)
        return laid_out(inputs, self.recipe.channels_last), labels

    def _backward(
        self,
        phase: Phase,
        inputs: Tensor,
        labels: Tensor,
        plans: list[Plan],
        targets: Tensor | None,
        share: float,
    ) -> Tensor:
        """Gradients of a part of a batch; its summed loss.

        The leading blocks that all networks have in common are computed once, forwards and backwards.
        """
        total = torch.zeros((), device=self.device)
        shared, recompute = shared_blocks(plans), self.method.recompute
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            trunk = self.supernet.through(inputs, plans[0][:shared], recompute=recompute)
        # Cut off here, so that each sub-network's backward pass ends at the trunk, which is walked back once.
        features = trunk.detach().requires_grad_(shared > 0)
        for plan in plans:
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
                logits = self.supernet.through(features, plan[shared:], recompute=recompute)
            loss = network_loss(self.task, logits.float(), labels, targets, self.recipe, self.class_weights)
            (loss if share == 1 else share * loss).backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
            if phase.teacher == "largest" and targets is None:
                targets = logits.detach().float()  # the largest comes first; the others learn from it
        if shared:
            trunk.backward(features.grad)  # type: ignore[no-untyped-call]
        return total

    @torch.no_grad()
    def _teacher_outputs(self, phase: Phase, inputs: Tensor, condition: int) -> Tensor | None:
        if phase.teacher != "frozen" or self.teacher is None:
            return None
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bf16):
            outputs: Tensor = self.teacher(inputs, self.space.largest(condition))
        return outputs.float()

    def _save(self, attempt: Path) -> None:
        tensors = {"supernet": self.supernet.state_dict(), "optimiser": optimiser_tensors(self.optimiser)}
        if self.teacher is not None:
            tensors["teacher"] = self.teacher.state_dict()
        if self.exchange.state():
            tensors["exchange"] = self.exchange.state()
        state = {
            "inputs": self.inputs_digest,
            "position": vars(self.position),
            "seconds": self.seconds,
            "method": self.method.to_json(),
            "peak_bytes": self.meter.whole(),
        }
        save_checkpoint(attempt, f"checkpoint-{self.position.step + self.position.batch:08d}", tensors, state)

    def _resume(self, folder: Path) -> bool:
        """Whether there was a checkpoint to go on from."""
        found = load_checkpoint(folder)
        if found is None:
            if self.start is not None:
                data = None if self.own_start else self.dataset
                begin_with(self.supernet, self.start, data, class_weights=self.class_weights)
                self.follow(self.method)
            return False
        if found.state["inputs"] != self.inputs_digest:
            raise InvalidCheckpoint(
                f"{folder.name} holds checkpoints of another training; give this one a folder of its own"
            )
        self.position = Position(**found.state["position"])
        self.seconds = float(found.state["seconds"])
        if "method" in found.state:  # checkpoints of before there were methods have none
            self.follow(Method.from_json(found.state["method"]))
            self.meter.peak = max(self.meter.peak, int(found.state["peak_bytes"]))
        try:
            self.supernet.load_state_dict(found.tensors["supernet"])
        except (RuntimeError, KeyError) as error:
            raise InvalidCheckpoint(
                f"the checkpoint is not one of space {self.space.name!r}: {error}"
            ) from error
        if "exchange" in found.tensors:
            self.exchange.load(found.tensors["exchange"])
        if "teacher" in found.tensors:
            self.teacher = self._frozen(found.tensors["teacher"])
        if self.position.phase < len(self.recipe.phases):
            self.optimiser = self._optimiser(self.recipe.phases[self.position.phase])
            # A phase begins with a fresh optimiser; at its first step the file holds the last phase's.
            if self.position.epoch or self.position.batch:
                load_optimiser(self.optimiser, found.tensors["optimiser"])
        return True


class _Clock:
    """Seconds per sub-network step, so far in this process, and what is left."""

    def __init__(self, recipe: Recipe, steps_per_epoch: int, position: Position) -> None:
        self.total = sum(phase.epochs * phase.networks for phase in recipe.phases) * steps_per_epoch
        done = sum(phase.epochs * phase.networks for phase in recipe.phases[: position.phase])
        if position.phase < len(recipe.phases):
            done += position.epoch * recipe.phases[position.phase].networks
        self.before = self.done = done * steps_per_epoch
        if position.batch:
            self.before = self.done = self.done + position.batch * recipe.phases[position.phase].networks
        self.start = self.said = time.monotonic()

    def tick(self, phase: Phase) -> None:
        """One step is done."""
        self.done += phase.networks

    def due(self) -> bool:
        """Whether two seconds have passed since something was said."""
        return time.monotonic() - self.said >= 2.0

    def progress(self, phase: Phase, epoch: int, step: int, loss: float) -> Progress:
        """What to say now."""
        self.said = time.monotonic()
        each = (self.said - self.start) / max(1, self.done - self.before)
        message = f"{phase.name}: epoch {epoch} of {phase.epochs}, step {step}, loss {loss:.3f}"
        left = each * (self.total - self.done)
        return Progress(
            phase.name, epoch, phase.epochs, self.done / self.total, round(left, 1), loss, message
        )


def rate(phase: Phase, step: int, steps_per_epoch: int, schedule: str = "cosine") -> float:
    """Learning rate: linear warm-up, then a cosine to zero, or the inverse square root of the steps."""
    warmup = phase.warmup_epochs * steps_per_epoch
    if step < warmup:
        return phase.learning_rate * (step + 1) / warmup
    if schedule == "inverse_sqrt":
        return phase.learning_rate * math.sqrt(max(1, warmup) / (step + 1))
    share = (step - warmup) / max(1, phase.epochs * steps_per_epoch - warmup)
    return phase.learning_rate * 0.5 * (1 + math.cos(math.pi * share))


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state as flat tensors: "parameter number/name"."""
    state = optimiser.state_dict()["state"]
    return {
        f"{index}/{name}": torch.as_tensor(value)
        for index, values in state.items()
        for name, value in values.items()
    }


def load_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Read `optimiser_tensors` back."""
    state: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})


def _mixed(*numbers: int) -> int:
    """One seed of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def laid_out(inputs: Tensor, channels_last: bool) -> Tensor:
    """In the memory format of the weights; only pictures have another one than the usual."""
    return (
        inputs.contiguous(memory_format=torch.channels_last) if channels_last and inputs.ndim == 4 else inputs
    )


def _check(recipe: Recipe, device: str) -> None:
    if device not in ("cpu", "cuda"):
        raise InvalidTraining("the device is cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidTraining("there is no CUDA device here; train with device cpu")
    size, processes = recipe.batch_size, rank_and_size()[1]
    if recipe.batch_tokens:  # a batch of sentences is shared whatever its size
        return
    if size % processes or size // processes < 2:
        raise InvalidTraining(
            f"a batch of {size} cannot be shared by {processes} processes; choose a multiple of them"
        )
