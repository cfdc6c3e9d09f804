"""Supernets and accuracies that others made, put beside our own. For the command line on the service's
machine only.

A published checkpoint is a pickled file: it is read weights-only, checked key by key and shape by shape, and
stored as safetensors. An imported supernet is ready for searches when measured accuracies of its sub-networks
are registered too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from service.artifacts import ArtifactStore
from service.datasets import known
from service.db import keys as key_rows
from service.db import supernets as supernet_rows
from service.db.artifacts import register
from service.db.migrate import upgrade
from service.db.models import Supernet, now
from service.db.session import Session, create_db_engine, session_factory
from service.db.states import ArtifactKind
from service.settings import Settings
from service.startup import OWNER
from supernets.accuracy.predictor import QualityPredictor
from supernets.accuracy.refinement import Refinement, refine, summary, to_json
from supernets.accuracy.scores import read_scores
from supernets.data.normalisation import IMAGENET
from supernets.errors import InvalidCheckpoint, InvalidPredictor, UnknownDataset
from supernets.spaces.catalog import space_named
from supernets.spaces.space import Space
from supernets.tasks.info import pictures_refused
from supernets.training.catalog import IMPORTED

Result = TypeVar("Result")


class NoSuchSupernet(InvalidPredictor):
    """Scores were given for a supernet that is not there."""


@dataclass(frozen=True)
class Imported:
    """What was registered. ready: whether searches can use it already. read: what of the file; dataset_known:
    to this machine."""

    supernet_id: str
    space: str
    parameters: int
    ready: bool
    read: str
    dataset_known: bool


@dataclass(frozen=True)
class Scored:
    """The accuracy predictor that was fitted, by the name of what ranks networks best; rmse in share of right
    answers."""

    supernet_id: str
    networks: int
    rmse: float | None
    kendall_tau: float | None
    predictor: str


def import_supernet(
    settings: Settings,
    file: Path,
    space_name: str,
    format_name: str,
    dataset: str,
    *,
    classes: int | None = None,
    weights: str | None = None,
    backbone: bool = False,
) -> Imported:
    """Register a checkpoint as a supernet of the owner.

    backbone: without its last layer, as a source of trainings only.

    classes: of the file's head, None for the space's own number. weights: which state dict of the file, where
    it holds several. Raises UnknownSpace, InvalidCheckpoint, also for a head that is not for the data set;
    InvalidDataset.
    """
    from safetensors.torch import save  # noqa: PLC0415 - torch is loaded by this command alone

    from supernets.published_weights import load_published  # noqa: PLC0415

    space = space_named(space_name)
    space = space if classes is None else space.with_classes(classes)
    # The head of a backbone is of no data set.
    registered = not backbone and _check_dataset(settings, space, dataset)
    published = load_published(file, space=space, format=format_name, weights=weights, backbone=backbone)
    network = published.supernet
    tensors = {name: value.detach().contiguous() for name, value in network.state_dict().items()}
    data = save(tensors, IMAGENET.header())  # all published ones were trained so
    parameters = sum(p.numel() for p in network.parameters())
    store = ArtifactStore(settings.data_dir / "artifacts")
    sha256, size_bytes = store.put(data)
    # of what tests will be on; a data set that is registered later is known then
    fingerprint = known(settings, dataset).fingerprint if registered else None

    def add(session: Session) -> Imported:
        register(session, sha256, size_bytes, ArtifactKind.SUPERNET)
        inputs = {"space": space.name, "dataset": dataset, "format": format_name, "weights_sha256": sha256}
        row = supernet_rows.find_or_add(
            session,
            owner_of(session),
            supernet_rows.digest_of(inputs),
            space=space.name,
            dataset=dataset,
            recipe=IMPORTED,
            seed=0,
            classes=space.classes,
        )
        row.weights_sha256 = sha256
        row.dataset_fingerprint = fingerprint
        row.summary = {
            "source": format_name,
            "file": file.name,
            "read": published.read,
            **({"backbone": True} if backbone else {}),
            **(row.summary or {}),
        }
        return Imported(row.id, space.name, parameters, row.ready_at is not None, published.read, registered)

    return _in_transaction(settings, add)


def _check_dataset(settings: Settings, space: Space, name: str) -> bool:
    """Whether the data set is known here. Raises InvalidCheckpoint where it is and the network is not one for
    it."""
    try:
        found = known(settings, name)
    except UnknownDataset:
        return False
    theirs, ours = (found.channels, found.classes), (space.image_channels, space.classes)
    refused = pictures_refused(space, (found.channels, *found.also))
    fits = found.classes == space.classes and refused is None
    if None not in theirs and not fits:
        raise InvalidCheckpoint(
            f"{space.name} takes {ours[0]} channel(s) and tells {ours[1]} classes apart, data set {name!r} "
            f"has {theirs[0]} and {theirs[1]}: name the data set that the file was trained for with "
            "--dataset, its head's classes with --classes"
        )
    return True


def register_scores(
    settings: Settings, file: Path, supernet_id: str, networks: int | None = None, seed: int = 0
) -> Scored:
    """Fit the supernet's accuracy predictor to measured accuracies and make it ready.

    networks: fit to that many rows, drawn with the seed; None: to all. Raises NoSuchSupernet,
    InvalidPredictor.
    """

    space = _in_transaction(settings, lambda session: _space_of(_with_head(_named(session, supernet_id))))
    genes, percents = read_scores(space, file)
    if networks is not None and networks < len(genes):
        chosen = np.random.default_rng(seed).choice(len(genes), networks, replace=False)
        genes, percents = genes[chosen], percents[chosen]
    predictor = QualityPredictor.fit(space, genes, percents / 100, seed=seed)
    refinement = refine(predictor, seed=seed)  # takes seconds, and so no transaction is open
    _in_transaction(
        settings, lambda session: _store(_named(session, supernet_id), space, predictor, refinement)
    )
    error = summary(refinement or predictor)
    return Scored(supernet_id, len(genes), error["rmse"], error["kendall_tau"], error["name"])


def _named(session: Session, supernet_id: str) -> Supernet:
    row = supernet_rows.get(session, owner_of(session), supernet_id)
    if row is None:
        raise NoSuchSupernet(
            f"there is no supernet {supernet_id}; `bespoke supernets list` shows those that are there"
        )
    return row


def _with_head(row: Supernet) -> Supernet:
    """The same row. Raises InvalidPredictor for a backbone: its networks answer at random."""
    if (row.summary or {}).get("backbone"):
        raise InvalidPredictor(
            "this is a backbone, whose last layer nobody trained; train from it: `bespoke supernets train "
            "SPACE DATASET --from ID`"
        )
    return row


def _space_of(row: Supernet) -> Space:
    return space_named(row.space).with_classes(row.classes)


def _store(row: Supernet, space: Space, predictor: QualityPredictor, refinement: Refinement | None) -> None:
    """The predictor, and what it says of the largest and smallest sub-network where nobody measured them."""
    extremes = {"largest": space.largest(), "smallest": space.smallest()}
    predicted = (refinement or predictor).predict(np.array([space.genes(a) for a in extremes.values()]))
    described = {
        name: {"accuracy": float(value), "architecture": space.to_json(architecture)}
        for (name, architecture), value in zip(extremes.items(), predicted, strict=True)
    }
    row.predictor = to_json(predictor, refinement)
    row.summary = {
        **(row.summary or {}),
        **described,
        "split": "as measured by others",
        "scored_networks": len(predictor.genes),
    }
    row.ready_at = now()


def owner_of(session: Session) -> str:
    """Id of the owner's tenant, made where the service has never run."""
    tenant = key_rows.tenant_named(session, OWNER) or key_rows.add_tenant(session, OWNER)
    return tenant.id


def _in_transaction(settings: Settings, work: Callable[[Session], Result]) -> Result:
    settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = create_db_engine(settings.resolved_database_url)
    try:
        upgrade(engine)
        with session_factory(engine).begin() as session:
            return work(session)
    finally:
        engine.dispose()
