"""How deep networks of a space need to be for a data set, on the service's own machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from service.datasets import facts_folder, known
from service.db import supernets as supernet_rows
from service.db.session import create_db_engine, session_factory
from service.local.importing import NoSuchSupernet, owner_of
from service.settings import Settings
from supernets.spaces.catalog import space_named


def advise_depth(
    settings: Settings,
    dataset: str,
    space_name: str,
    *,
    recipe: str,
    seed: int,
    supernet_id: str | None,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Grow networks and say what was found (`supernets.experiments.depth.Advice.to_json`).

    supernet_id: one of the space on these data, whose predictor says what the best network loses. Raises
    UnknownSpace, UnknownDataset, UnknownRecipe, InvalidTraining, NoSuchSupernet.
    """
    from supernets.accuracy.refinement import from_json  # noqa: PLC0415
    from supernets.data.catalog import load_for  # noqa: PLC0415
    from supernets.experiments.depth import advise  # noqa: PLC0415 - torch is loaded by this command alone
    from supernets.training.catalog import recipe_named  # noqa: PLC0415

    space, chosen = space_named(space_name), recipe_named(recipe, space_named(space_name))
    predictor = None
    if supernet_id is not None:
        engine = create_db_engine(settings.resolved_database_url)
        try:
            with session_factory(engine).begin() as session:
                row = supernet_rows.get(session, owner_of(session), supernet_id)
        finally:
            engine.dispose()
        if row is None or row.predictor is None or (row.space, row.dataset) != (space_name, dataset):
            raise NoSuchSupernet(
                f"there is no trained supernet {supernet_id} of {space_name} on {dataset}; `bespoke "
                "supernets list` shows those that are there"
            )
        predictor = from_json(row.predictor)[0]
    places = {name: str(place) for name, place in settings.datasets.items()}
    fingerprint = known(settings, dataset).fingerprint
    data = load_for(space, dataset, facts_folder(settings), places, fingerprint=fingerprint)
    return advise(
        space.with_classes(len(data.classes)),
        data,
        chosen,
        seed,
        predictor=predictor,
        device=settings.training_device,
        progress=progress,
    ).to_json()
