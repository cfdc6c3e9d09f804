"""Every search space by name: the built-in ones and those of installed distributions. See
`docs/add_a_space.md`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.metadata import entry_points
from itertools import product
from typing import Any, Final

from latency_tables.operators import make_divisible
from supernets.errors import InvalidArchitecture, UnknownSpace
from supernets.spaces.architecture import Architecture, SpaceRef
from supernets.spaces.choices import ZERO, Choice, kernel_expand
from supernets.spaces.space import Space, Stage, pictures
from supernets.spaces.transformer_space import TRANSFORMER_SPACES

ENTRY_POINT_GROUP: Final = "bespoke.spaces"
MOST_CLASSES: Final = 65_536
RESNET_WIDTHS: Final = (0.65, 0.8, 1.0)  # width multipliers of `ofa-resnet50`
_OFA = "Once-for-All (Cai et al., ICLR 2020)"


def _mbv3(
    name: str, description: str, resolutions: tuple[int, ...], width: float, source: str = _OFA
) -> Space:
    """MobileNetV3 with elastic depth, kernel size and expand ratio (once-for-all, `ofa_mbv3`)."""
    rows = (
        (24, 2, "relu", False),
        (40, 2, "relu", True),
        (80, 2, "hswish", False),
        (112, 1, "hswish", True),
        (160, 2, "hswish", True),
    )
    first = make_divisible(16 * width)
    stages = [
        Stage(
            "stem",
            "conv",
            (first,),
            choices=((Choice(kernel=3),),),
            settings={"stride": 2, "activation": "hswish"},
        ),
        Stage("first", "mbconv", (first,), choices=((Choice(kernel=3),),)),
    ]
    for number, (channels, stride, activation, squeeze_excite) in enumerate(rows, 1):
        stages.append(
            Stage(
                f"stage{number}",
                "mbconv",
                (make_divisible(channels * width),),
                depths=(2, 3, 4),
                choices=kernel_expand((3, 5, 7), (3, 4, 6), 4),
                settings={"stride": stride, "activation": activation, "squeeze_excite": squeeze_excite},
            )
        )
    stages.append(
        Stage(
            "final",
            "conv",
            (make_divisible(960 * width),),
            settings={"activation": "hswish", "residual": False},
        )
    )
    stages.append(
        Stage(
            "head",
            "head",
            (1000,),
            settings={"activation": "hswish", "feature_channels": make_divisible(1280 * width)},
        )
    )
    return Space(name, description, resolutions, pictures(3), 1000, tuple(stages), source)


def _small_mbv3(
    name: str,
    description: str,
    resolutions: tuple[int, ...],
    channels: int,
    rows: Sequence[tuple[int, int, str, bool]],
    final: tuple[int, int],
) -> Space:
    """A MobileNetV3-like space for small pictures, trainable on two cores: stem at full size, three stages of
    1 to 3 blocks."""
    stages = [
        Stage(
            "stem",
            "conv",
            (16,),
            choices=((Choice(kernel=3),),),
            settings={"activation": "hswish", "residual": False},
        )
    ]
    for number, (width, stride, activation, squeeze_excite) in enumerate(rows, 1):
        stages.append(
            Stage(
                f"stage{number}",
                "mbconv",
                (width,),
                depths=(1, 2, 3),
                choices=kernel_expand((3, 5, 7), (2, 3, 4), 3),
                settings={"stride": stride, "activation": activation, "squeeze_excite": squeeze_excite},
            )
        )
    stages.append(Stage("final", "conv", (final[0],), settings={"activation": "hswish", "residual": False}))
    stages.append(
        Stage("head", "head", (10,), settings={"activation": "hswish", "feature_channels": final[1]})
    )
    return Space(
        name, description, resolutions, pictures(channels), 10, tuple(stages), _OFA + ", scaled down"
    )


_PROXYLESS_ROWS: Final = (
    (24, 2, 4),
    (40, 2, 4),
    (80, 2, 4),
    (96, 1, 4),
    (192, 2, 4),
    (320, 1, 1),
)  # channels, stride, blocks
_PROXYLESS_EPS: Final = 1e-3


def _mobilenet_v2(
    name: str, description: str, resolutions: tuple[int, ...], width: float, stages: list[Stage], source: str
) -> Space:
    """ReLU6 and no squeeze-excite around these stages, widths and batch-norm of ProxylessNAS."""
    edges = [make_divisible(channels * width) for channels in (32, 16, 1280)]
    front = [
        Stage(
            "stem",
            "conv",
            (edges[0],),
            choices=((Choice(kernel=3),),),
            settings={"stride": 2, "activation": "relu6"},
        ),
        Stage(
            "first", "mbconv", (edges[1],), choices=((Choice(kernel=3),),), settings={"activation": "relu6"}
        ),
    ]
    back = [
        Stage("final", "conv", (edges[2],), settings={"activation": "relu6", "residual": False}),
        Stage("head", "head", (1000,), settings={"activation": "none"}),
    ]
    return Space(
        name,
        description,
        resolutions,
        pictures(3),
        1000,
        (*front, *stages, *back),
        source,
        batch_norm_eps=_PROXYLESS_EPS,
    )


def _ofa_proxyless() -> Space:
    """Once-for-all over ProxylessNAS's widths times 1.3; the last stage is always one block
    (`ofa_proxyless`)."""
    stages = [
        Stage(
            f"stage{number}",
            "mbconv",
            (make_divisible(channels * 1.3),),
            depths=(2, 3, 4) if blocks > 1 else (1,),
            choices=kernel_expand((3, 5, 7), (3, 4, 6), blocks),
            settings={"stride": stride, "activation": "relu6"},
        )
        for number, (channels, stride, blocks) in enumerate(_PROXYLESS_ROWS, 1)
    ]
    return _mobilenet_v2(
        "ofa-proxyless", "ProxylessNAS widths x 1.3, ImageNet sizes", _OFA_RESOLUTIONS, 1.3, stages, _OFA
    )


def _proxyless() -> Space:
    """ProxylessNAS: six operators of their own weights per block, and Zero where the input may pass
    unchanged."""
    operators = tuple(Choice(kernel=kernel, expand=expand) for expand, kernel in product((3, 6), (3, 5, 7)))
    stages = [
        Stage(
            f"stage{number}",
            "mbconv",
            (channels,),
            depths=(blocks,),
            choices=(operators, *((*operators, ZERO),) * (blocks - 1)),
            settings={"stride": stride, "activation": "relu6"},
            shared=False,
        )
        for number, (channels, stride, blocks) in enumerate(_PROXYLESS_ROWS, 1)
    ]
    source = "ProxylessNAS (Cai et al., ICLR 2019)"
    return _mobilenet_v2("proxyless", "six operators and Zero per block, 224 px", (224,), 1.0, stages, source)


def _ofa_resnet50() -> Space:
    """ResNet50-D with elastic depth, expand ratio and width of every stage and of the stem (once-for-all,
    `ofa_resnet50`).

    Published multipliers 0.65 and 0.8 both give 24 channels inside the stem, so it has two distinct widths
    there.
    """
    stem_out = tuple(make_divisible(64 * width) for width in RESNET_WIDTHS)
    stem_in = tuple(sorted({make_divisible(channels // 2) for channels in stem_out}))
    stages = [
        Stage(
            "stem", "conv", stem_in, depths=(1, 2), choices=((Choice(kernel=3),),) * 2, settings={"stride": 2}
        ),
        Stage(
            "stem_out",
            "conv",
            stem_out,
            choices=((Choice(kernel=3),),),
            settings={"residual": False, "pooled": True},
        ),
    ]
    for number, (channels, stride, least) in enumerate(
        ((256, 1, 2), (512, 2, 2), (1024, 2, 4), (2048, 2, 2)), 1
    ):
        stages.append(
            Stage(
                f"stage{number}",
                "bottleneck",
                tuple(make_divisible(channels * width) for width in RESNET_WIDTHS),
                depths=(least, least + 1, least + 2),
                choices=kernel_expand((3,), (0.2, 0.25, 0.35), least + 2),
                settings={"stride": stride},
            )
        )
    stages.append(Stage("head", "head", (1000,), settings={"activation": "none"}))
    sizes = (128, 144, 160, 176, 192, 224, 240, 256)
    return Space(
        "ofa-resnet50",
        "ResNet50-D, elastic width, ImageNet sizes",
        sizes,
        pictures(3),
        1000,
        tuple(stages),
        _OFA,
    )


_OFA_RESOLUTIONS = tuple(range(128, 225, 4))

SPACES: dict[str, Space] = {}


def register_space(space: Space) -> Space:
    """Add a space to the catalog of this process. Raises ValueError when its name is taken by another one."""
    if SPACES.setdefault(space.name, space) != space:
        raise ValueError(f"a search space named {space.name!r} exists already; give the new one another name")
    return space


def register_installed_spaces() -> None:
    """Add the spaces that installed distributions offer as entry points `bespoke.spaces` (see
    `docs/add_a_space.md`)."""
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        space = entry.load()
        if not isinstance(space, Space):
            raise TypeError(
                f"entry point {entry.value!r} of group {ENTRY_POINT_GROUP} is not a Space; let it name one"
            )
        register_space(space)


def space_named(name: str, classes: int | None = None) -> Space:
    """The space of that name, with so many classes. Raises UnknownSpace that lists the known ones."""
    space = SPACES.get(name) or _variant(name)
    if space is None:
        raise UnknownSpace(f"unknown search space; known are {', '.join(sorted(SPACES))}")
    return space if classes in (None, space.classes) else space.with_classes(int(classes or space.classes))


@lru_cache(maxsize=256)
def _variant(name: str) -> Space | None:
    """A space named after one of the catalog, priced for other sentences, say."""
    base, _, text = str(name).partition(".")  # of a file of a user's it may be no text at all
    try:
        return SPACES[base].variant(text) if base in SPACES else None
    except InvalidArchitecture as error:
        raise UnknownSpace(f"search space {base}: {error}") from None


def is_space(name: str) -> bool:
    """Whether there is a space of that name."""
    try:
        return name in SPACES or _variant(name) is not None
    except UnknownSpace:
        return False


def space_at(ref: SpaceRef) -> Space:
    """The space that is referred to, with the head of that many classes. Raises UnknownSpace."""
    return space_named(ref.name, ref.classes)


def ref_in(architecture: Mapping[str, Any]) -> SpaceRef | None:
    """Which space the JSON of an architecture says it is of; None where it is of a version that did not say
    its classes.

    Raises InvalidArchitecture.
    """
    name, classes = architecture.get("space"), architecture.get("classes")
    if classes is None:
        return None
    if not isinstance(name, str) or type(classes) is not int or not 1 <= classes <= MOST_CLASSES:
        raise InvalidArchitecture(f"wanted the name of a space, and classes from 1 to {MOST_CLASSES}")
    return SpaceRef(name, classes)


def described(architecture: Architecture) -> dict[str, Any]:
    """The JSON of an architecture, by the space it names; `architecture_from` reads it back."""
    # The last stage of every space is its head, as wide as there are classes.
    return space_at(SpaceRef(architecture.space, architecture.stages[-1].width)).to_json(architecture)


def architecture_from(data: Mapping[str, Any]) -> Architecture:
    """Read `described`'s form, of whatever space. Raises InvalidArchitecture, UnknownSpace."""
    ref = ref_in(data)
    if ref is None:
        raise InvalidArchitecture("an architecture without the number of its classes; give it as `classes`")
    return space_at(ref).from_json(data)


for _space in (
    _small_mbv3(
        "digits-mbv3",
        "MobileNetV3-like, 8 to 16 px, one channel",
        (8, 12, 16),
        1,
        ((16, 1, "relu", False), (32, 2, "hswish", True), (48, 2, "hswish", True)),
        (96, 128),
    ),
    _small_mbv3(
        "cifar-mbv3",
        "MobileNetV3-like, 20 to 32 px, three channels",
        (20, 24, 28, 32),
        3,
        ((24, 2, "relu", False), (40, 2, "hswish", True), (80, 2, "hswish", True)),
        (320, 256),
    ),
    _mbv3("ofa-mbv3", "MobileNetV3, width 1.0, ImageNet sizes", _OFA_RESOLUTIONS, 1.0),
    _mbv3("ofa-mbv3-w1.2", "MobileNetV3, width 1.2, ImageNet sizes", _OFA_RESOLUTIONS, 1.2),
    _ofa_proxyless(),
    _ofa_resnet50(),
    _proxyless(),
    *(described.priced() for described in TRANSFORMER_SPACES.values()),
):
    register_space(_space)
register_installed_spaces()
