"""How to train a supernet, as data: phases, optimiser, distillation, augmentation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Final

from supernets.errors import InvalidTraining

OPTIMISERS = ("sgd", "adamw")
TEACHERS = ("none", "largest", "frozen")
SAMPLINGS = ("uniform", "sandwich")
MIN_SCORED = 2
_AFTER_TRAINING = ("scored_networks", "gate_epochs", "scoring")
SCORINGS = ("quality", "log_likelihood")
CLASS_WEIGHTS = ("auto",)
SCHEDULES = ("cosine", "inverse_sqrt")
DEFENSIVE: Final = 1e-3
"""`orthogonality` of a defensive fine-tuning (`supernets.training.defensive`); the paper's order of
magnitude."""
_NEWER: Final = {
    "least_steps": 0,
    "scoring": "quality",
    "class_weights": None,
    "batch_tokens": 0,
    "accumulate": 1,
    "epoch_steps": 0,
    "schedule": "cosine",
    "second_moment": 0.999,
    "orthogonality": 0.0,
    "sparsity": (),
}
"""Fields that recipes of before did not have, with what those meant: left out, so that digests stay."""


@dataclass(frozen=True)
class Augmentation:
    """Random changes of the training images, on the training device.

    shift: largest move as a share of the side. rotate: largest angle in degrees. scale: largest change of
    size as a share.
    contrast, brightness: largest change as a share of the contrast. noise: deviation in units of the data's
    own.
    flip: mirrored left to right half of the time. cutout: side of the square that is blanked, as a share.
    """

    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    contrast: float = 0.0
    brightness: float = 0.0
    noise: float = 0.0
    flip: bool = False
    cutout: float = 0.0


@dataclass(frozen=True)
class Phase:
    """One phase of a recipe.

    networks: sub-networks whose gradients are summed in one step. limits: how many of the largest values may
    be drawn, of `depth`, `width` and of each group of dimensions that opens together
    (`latency_tables.operators.Dimension.opens`, such as `kernel` and `expand`); what is not named is free.
    sampling: `uniform`, or `sandwich` (largest, smallest, the others uniform).
    teacher: soft targets from the `largest` network of the same step, or the network `frozen` at the end of
    the first phase.
    sort_channels: order channels by importance before the phase starts. learning_rate: peak, reached after
    the warm-up.
    """

    name: str
    epochs: int
    learning_rate: float
    warmup_epochs: int = 0
    networks: int = 1
    limits: Mapping[str, int] = field(default_factory=dict, hash=False)
    sampling: str = "uniform"
    teacher: str = "none"
    sort_channels: bool = False

    def __post_init__(self) -> None:
        if (
            self.epochs < 1
            or not 0 <= self.warmup_epochs <= self.epochs
            or self.networks < 1
            or not self.learning_rate > 0
        ):
            raise InvalidTraining(f"phase {self.name!r}: epochs, networks and learning rate must be positive")
        if any(type(kept) is not int or kept < 1 for kept in self.limits.values()):
            raise InvalidTraining(f"phase {self.name!r}: limits are whole numbers of values, from 1 on")
        if self.sampling not in SAMPLINGS or self.teacher not in TEACHERS:
            raise InvalidTraining(
                f"phase {self.name!r}: sampling is one of {SAMPLINGS}, teacher one of {TEACHERS}"
            )
        if self.sampling == "sandwich" and self.networks < 2:
            raise InvalidTraining(
                f"phase {self.name!r}: the sandwich rule needs the largest and the smallest network"
            )
        if self.teacher == "largest" and self.sampling != "sandwich":
            raise InvalidTraining(
                f"phase {self.name!r}: only the sandwich rule trains the largest network in every step"
            )


@dataclass(frozen=True)
class Recipe:
    """A whole training.

    batch_size: samples of one step over all processes. distillation: weight of the soft targets next to 1 for
    the labels.
    soft_only: networks with a teacher learn from it alone (the sandwich rule's in-place distillation).
    clip_norm: largest norm of the gradients, 0 for no limit.
    bf16: autocast of the forward pass. channels_last: memory format of weights and activations.
    scored_networks: sub-networks that are evaluated after the training, for the accuracy predictor.
    gate_epochs: (warm-up, search) of a gate training from such a supernet. The weights depend on neither.
    least_steps: of the whole training; few data get more epochs (`for_steps_per_epoch`).
    scoring: what ranks sub-networks: the task's quality, or the log-likelihood of the right answers, which
    tells networks apart that a few hundred samples count as equal. The weights do not depend on it.
    class_weights: "auto" makes every class count as much as any other, however rare; None: every sample.
    batch_tokens: of data sets of sentences: a batch has about so many tokens, padding included, whatever
    batch_size says; accumulate: so many of those batches make one step. epoch_steps: most steps of an epoch,
    0 for as many as the data have; the next epoch goes on where the last one ended. schedule: of the learning
    rate after the warm-up: a cosine to zero, or the inverse square root of the steps. second_moment: beta 2
    of AdamW. orthogonality: weight of the penalty that draws the layers of one network towards orthogonal
    ones (`supernets.training.defensive`). sparsity: of one network, weights of how many channels each block
    uses, by its name (`supernets.training.sparsity`).
    """

    name: str
    description: str
    phases: tuple[Phase, ...]
    batch_size: int = 128
    optimiser: str = "sgd"
    weight_decay: float = 3e-5
    label_smoothing: float = 0.1
    dropout: float = 0.0
    distillation: float = 1.0
    soft_only: bool = False
    clip_norm: float = 0.0
    bf16: bool = False
    channels_last: bool = True
    augmentation: Augmentation = Augmentation()
    scored_networks: int = 240
    gate_epochs: tuple[int, int] = (2, 30)
    least_steps: int = 0
    scoring: str = "quality"
    class_weights: str | None = None
    batch_tokens: int = 0
    accumulate: int = 1
    epoch_steps: int = 0
    schedule: str = "cosine"
    second_moment: float = 0.999
    orthogonality: float = 0.0
    sparsity: tuple[tuple[str, float], ...] = ()

    def __post_init__(self) -> None:
        if not self.phases or self.batch_size < 2 or self.optimiser not in OPTIMISERS:
            raise InvalidTraining(
                f"recipe {self.name!r}: phases, a batch of 2 or more and an optimiser of {OPTIMISERS} are "
                "needed"
            )
        if self.scored_networks < MIN_SCORED or len(self.gate_epochs) != 2 or min(self.gate_epochs) < 1:
            raise InvalidTraining(
                f"recipe {self.name!r}: at least {MIN_SCORED} scored networks and one epoch of each gate "
                "phase are needed"
            )
        if self.scoring not in SCORINGS or self.class_weights not in (None, *CLASS_WEIGHTS):
            raise InvalidTraining(
                f"recipe {self.name!r}: scoring is one of {SCORINGS}, class weights are auto or none"
            )
        whole = (self.batch_tokens, self.accumulate, self.epoch_steps)
        if any(type(n) is not int or n < 0 for n in whole) or not self.accumulate:
            raise InvalidTraining(
                f"recipe {self.name!r}: batch_tokens, accumulate and epoch_steps are whole numbers; at least "
                "one batch makes a step"
            )
        if self.accumulate > 1 and not self.batch_tokens:
            raise InvalidTraining(f"recipe {self.name!r}: accumulate is of batches of tokens (batch_tokens)")
        if self.schedule not in SCHEDULES or not 0 < self.second_moment < 1:
            raise InvalidTraining(
                f"recipe {self.name!r}: schedule is one of {SCHEDULES}, second_moment between 0 and 1"
            )
        if self.schedule == "inverse_sqrt" and any(not phase.warmup_epochs for phase in self.phases):
            raise InvalidTraining(f"recipe {self.name!r}: the inverse square root begins with a warm-up")
        if self.phases[0].teacher == "frozen":
            raise InvalidTraining(
                f"recipe {self.name!r}: the first phase has no network to freeze as its teacher"
            )

    @property
    def epochs(self) -> int:
        """Epochs of all phases."""
        return sum(phase.epochs for phase in self.phases)

    @property
    def highest_rate(self) -> float:
        """Highest learning rate of all phases."""
        return max(phase.learning_rate for phase in self.phases)

    def for_steps_per_epoch(self, steps: int) -> Recipe:
        """The recipe with as many epochs as `least_steps` need where an epoch has so few steps; phases grow
        alike."""
        grown = math.ceil(self.least_steps / max(1, steps)) / self.epochs
        if grown <= 1:
            return self
        phases = tuple(replace(phase, epochs=math.ceil(phase.epochs * grown)) for phase in self.phases)
        return replace(self, phases=phases)

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        return {
            **{name: value for name, value in plain.items() if value != _NEWER.get(name, ...)},
            "augmentation": asdict(self.augmentation),
            "phases": [_phase_json(phase) for phase in self.phases],
            "gate_epochs": list(self.gate_epochs),
        }

    def of_weights(self) -> dict[str, Any]:
        """The part of `to_json` that the trained weights depend on."""
        return {key: value for key, value in self.to_json().items() if key not in _AFTER_TRAINING}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Recipe:
        """Read `to_json`'s form; what is left out has its default. Raises InvalidTraining."""
        try:
            phases = tuple(_phase_from(phase) for phase in data["phases"])
            augmentation = _read(Augmentation, data.get("augmentation", {}))
            rest = {key: value for key, value in data.items() if key not in ("phases", "augmentation")}
            if "gate_epochs" in rest:
                rest["gate_epochs"] = tuple(rest["gate_epochs"])
            if "sparsity" in rest:
                rest["sparsity"] = tuple((str(name), float(weight)) for name, weight in rest["sparsity"])
            recipe: Recipe = _read(cls, {**rest, "phases": phases, "augmentation": augmentation})
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise InvalidTraining(f"not a training recipe: {error}") from error
        return recipe


# How recipes of before dimensions had names are written; their digests rest on it.
_LIMITS: Final = {"kernel": "kernels", "depth": "depths", "expand": "expands", "width": "widths"}


def tune_recipe(recipe: Recipe, epochs: int) -> Recipe:
    """That many epochs of one network at the recipe's highest learning rate, labels only.

    The whole rate: with a fifth or half of it networks were less accurate on validation (docs/controls.md).
    Raises InvalidTraining for less than one epoch.
    """
    phase = Phase("tune", epochs, recipe.highest_rate, warmup_epochs=1 if epochs > 1 else 0)
    # Where few data lengthen the whole training, they lengthen this part of it alike, not to as many steps.
    least = math.ceil(recipe.least_steps * epochs / recipe.epochs)
    return replace(
        recipe, name=f"{recipe.name}, tuned", phases=(phase,), schedule="cosine", least_steps=least
    )


def tuning_steps(recipe: Recipe, epochs: int, steps_per_epoch: int) -> int:
    """Optimiser steps that `tuning.tuned` takes for so many epochs; recipe: of the supernet."""
    return tune_recipe(recipe, epochs).for_steps_per_epoch(steps_per_epoch).epochs * steps_per_epoch


def _phase_json(phase: Phase) -> dict[str, Any]:
    plain = {one.name: getattr(phase, one.name) for one in fields(phase) if one.name != "limits"}
    further = {name: kept for name, kept in sorted(phase.limits.items()) if name not in _LIMITS}
    named = {title: phase.limits.get(name) for name, title in _LIMITS.items()}
    return {**plain, **named, **({"limits": further} if further else {})}


def _phase_from(data: Mapping[str, Any]) -> Phase:
    limits = {name: data[title] for name, title in _LIMITS.items() if data.get(title) is not None}
    rest = {key: value for key, value in data.items() if key not in _LIMITS.values()}
    phase: Phase = _read(Phase, {**rest, "limits": {**rest.get("limits", {}), **limits}})
    return phase


def _read(kind: Any, data: Mapping[str, Any]) -> Any:
    unknown = set(data) - {one.name for one in fields(kind)}
    if unknown:
        raise InvalidTraining(f"a {kind.__name__.lower()} has no {', '.join(sorted(unknown))}")
    return kind(**data)
