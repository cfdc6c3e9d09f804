"""Search spaces, operators, data sets, limits."""

from __future__ import annotations

from typing import Any

from service.schemas.strict import Answer


class StageView(Answer):
    """One stage: what may be chosen in it. `choices` are those of its blocks, first to last."""

    name: str
    family: str
    widths: list[int]
    depths: list[int]
    choices: list[list[dict[str, Any]]]


class SpaceView(Answer):
    name: str
    description: str
    resolutions: list[int]
    in_channels: int
    classes: int
    choices: dict[str, list[float]]
    subnetworks: int
    subnetworks_text: str
    stages: list[StageView]
    source: str


class SpaceList(Answer):
    items: list[SpaceView]
    next: None = None


class OperatorView(Answer):
    """An operator: canonical text, fields, and what it costs. bytes: least bytes moved in float32."""

    operator: str
    family: str
    in_height: int
    in_width: int
    in_channels: int
    out_channels: int
    kernel: int
    stride: int
    mid_channels: int
    residual: bool
    squeeze_excite: bool
    activation: str
    groups: int
    macs: int
    parameters: int
    bytes: int


class OperatorList(Answer):
    items: list[OperatorView]
    next: None = None


class DatasetView(Answer):
    """A data set that can be named in a request; `classes`, `channels` and `size` where they are known without loading it."""

    name: str
    description: str
    classes: int | None
    channels: int | None
    size: int | None


class DatasetList(Answer):
    items: list[DatasetView]
    next: None = None


class Limits(Answer):
    limits: dict[str, float | int]
    strategies: list[str]
    recipes: list[str]
    scopes: dict[str, str]


class Health(Answer):
    status: str
    version: str


class Readiness(Answer):
    status: str
    checks: dict[str, str]
