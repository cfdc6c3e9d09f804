"""Search spaces, operators, data sets, limits."""

from __future__ import annotations

from service.schemas.strict import Answer, JsonObject, Time


class StageView(Answer):
    """One stage: what may be chosen in it. `choices` are those of its blocks, first to last; a state is what
    the rest of a network depends on, a width alone unless the space says more."""

    name: str
    family: str
    widths: list[int]
    states: list[JsonObject]
    depths: list[int]
    choices: list[list[JsonObject]]


class InputView(Answer):
    """An input of a space's networks. shape: of one sample; null where the chosen resolution stands. below:
    whole numbers of it are 0 to below - 1."""

    name: str
    shape: list[int | None]
    dtype: str
    below: int | None = None


class SpaceView(Answer):
    """in_channels: null where the input is no picture; inputs say what it is."""

    name: str
    description: str
    resolutions: list[int]
    in_channels: int | None
    inputs: list[InputView]
    classes: int
    choices: dict[str, list[float | str]]
    subnetworks: int
    subnetworks_text: str
    stages: list[StageView]
    source: str


class SpaceList(Answer):
    items: list[SpaceView]
    next: None = None


class OperatorView(Answer):
    """An operator: canonical text, fields by name, and what it costs. bytes: least bytes moved in float32.

    The fields of image operators stand by themselves too, and are null for other families.
    """

    operator: str
    family: str
    values: JsonObject
    in_height: int | None = None
    in_width: int | None = None
    in_channels: int | None = None
    out_channels: int | None = None
    kernel: int | None = None
    stride: int | None = None
    mid_channels: int | None = None
    residual: bool | None = None
    squeeze_excite: bool | None = None
    activation: str | None = None
    groups: int | None = None
    macs: int
    parameters: int
    bytes: int


class OperatorList(Answer):
    items: list[OperatorView]
    next: None = None


class DatasetVersion(Answer):
    """What had the name of a data set when supernets were trained on it; fingerprint: null where it was not
    known then."""

    fingerprint: str | None
    current: bool
    supernets: int
    first_used_at: Time | None


class DatasetView(Answer):
    """A data set that can be named in a request; `classes`, `channels` and `size` where they are known
    without loading it.

    size: null too where pictures are kept at the largest resolution of the space. class_names: in the order
    of a network's outputs. fault: why it cannot be used. versions: what it is now and what it was when
    supernets were trained on it.
    """

    name: str
    description: str
    classes: int | None
    channels: int | None
    size: int | None
    class_names: list[str] | None = None
    fingerprint: str | None = None
    fault: str | None = None
    versions: list[DatasetVersion] = []  # noqa: RUF012


class DatasetList(Answer):
    items: list[DatasetView]
    next: None = None


class Limits(Answer):
    limits: dict[str, float | int]
    strategies: list[str]
    recipes: list[str]
    scopes: dict[str, str]
    runtime_version: str | None = None  # of the onnxruntime that an agent installed here would time


class Health(Answer):
    status: str
    version: str


class Status(Answer):
    """jobs: how many of the tenant's are in each state; workers: of all tenants."""

    workers: int
    jobs: dict[str, int]
    version: str


class Readiness(Answer):
    status: str
    checks: dict[str, str]
