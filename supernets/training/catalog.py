"""Every built-in training recipe, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from supernets.errors import UnknownRecipe
from supernets.training.recipe import Augmentation, Phase, Recipe

if TYPE_CHECKING:
    from supernets.spaces.space import Space

IMPORTED = "imported"
"""What stands in the place of a recipe's name for a supernet that was not trained here."""
TRANSFER = "transfer"
"""The recipe that begins with the weights of another supernet, and with nothing else."""
TUNE_EPOCHS = 5
"""Of a network that is chosen from a transferred supernet, where nothing else is asked for."""
_TRIAL = {"scored_networks": 24, "gate_epochs": (1, 1)}
_QUICK = {"scored_networks": 160, "gate_epochs": (1, 10)}
_GENTLE = Augmentation(shift=0.08, rotate=8, scale=0.1, contrast=0.1, brightness=0.1)


def _sandwich(name: str, description: str, epochs: int, **after: Any) -> Recipe:
    """Sandwich rule with in-place distillation (Yu and Huang, "Universally slimmable networks", ICCV
    2019)."""
    phase = Phase(
        "sandwich", epochs, 1.5e-2, warmup_epochs=2, networks=4, sampling="sandwich", teacher="largest"
    )
    return Recipe(
        name,
        description,
        (phase,),
        batch_size=64,
        optimiser="adamw",
        weight_decay=0.02,
        label_smoothing=0.05,
        clip_norm=5.0,
        augmentation=_GENTLE,
        **after,
    )


def _sgd() -> Recipe:
    """`standard` by SGD with momentum, whose momentum exchanges of the largest gradients correct."""
    usual = _sandwich("sgd", "As standard, by SGD with momentum: for `distributed` trainings with `top`", 80)
    phases = (replace(usual.phases[0], learning_rate=0.1),)
    return replace(usual, phases=phases, optimiser="sgd", weight_decay=1e-4)


def _transfer() -> Recipe:
    """The sandwich rule from weights of another supernet, at the rate that random weights take: a third of it
    left letters 3 and clothes 4 points behind (docs/adapt.md). Enough steps for a folder of two hundred
    pictures."""
    phase = Phase("transfer", 10, 1e-2, warmup_epochs=2, networks=3, sampling="sandwich", teacher="largest")
    return Recipe(
        TRANSFER,
        "Sandwich rule from the weights of another supernet, for your own data",
        (phase,),
        batch_size=64,
        optimiser="adamw",
        weight_decay=0.02,
        label_smoothing=0.05,
        clip_norm=5.0,
        augmentation=_GENTLE,
        least_steps=100,
        scoring="log_likelihood",
        scored_networks=120,
    )


def _progressive(name: str, description: str, scale: float) -> Recipe:
    """Once-for-All's phases (Cai et al., ICLR 2020) with its 1, 2 and 4 sub-networks per step and its order
    of epochs.

    Depth and width phases draw by the sandwich rule and learn from the largest network of the step: with the
    published uniform draws and frozen teacher the smallest network stayed points behind (docs/decisions.md).
    """

    def phase(title: str, epochs: float, rate: float, networks: int, *free: int | None) -> Phase:
        limits = dict(zip(("kernel", "depth", "expand", "width"), (*free, free[2]), strict=True))
        return Phase(
            title,
            max(1, round(epochs * scale)),
            rate,
            warmup_epochs=1 if epochs > 5 else 0,
            networks=networks,
            limits={name: kept for name, kept in limits.items() if kept is not None},
            sampling="uniform" if networks == 1 else "sandwich",
            teacher="none" if title == "full" else "frozen" if networks == 1 else "largest",
            sort_channels=title.startswith("width"),
        )

    phases = (
        phase("full", 20, 1.5e-2, 1, 1, 1, 1),
        phase("kernel", 10, 8e-3, 1, None, 1, 1),
        phase("depth 1", 3, 4e-3, 2, None, 2, 1),
        phase("depth 2", 12, 8e-3, 2, None, None, 1),
        phase("width 1", 5, 6e-3, 4, None, None, 2),
        phase("width 2", 40, 1.2e-2, 4, None, None, None),
    )
    return Recipe(
        name,
        description,
        phases,
        batch_size=64,
        optimiser="adamw",
        weight_decay=0.02,
        label_smoothing=0.05,
        clip_norm=5.0,
        augmentation=_GENTLE,
    )


def _of_sentences(name: str, description: str, phase: Phase, **after: Any) -> Recipe:
    """For transformers: batches of few tokens and a short warm-up, since minutes hold few steps."""
    settings: dict[str, Any] = {
        "optimiser": "adamw",
        "weight_decay": 1e-4,
        "second_moment": 0.98,
        "label_smoothing": 0.1,
        "clip_norm": 5.0,
        "channels_last": False,
        "batch_tokens": 500,
        "epoch_steps": 200,
    }
    return Recipe(name, description, (phase,), **{**settings, **after})


def _uniform(epochs: int, rate: float, warmup_epochs: int = 1) -> Phase:
    """One sub-network an update, as HAT trains (Wang et al., ACL 2020)."""
    return Phase("uniform", epochs, rate, warmup_epochs=warmup_epochs)


def _distilled(epochs: int, rate: float) -> Phase:
    """The sandwich rule with in-place distillation."""
    return Phase(
        "sandwich", epochs, rate, warmup_epochs=1, networks=3, sampling="sandwich", teacher="largest"
    )


SENTENCES: Final = "supernets.sentence_supernet:SentenceSupernet"
"""The network of spaces whose recipes are these."""
RECIPES_OF_SENTENCES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _of_sentences(
            "trial",
            "A hundred and sixty steps: shows that everything works, not how well",
            _uniform(4, 1.5e-3),
            epoch_steps=40,
            scored_networks=24,
        ),
        _of_sentences(
            "quick",
            "One sub-network an update, some four minutes of a core for hat-small: for trials and tests",
            _uniform(8, 1.5e-3),
            scored_networks=48,
        ),
        _of_sentences(
            "standard",
            "Sandwich rule with distillation from the largest network, half an hour on two cores",
            _distilled(24, 1.5e-3),
            scored_networks=120,
        ),
        _of_sentences(
            "hat",
            "As HAT publishes it: one sub-network an update, inverse square root, batches put together",
            _uniform(60, 1.5e-3, 2),
            schedule="inverse_sqrt",
            accumulate=2,
            scored_networks=120,
        ),
        _of_sentences(
            TRANSFER,
            "Sandwich rule from the weights of another supernet, for your own data",
            _distilled(8, 5e-4),
            scored_networks=120,
        ),
    )
}
RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        _sandwich(
            "trial",
            "Four epochs of the sandwich rule: shows that everything works, not how well",
            4,
            **_TRIAL,
        ),
        _sandwich(
            "quick",
            "Sandwich rule, about a minute for digits-mbv3 on two cores: for trials and tests",
            24,
            **_QUICK,
        ),
        _sandwich(
            "standard", "Sandwich rule with distillation from the largest network, minutes on two cores", 80
        ),
        _sgd(),
        _transfer(),
        _progressive("progressive", "Progressive shrinking: full, kernel, depth 1-2, width 1-2", 1.0),
    )
}


RECIPES_OF: Final[Mapping[str, Mapping[str, Recipe]]] = {SENTENCES: RECIPES_OF_SENTENCES}
"""By the network of a space (`Space.network`); those of any other are `RECIPES`."""


def recipe_names() -> list[str]:
    """Every name that some space has a recipe under."""
    return sorted({*RECIPES, *(name for own in RECIPES_OF.values() for name in own)})


def recipe_to_follow(name: str, space: Space | None = None) -> Recipe:
    """The recipe of what is trained on from a supernet: its own; `standard` for an imported one. Raises
    UnknownRecipe."""
    return recipe_named("standard" if name == IMPORTED else name, space)


def recipe_named(name: str, space: Space | None = None) -> Recipe:
    """The recipe of that name for the networks of a space, of pictures where none is given. Raises
    UnknownRecipe that lists the known ones."""
    own = RECIPES if space is None else RECIPES_OF.get(space.network, RECIPES)
    try:
        return own[name]
    except (KeyError, TypeError):
        raise UnknownRecipe(f"unknown training recipe; known are {', '.join(own)}") from None
