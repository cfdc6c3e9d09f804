"""Controls of a trained supernet, on the service's own machine: its sub-networks against the same networks
trained alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from service.artifacts import ArtifactStore
from service.datasets import facts_folder
from service.db import supernets as supernet_rows
from service.db.session import create_db_engine, session_factory
from service.local.importing import NoSuchSupernet, owner_of
from service.settings import Settings
from supernets.spaces.catalog import space_named


def report_supernet(
    settings: Settings,
    supernet_id: str,
    folder: Path,
    *,
    networks: int,
    without_shrinking: bool,
    tune_epochs: int,
    progress: Callable[[str], None],
) -> tuple[list[Path], str]:
    """Train, compare, write report.json, report.md and report.png; the files and the report as Markdown.

    Checkpoints stay in the data folder, so an interrupted report goes on. Raises NoSuchSupernet,
    UnknownRecipe.
    """
    from supernets.data.catalog import load_for  # noqa: PLC0415
    from supernets.experiments.controls import run_controls  # noqa: PLC0415 - torch is loaded by this command alone
    from supernets.experiments.report import as_markdown, write_report  # noqa: PLC0415
    from supernets.training.catalog import recipe_named  # noqa: PLC0415
    from supernets.training.job import as_expected, load_supernet  # noqa: PLC0415

    engine = create_db_engine(settings.resolved_database_url)
    try:
        with session_factory(engine).begin() as session:
            row = supernet_rows.get(session, owner_of(session), supernet_id)
    finally:
        engine.dispose()
    if row is None or row.weights_sha256 is None:
        raise NoSuchSupernet(
            f"there is no trained supernet {supernet_id}; `bespoke supernets list` shows those that are there"
        )
    space = space_named(row.space).with_classes(row.classes)
    store = ArtifactStore(settings.data_dir / "artifacts")
    data = load_for(
        space,
        row.dataset,
        facts_folder(settings),
        {name: str(place) for name, place in settings.datasets.items()},
        fingerprint=row.dataset_fingerprint,
    )
    found = run_controls(
        space,
        as_expected(data, store.path(row.weights_sha256)),
        recipe_named(row.recipe, space),
        row.seed,
        settings.data_dir / "work" / f"report-{row.digest[:32]}",
        networks=networks,
        supernet=load_supernet(store.read(row.weights_sha256), space),
        without_shrinking=without_shrinking,
        tune_epochs=tune_epochs,
        device=settings.training_device,
        progress=progress,
    )
    return write_report(found, folder), as_markdown(found)
