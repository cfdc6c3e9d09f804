"""A training job as the child process gets it: the specification, and the result files."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from latency_tables.files import sha256_of
from supernets.data.catalog import load_for
from supernets.data.normalisation import Normalisation, header_of, normalisation_in
from supernets.errors import InvalidCheckpoint, InvalidPreprocessing, InvalidTraining
from supernets.network_form import NetworkForm
from supernets.networks import build_supernet
from supernets.spaces.catalog import space_named
from supernets.spaces.space import Space
from supernets.tasks.catalog import task_of
from supernets.tasks.data import Data
from supernets.training.sharing import Sharing
from supernets.training.spec import TrainingSpec

if TYPE_CHECKING:
    from torch import Tensor

    from supernets.network import Supernet
    from supernets.training.loop import Progress

WEIGHTS = "supernet.safetensors"
DESCRIPTION = "supernet.json"


@dataclass(frozen=True, kw_only=True)
class _Places:
    """Where and how: nothing that the weights depend on."""

    out_dir: str
    data_dir: str | None = None
    registered: Mapping[str, str] = field(default_factory=dict)
    start_file: str | None = None
    device: str = "cpu"
    heartbeat_timeout_s: float | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Job(_Places, TrainingSpec):
    """What to train and where.

    out_dir: checkpoints and result. data_dir: files kept between jobs. registered: the operator's data
    sets, name -> path. start_file: the weights that `start` names. heartbeat_timeout_s: end when the parent
    was silent that long; None looks for the end of its pipe only.
    """

    @classmethod
    def from_json(cls, data: Any) -> Job:
        """Read a specification. Raises InvalidTraining."""
        try:
            return cls(**data)
        except TypeError as error:
            raise InvalidTraining(f"not a training specification: {error}") from error

    def load_dataset(self) -> Data:
        """The data set itself, as the space needs it. Raises UnknownSpace, UnknownDataset, InvalidDataset."""
        folder = None if self.data_dir is None else Path(self.data_dir)
        return load_for(
            space_named(self.space), self.dataset, folder, self.registered, fingerprint=self.fingerprint
        )

    def load_start(self) -> dict[str, Tensor] | None:
        """The weights to begin with, None for random ones. Raises InvalidCheckpoint for a file that is
        not `start`."""
        from safetensors.torch import load  # noqa: PLC0415 - torch only where it trains

        if self.start is None:
            return None
        try:
            data = Path(self.start_file or "").read_bytes()
        except OSError as error:
            raise InvalidCheckpoint(f"the initial weights cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != self.start:
            raise InvalidCheckpoint("the initial weights are damaged; train their supernet again")
        weights: dict[str, Tensor] = load(data)
        return weights

    def as_start_expects(self, data: Data) -> Data:
        """The data set, its inputs normalised as the weights to begin with expect them. Raises
        InvalidCheckpoint."""
        if self.start is None:
            return data
        return as_expected(data, Path(self.start_file or ""))


def train(
    job: Job,
    report: Callable[[Progress], None] = lambda progress: None,
    stopping: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train a supernet, or go on where a checkpoint stands; gives the description that is written to
    supernet.json.

    Raises TrainingStopped once `stopping` is true, with a checkpoint written; UnknownSpace, UnknownDataset,
    UnknownRecipe, InvalidTraining, InvalidCheckpoint, TrainingDiverged.
    """
    from supernets.training.checkpoint import publish  # noqa: PLC0415 - torch only where it trains
    from supernets.training.loop import Trainer  # noqa: PLC0415
    from supernets.training.parallel import check_agreement  # noqa: PLC0415

    check_agreement(job.digest)
    finished = read_description(Path(job.out_dir))
    if finished is not None and finished["inputs"] == job.digest:
        return finished
    start, recipe = job.load_start(), job.load_recipe()  # checked in whole before its header is believed
    dataset = job.as_start_expects(job.load_dataset())
    space = space_named(job.space).with_classes(len(dataset.classes))
    trainer = Trainer(
        space,
        dataset,
        recipe,
        job.seed,
        device=job.device,
        inputs_digest=job.digest,
        start=start,
        memory_mb=job.memory_mb,
        train=job.train,
        sharing=Sharing.from_json(job.distributed or {}),
    )
    trainer.run(Path(job.out_dir), report, stopping)
    description = describe(job, space, trainer.position.step, trainer.seconds, trainer.recipe.epochs)
    description["memory"] = trainer.memory.to_json()
    if trainer.rank == 0:
        header, tensors = header_for(dataset), trainer.supernet.state_dict()
        description["sha256"] = publish(trainer.attempt, WEIGHTS, tensors=tensors, header=header)
        publish(trainer.attempt, DESCRIPTION, data=description)
        shutil.rmtree(trainer.attempt, ignore_errors=True)
    return description


def header_for(data: Data) -> dict[str, str] | None:
    """What the header of weights says that were trained on the data set."""
    found = task_of(data).expected(data)
    return None if found is None else found.header()


def as_expected(data: Data, weights: Path) -> Data:
    """The data set, its inputs normalised as the weights of a file expect them; as they are for a file that
    does not say. Raises InvalidCheckpoint."""
    found: Data = task_of(data).as_expected(data, said_of(weights))
    return found


def said_of(weights: Path) -> Normalisation | None:
    """The normalisation that a file of weights says, None where it says none. Raises InvalidCheckpoint."""
    try:
        return normalisation_in(header_of(weights))
    except (OSError, ValueError, KeyError, TypeError, InvalidPreprocessing) as error:
        raise InvalidCheckpoint(f"the header of the weights cannot be read: {error}") from error


def describe(job: Job, space: Space, steps: int, seconds: float, epochs: int) -> dict[str, Any]:
    """What supernet.json says, but for the hash of the weights."""
    recipe = job.load_recipe()
    return {
        "space": space.name,
        "classes": space.classes,
        "resolutions": list(space.resolutions),
        "dataset": job.dataset,
        "recipe": recipe.to_json(),
        "seed": job.seed,
        "inputs": job.digest,
        "start": job.start,
        "epochs": epochs,
        "steps": steps,
        "train_seconds": seconds,
    }


def read_description(folder: Path) -> dict[str, Any] | None:
    """supernet.json of a finished training, None where there is none or its weights are missing or
    damaged."""
    try:
        description: dict[str, Any] = json.loads((folder / DESCRIPTION).read_bytes())
        whole = sha256_of(folder / WEIGHTS) == description["sha256"]
    except (OSError, ValueError, KeyError):
        return None
    return description if whole else None


def load_supernet(weights: Path | bytes, space: Space) -> Supernet:
    """A trained supernet in evaluation mode; `space` with the classes it was trained for. Raises
    InvalidCheckpoint."""
    from safetensors import SafetensorError  # noqa: PLC0415 - torch only where it trains
    from safetensors.torch import load, load_file  # noqa: PLC0415

    try:
        supernet = build_supernet(space, form=NetworkForm.of_header(header_of(weights)))
        tensors = load(weights) if isinstance(weights, bytes) else load_file(weights)
        supernet.load_state_dict(tensors)
    except (OSError, SafetensorError, RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise InvalidCheckpoint(
            f"these are not weights of space {space.name!r} with {space.classes} classes: {error}"
        ) from error
    return supernet.eval()
