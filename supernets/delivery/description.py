"""What a file says of itself, so that anybody can feed it: in the ONNX file's metadata and on its card, in
the same words.

`metadata_props` of the file: `input` (JSON object: name, layout, dtype, shape, channel order, what
`preprocessing` makes of a picture) and `classes` (JSON list of names in the order of the outputs).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from supernets.data.preprocessing import Preprocessing
from supernets.delivery.format import EMBEDDED, Delivery
from supernets.errors import InvalidPreprocessing

INPUT_KEY: Final = "input"
CLASSES_KEY: Final = "classes"


def described_input(name: str, preprocessing: Preprocessing, delivery: Delivery) -> dict[str, Any]:
    """The input of a file. `preprocessing.steps` are what is left to the caller; `inside` what the graph does
    itself."""
    embedded = delivery.preprocessing == EMBEDDED
    whole = preprocessing.to_json()
    steps = whole.pop("steps")
    within = [one for one in steps if embedded and one["step"] in ("normalise", "interpolate")]
    height, width = preprocessing.kept_size if embedded else preprocessing.size
    return {
        "name": name,
        "layout": whole["layout"],
        "dtype": "uint8" if embedded else delivery.precision,
        "shape": [delivery.batch_size, preprocessing.channels, height, width],
        "channel_order": preprocessing.channel_order,
        "version": whole["version"],
        "steps": [one for one in steps if one not in within],
        "inside": within,
    }


def describe(model: Any, described: Mapping[str, Any], classes: Sequence[str]) -> None:
    """Write the description into a model (in place)."""
    for key, value in ((CLASSES_KEY, list(classes)), (INPUT_KEY, dict(described))):
        entry = model.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value, ensure_ascii=False, sort_keys=True)
    shape = ["N" if size is None else str(size) for size in described["shape"]]
    colours, sample = "", "a sample"
    if "channel_order" in described:
        colours, sample = f", {described['channel_order']}", "a picture"
    model.doc_string = (
        f"Input {described['name']}: {described['dtype']} {described['layout']} "
        f"({', '.join(shape)}){colours}. "
        f"What to do to {sample} is in metadata_props['{INPUT_KEY}'], the names of the "
        f"{len(classes)} classes in metadata_props['{CLASSES_KEY}'], both as JSON."
    )


def description_of(found: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """(input, classes) as a file's metadata tell them. Raises InvalidPreprocessing where they tell
    nothing."""
    try:
        return json.loads(found[INPUT_KEY]), json.loads(found[CLASSES_KEY])
    except (KeyError, ValueError) as error:
        raise InvalidPreprocessing(
            "the file does not say how it is fed; it is not from this program, or from a version before "
            "'input' was written"
        ) from error


def preprocessing_of(described: Mapping[str, Any]) -> Preprocessing:
    """The whole preprocessing, the graph's own part included. Raises InvalidPreprocessing."""
    return Preprocessing.from_json(
        {"version": described.get("version"), "steps": [*described["steps"], *described["inside"]]}
    )
