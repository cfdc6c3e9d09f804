"""What a supernet learns: from data to batches, from outputs to a loss and to a quality. One interface for
every task.

A task has no state of its own and may be used from any thread. Data sets belong to it: it alone looks
inside them, and everybody else asks for what is in `Data`. Trainings, evaluation, gates, controls and
delivery go through this interface.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from latency_tables.dense import Array
from supernets.errors import InvalidTraining
from supernets.tasks.data import Data, Rows

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from supernets.data.normalisation import Normalisation
    from supernets.data.preprocessing import Preprocessing
    from supernets.delivery.format import Delivery
    from supernets.network import Supernet
    from supernets.spaces.architecture import Architecture
    from supernets.spaces.space import Space
    from supernets.training.recipe import Augmentation

Cache = MutableMapping[str, float]  # digest of an architecture -> quality


class Batches(Protocol):
    """A split on the training device. Rows (n,) give inputs in the stored size, (n, ...), and targets,
    (n, ...)."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Tensor) -> tuple[Tensor, Tensor]: ...


class Evaluates(Protocol):
    """The qualities of sub-networks of a supernet on one split of data."""

    @property
    def supernet(self) -> Supernet: ...

    @property
    def data(self) -> Data: ...

    def qualities(
        self, architectures: Sequence[Architecture], progress: Callable[[int, int], None] | None = None
    ) -> Array: ...


D = TypeVar("D", bound=Data)


class Task(ABC, Generic[D]):
    """The interface. condition: what an architecture says of its input, the resolution of pictures."""

    @abstractmethod
    def check(self, space: Space, data: D) -> None:
        """Raises InvalidTraining where networks of the space cannot take the data, or have other outputs."""

    @abstractmethod
    def batches(self, data: D, split: str, device: torch.device) -> Batches:
        """The split for a training: whatever size it has, in memory of the device where it fits."""

    @abstractmethod
    def prepare(
        self, inputs: Tensor, condition: int, augmentation: Augmentation, generator: torch.Generator
    ) -> Tensor:
        """Inputs of a batch as a network takes them, randomly changed; of an augmentation what has a
        meaning here.

        The same generator state gives the same inputs; they stay on their device.
        """

    @abstractmethod
    def examples(
        self, data: D, split: str, condition: int, rows: Rows, *, embedded: bool = False
    ) -> tuple[Tensor, Tensor]:
        """(inputs, targets) of those rows as a network takes them, nothing random, on the CPU.

        embedded: inputs of a file that does the preprocessing itself. Raises ExportFailed where there is no
        such file.
        """

    @abstractmethod
    def loss(self, outputs: Tensor, targets: Tensor, *, smoothing: float = 0.0) -> Tensor:
        """What training makes small, a mean over the batch. smoothing: of labels; a task without labels
        has none."""

    @abstractmethod
    def imitation(self, outputs: Tensor, teacher: Tensor) -> Tensor:
        """The same against the outputs of a larger network (knowledge distillation)."""

    def share(self, part: Tensor, targets: Tensor) -> float:
        """What the targets of a part of a batch count in the mean that `loss` is over all of them."""
        return len(part) / len(targets)

    def regressed(self, targets: Tensor, outputs: int) -> Tensor | None:
        """What a new last layer is fitted to, (n, outputs), in the beginning of a training from other
        weights; None: it begins at random."""
        return None

    def class_weights(self, data: D) -> Tensor:
        """Weights (classes,) under which every class counts alike in the loss, 1 on average over the training
        samples. Raises InvalidTraining where a task has no classes."""
        raise InvalidTraining(f"task {data.task!r} has no classes to weigh; leave class_weights out")

    def weighted_loss(
        self, outputs: Tensor, targets: Tensor, weights: Tensor, *, smoothing: float = 0.0
    ) -> Tensor:
        """`loss` with every class as likely as any other. weights: of `class_weights`. Raises InvalidTraining
        like it."""
        raise InvalidTraining("this task has no classes to weigh; leave class_weights out")

    def log_likelihoods(self, outputs: Tensor, targets: Tensor) -> Tensor | None:
        """Log-probability that the outputs give to what is right, (n,); None where a task has none."""
        return None

    @abstractmethod
    def tally(self, outputs: Tensor, targets: Tensor) -> Array:
        """What the quality is made of, over these samples: numbers that add up over parts of a split."""

    @abstractmethod
    def quality(self, tally: Array) -> float:
        """The quality (`supernets.tasks.metric`: higher is better) of a summed tally."""

    def expected(self, data: D) -> Normalisation | None:
        """How inputs of the data are normalised, which weights trained on them expect ever after; None where
        nothing is."""
        return None

    def as_expected(self, data: D, normalisation: Normalisation | None) -> D:
        """The data with inputs normalised as weights expect them; as they are for None."""
        return data

    @abstractmethod
    def input_of(self, data: D, condition: int, delivery: Delivery, name: str) -> dict[str, Any]:
        """How a delivered file is fed, as plain values: at least name, layout, dtype, shape (None:
        open), steps, inside."""

    def preprocessing(self, data: D, condition: int) -> Preprocessing | None:
        """What a file can be told to do inside; None where there is nothing, and then such a file is
        refused."""
        return None

    def by_class(self, tally: Array, data: D) -> list[dict[str, Any]]:
        """Name, samples and recall of each class in the order of the outputs; empty where there are no
        classes."""
        return []

    def confusion(self, outputs: Tensor, targets: Tensor) -> Array | None:
        """Samples by their class (rows) and the class they were taken for, (classes, classes): numbers that
        add up over parts of a split. None where there are no classes."""
        return None

    def evaluator(
        self,
        supernet: Supernet,
        data: D,
        split: str,
        *,
        cache: Cache | None = None,
        limit: int | None = None,
        calibration: int | None = None,
    ) -> Evaluates:
        """What scores sub-networks: block by block, statistics of batch-norm taken anew for each.

        limit: samples of the split, spread over it; calibration: those for statistics; None: the usual ones.

        A task whose quality is not of the outputs of one forward pass (a decoded text) brings its own.
        """
        from supernets.training.evaluation import Evaluator  # noqa: PLC0415 - which asks for tasks itself

        found = Evaluator(supernet, data, split, cache=cache, limit=limit)
        found.calibration = found.calibration if calibration is None else calibration
        return found

    def tester(self, supernet: Supernet, data: D) -> tuple[Evaluates, int]:
        """(what scores sub-networks on the test split as files of them are tested, samples it counts)."""
        return self.evaluator(supernet, data, "test"), len(data.split("test"))


def check_outputs(space: Space, data: Data) -> None:
    """Raises InvalidTraining where a network of the space has not one output for each class of the data."""
    if len(data.classes) != space.classes:
        raise InvalidTraining(
            f"networks of space {space.name!r} have {space.classes} outputs here, data set {data.name!r} has "
            f"{len(data.classes)} classes; take the space `with_classes` of the data set"
        )
