"""Pictures through a delivered file, as its own metadata say. NumPy, Pillow and an opened session: no
torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from latency_tables.inputs import InputSpec
from supernets.delivery.description import description_of, preprocessing_of
from supernets.delivery.format import outputs as batched

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL.Image import Image as Picture

TYPES: Final = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(uint8)": "uint8",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
}
"""Element type of an input in ONNX Runtime's words -> in numpy's."""

_HEAD: Final = """\
import json, sys, numpy as np, onnxruntime as ort, PIL.Image, PIL.ImageOps
session = ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
given, names = (json.loads(session.get_modelmeta().custom_metadata_map[key]) for key in ("input", "classes"))
do = {step["step"]: step for step in given["steps"]}
"""
_GRID: Final = """\
grid = lambda n, m: np.float32([np.interp((np.r_[:m] + 0.5) * n / m - 0.5, range(n), r) for r in np.eye(n)]).T
"""
_OPEN: Final = """\
for path in sys.argv[2:]:
    seen = PIL.ImageOps.exif_transpose(PIL.Image.open(path))
    assert seen.mode in ("1", "L", "P", "RGB", "CMYK") and "transparency" not in seen.info, "8 bits, opaque"
"""
_CROP: Final = """\
    w, h, s = *seen.size, min(seen.size)
    seen = seen.crop(((w - s) // 2, (h - s) // 2, (w + s) // 2, (h + s) // 2))
"""
_RESIZE: Final = """\
    seen = seen.convert(do["convert"]["mode"]).resize((do["resize"]["width"], do["resize"]["height"]), 2)
"""
_ARITHMETIC: Final = """\
    x = (np.atleast_3d(seen) - np.float32(do["normalise"]["mean"])) / np.float32(do["normalise"]["deviation"])
    rows, columns = (grid(size, wanted) for size, wanted in zip(x.shape, given["shape"][2:]))
    x = (rows @ x.transpose(2, 0, 1) @ columns.T).astype(given["dtype"])[None]
"""
_BYTES: Final = """\
    x = np.atleast_3d(seen).transpose(2, 0, 1)[None]
"""
_RUN: Final = """\
    print(path, names[session.run(None, {given["name"]: x.repeat(given["shape"][0] or 1, 0)})[0][0].argmax()])
"""


def snippet(described: Mapping[str, Any]) -> str | None:
    """A script that names the class of pictures (8 bits, opaque) by a file's own metadata: SCRIPT MODEL.onnx
    PICTURE... None for a file that is fed with anything else."""
    steps = {one["step"] for one in described["steps"]}
    if not steps >= {"convert", "resize"}:
        return None
    crop = _CROP if "centre_square" in steps else ""
    if "normalise" not in steps:
        return _HEAD + _OPEN + crop + _RESIZE + _BYTES + _RUN
    return _HEAD + _GRID + _OPEN + crop + _RESIZE + _ARITHMETIC + _RUN


def predictions(session: Any, inputs: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """The class that a file names for each input (N, C, H, W)."""
    found: npt.NDArray[np.int64] = outputs(session, inputs).argmax(axis=1)
    return found


def outputs(session: Any, inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Logits (N, classes) of inputs (N, ...); a last batch that is too small is filled up."""
    return batched(OnnxFile(session), inputs)


class OnnxFile:
    """A file opened in a session of ONNX Runtime, as `supernets.delivery.format.Opened`."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.inputs = tuple(
            InputSpec(
                given.name,
                tuple(size if isinstance(size, int) else 1 for size in given.shape),
                TYPES[given.type],
            )
            for given in session.get_inputs()
        )

    @property
    def precision(self) -> str:
        """What it computes in, by its output: an input of bytes says nothing of that."""
        return TYPES[self._session.get_outputs()[0].type]

    def run(self, *inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
        names = [spec.name for spec in self.inputs]
        found: npt.NDArray[Any] = self._session.run(None, dict(zip(names, inputs, strict=True)))[0]
        return found


class Reader:
    """A delivered file that is fed opened pictures. Raises InvalidPreprocessing where it does not say how."""

    def __init__(self, session: Any) -> None:
        self.session = session
        said, self.classes = description_of(session.get_modelmeta().custom_metadata_map)
        self.preprocessing = preprocessing_of(said)
        self.embedded = said["dtype"] == "uint8"

    def probabilities(self, pictures: Sequence[Picture]) -> npt.NDArray[np.float64]:
        """(pictures, classes): the softmax of what the file computes."""
        prepare = self.preprocessing.keep if self.embedded else self.preprocessing.apply
        logits = outputs(self.session, np.stack([prepare(one) for one in pictures])).astype(np.float64)
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: npt.NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
        return shares
