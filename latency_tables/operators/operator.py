"""The operator: the key of a latency table.

One operator is what one row of a table measures, with everything its latency depends on: a block of a network
with its sizes, or what stands between two blocks. What kinds of blocks there are is open: a family is one
class in one file (its fields, its text, what it costs, how its rows are compared) and an entry of
`latency_tables.operators.catalog`; how it is computed is the file of the same name in `supernets/layers`. See
docs/add_an_operator_family.md.
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property
from typing import Any, ClassVar, Final, Self, cast

from latency_tables.errors import InvalidOperator
from latency_tables.inputs import DTYPE_BYTES, InputSpec
from latency_tables.named import Named, Value

MAX_SIZE: Final = 65_536
_NAME: Final = re.compile(r"([a-z][a-z0-9_]{0,15})/", re.ASCII)
_VALUES: Final = {"int": r"(?:0|[1-9]\d{0,5})", "bool": "[01]", "str": "[a-z0-9]{1,16}"}

FLOAT: Final = "float32"
"""The precision of an operator whose text names none: the one that the table's context is measured in."""
STORED: Final = {FLOAT: "float32", "float16": "float16", "int8": "uint8"}
"""Every precision that an operator may be computed in, with the element type that its inputs and outputs then
have. INT8 is the usual static quantisation: activations of 8 bit without sign, weights with one scale per
output channel (Jacob et al., CVPR 2018)."""
PRECISIONS: Final = tuple(STORED)
_BYTES_PER_CHANNEL_INT8: Final = 17
"""Of every output channel whose weights are 8-bit: bias (32 bit), two scales, two zero points."""


@dataclass(frozen=True)
class Dimension:
    """Something that may be chosen in a block of a family.

    default: its value where a space leaves it out. opens: in which phase of a progressive training further
    values of it are drawn (see `supernets.training.recipe.Phase`): `kernel` (first), `expand` (last), or a
    name of the recipe's own.
    """

    name: str
    default: Value
    opens: str


NOTHING: Final = Named()
"""A state that says nothing."""


@dataclass(frozen=True)
class Block:
    """A block of a stage whose values are chosen: what a family makes its operator of.

    shape: of its input, one sample, without the batch. given: the state that the block before left, empty for
    the input of a network; state: the one that this block leaves, its `width` and what else the stage's
    boundary names. A block that turns one into the other (quantises, say) pays for it. first, last: of its
    stage.
    values: what was chosen, every dimension of the family among them. settings: of the stage, every setting
    of the family among them. read, read_shape: state and output of the stage before, for every block of a
    stage that reads it (a decoder's layers read the encoder's output); empty else.
    """

    shape: tuple[int, ...]
    given: Named
    state: Named
    first: bool
    last: bool
    values: Named
    settings: Named
    read: Named = NOTHING
    read_shape: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """Of the output: channels of an image."""
        return cast(int, self.state["width"])


@dataclass(frozen=True)
class Operator(ABC):
    """One row key of a latency table. A family is a frozen dataclass derived from it whose fields are whole
    numbers, truth values and words of small letters and digits; they check themselves in `__post_init__`.

    family: its name, which the text begins with. form: the text after that name, each field in braces.
    settings: what a stage of the family may set, with defaults. dimensions: what may be chosen in a block.
    boundaries: what a state may hold beside the width, such as a precision: names that its blocks know how to
    read and to leave. excludable: names of values and settings that a request may forbid. axes: fields along
    which latency should grow, with the fields that grow along. closes: whether a network may end in it, its
    width being the number of classes. prunes: whether a block may keep a share of its `prunable_channels`,
    the value `kept` of its choice.
    """

    family: ClassVar[str]
    form: ClassVar[str]
    settings: ClassVar[Mapping[str, Value]] = {}
    dimensions: ClassVar[tuple[Dimension, ...]] = ()
    boundaries: ClassVar[tuple[str, ...]] = ()
    excludable: ClassVar[tuple[str, ...]] = ()
    axes: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    closes: ClassVar[bool] = False
    precisions: ClassVar[tuple[str, ...]] = PRECISIONS
    prunes: ClassVar[bool] = False

    precision: str = field(default=FLOAT, kw_only=True)

    def __post_init__(self) -> None:
        if self.precision not in self.precisions:
            raise InvalidOperator(
                f"{self.family} is computed in {' or '.join(self.precisions)}, not in another precision"
            )

    # --- its text

    @cached_property
    def text(self) -> str:
        """Canonical text form; `Operator.parse` reads it back."""
        values = {
            name: int(value) if value is True or value is False else value
            for name, value in self.values.items()
        }
        suffix = "" if self.precision == FLOAT else f"/precision={self.precision}"
        return f"{self.family}/{self.form.format_map(values)}{suffix}"

    @classmethod
    def parse(cls, text: str) -> Operator:
        """Read the canonical text form. Raises InvalidOperator for anything else, `01` for `1` included."""
        # The catalog imports the families, which import this module.
        from latency_tables.operators.catalog import family_named  # noqa: PLC0415

        match = _NAME.match(text)
        if match is None:
            raise InvalidOperator(
                "not an operator; the form is family/NAME=VALUE/..., such as conv/in=HxWxC/out=C/kernel=K/..."
            )
        return family_named(match[1]).read(text)

    @classmethod
    def read(cls, text: str) -> Self:
        """An operator of this family from its text. Raises InvalidOperator."""
        match = _reader(cls).fullmatch(text)
        if match is None:
            raise InvalidOperator(
                f"not an operator; the form is {cls.family}/{cls.form.replace('{', '').replace('}', '')}, "
                "numbers without leading zeros"
            )
        precision = match["precision"]
        told = {} if precision is None else {"precision": precision}
        made = cls(**{name: convert(match[name]) for name, convert in _converters(cls)}, **told)
        # Straight into the cache of `cached_property`, which a frozen dataclass allows.
        made.__dict__["text"] = text  # what a form matches is canonical: read for every row of a table
        return made

    @property
    def values(self) -> dict[str, Any]:
        """The fields by name, in order; the precision last, where it is not float32."""
        found = {name: getattr(self, name) for name in _kinds(type(self))}
        return found if self.precision == FLOAT else {**found, "precision": self.precision}

    def at(self, precision: str) -> Self:
        """The same operator computed in that precision. Raises InvalidOperator where it cannot be."""
        return self if precision == self.precision else replace(self, precision=precision)

    @cached_property
    def _key(self) -> tuple[Any, ...]:
        return (self.family, *self.values.values())

    def __lt__(self, other: Operator) -> bool:
        return self._key < other._key

    # --- how a stage of a space becomes operators

    @classmethod
    @abstractmethod
    def of_block(cls, block: Block) -> tuple[Operator, ...]:
        """The operators of a block: its own first, then what follows it and has no weights (a pooling
        layer)."""

    @classmethod
    def optional(cls, first: bool, settings: Named) -> bool:
        """Whether such a block, which keeps its width, may be left out: its input then passes unchanged."""
        return False

    @property
    def prunable_channels(self) -> int:
        """Channels inside it, which no other operator sees, that some may be cut out of; 0 for none."""
        return 0

    # --- what goes in and out, and what it costs

    @property
    @abstractmethod
    def inputs(self) -> tuple[InputSpec, ...]:
        """What one run in float32 is fed with; `fed` is that of its precision."""

    @property
    @abstractmethod
    def output_shape(self) -> tuple[int, ...]:
        """Of one sample."""

    @property
    @abstractmethod
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """Weights and biases after batch-norm is folded."""

    @property
    def runs(self) -> int:
        """How often it runs in one run of a network: a decoder's layer once for each token of a sentence."""
        return 1

    @property
    def copies(self) -> int:
        """How many of it, with weights and inputs of their own, are measured one after the other: what keeps
        a stream of weights from staying in the nearest cache. Its output is then of its first input's
        shape."""
        return 1

    @property
    def row_factor(self) -> float:
        """What a measurement is multiplied with to be its row: what it takes in one run of a network."""
        return self.runs / self.copies

    @cached_property
    def timed(self) -> tuple[InputSpec, ...]:
        """What its measurement is fed with: the first input once, the others for every copy."""
        if self.copies == 1:
            return self.inputs
        first, *others = self.inputs
        return (
            first,
            *(replace(o, name=f"{o.name}_{n}") for n in range(self.copies) for o in others),
        )

    @property
    def light_operations(self) -> int:
        """Operations that run at another rate than matrix products: MACs of depthwise convolution,
        comparisons of a pool."""
        return 0

    @property
    def biases(self) -> int:
        """Output channels of its layers with weights, of which each has a bias among the parameters."""
        return 0

    @property
    def stored(self) -> str:
        """Element type of its output. What closes a network leaves float32: logits are not rounded."""
        return FLOAT if self.closes and self.precision == "int8" else STORED[self.precision]

    @cached_property
    def fed(self) -> tuple[InputSpec, ...]:
        """What one run is fed with in its precision."""
        given = STORED[self.precision]
        return tuple(replace(spec, dtype=given) if spec.dtype == FLOAT else spec for spec in self.inputs)

    @cached_property
    def weight_bytes(self) -> int:
        """Of its weights in its precision, with the scales that 8-bit weights need."""
        if self.precision != "int8":
            return DTYPE_BYTES[STORED[self.precision]] * self.parameters
        return self.parameters - self.biases + _BYTES_PER_CHANNEL_INT8 * self.biases

    @cached_property
    def bytes_moved(self) -> int:
        """Least bytes between memory and processor: weights once, inputs and output once."""
        written = DTYPE_BYTES[self.stored] * math.prod(self.output_shape)
        return self.weight_bytes + written + sum(spec.size_bytes for spec in self.fed)

    def size_bytes(self, bytes_per_value: int) -> int:
        """Of its weights in a file. bytes_per_value: what float32 becomes in that file."""
        return bytes_per_value * self.parameters if self.precision == FLOAT else self.weight_bytes

    def peak_bytes(self, bytes_per_value: int) -> int:
        """`peak_values` in bytes. bytes_per_value: what float32 is on the device."""
        each = bytes_per_value if self.precision == FLOAT else DTYPE_BYTES[STORED[self.precision]]
        return each * self.peak_values

    @property
    def peak_values(self) -> int:
        """Values alive at once within the operator, for one sample: what it reads, writes, and keeps for
        later."""
        return sum(math.prod(spec.shape) for spec in self.inputs) + math.prod(self.output_shape)

    @property
    def kept_values(self) -> int:
        """Values that training keeps of one sample from its forward to its backward pass: what the operator
        reads and all it makes but its output, which the next one reads. A family that does not say so is
        taken to keep three times what is alive at once."""
        return 3 * self.peak_values

    # --- what it has in common with other operators

    @property
    def kind(self) -> str:
        """In words: operators of which each has about the same overhead beyond its work."""
        return self.family

    @property
    def traits(self) -> Mapping[str, str]:
        """Name of a grouping -> the class of it that this operator is in, in words: what whole classes may
        share."""
        return {}

    @property
    def alike(self) -> Mapping[str, Hashable]:
        """Name of a grouping -> label: operators of one label tend to become dearer or cheaper together on
        another device."""
        return {"family": self.family}

    @property
    def row_kind(self) -> str:
        """`kind` with the precision, where that is not float32."""
        return self.kind if self.precision == FLOAT else f"{self.kind}, {self.precision}"

    @property
    def row_traits(self) -> Mapping[str, str]:
        """`traits`, and the precision where that is not float32."""
        told = {} if self.precision == FLOAT else {"precision": self.precision}
        return {**self.traits, **told}

    @property
    def row_alike(self) -> Mapping[str, Hashable]:
        """`alike`, of rows of one precision only: a device that gains a fast path for 8 bit gains it for
        those."""
        if self.precision == FLOAT:
            return self.alike
        return {name: (label, self.precision) for name, label in self.alike.items()}

    @property
    def path(self) -> str:
        """A name, without dots, that differs between all that one block may be; the same in every
        precision."""
        return re.sub(r"\W", "_", self.at(FLOAT).text)


def checked_family(family: Any) -> type[Operator]:
    """The class, if it can be a family. Raises TypeError that says what it lacks."""
    if not (isinstance(family, type) and issubclass(family, Operator)) or getattr(
        family, "__abstractmethods__", None
    ):
        raise TypeError(
            f"{family!r} is no operator family: a class derived from Operator with all of its abstract parts"
        )
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,15}", getattr(family, "family", ""), re.ASCII):
        raise TypeError(
            f"{family.__qualname__}: a family's name is up to 16 small letters, digits and underscores"
        )
    _reader(family)
    return family


@cache
def _kinds(family: type[Operator]) -> dict[str, str]:
    """Field -> `int`, `bool` or `str`. Raises TypeError for a family with fields of other types."""
    kinds = {
        one.name: one.type if isinstance(one.type, str) else one.type.__name__
        for one in fields(family)
        if one.name != "precision"
    }
    odd = [name for name, kind in kinds.items() if kind not in _VALUES or hasattr(Operator, name)]
    if odd:
        raise TypeError(
            f"operator family {family.family!r}: {', '.join(odd)} must be annotated int, bool or str, "
            "and not be named as something that every operator has"
        )
    return kinds


@cache
def _reader(family: type[Operator]) -> re.Pattern[str]:
    """Reads the text of a family. Raises TypeError where its form does not name every field once."""
    kinds = _kinds(family)
    parts = re.split(r"\{(\w+)\}", family.form)
    if sorted(parts[1::2]) != sorted(kinds):
        raise TypeError(
            f"operator family {family.family!r}: its form must name every field once: {', '.join(kinds)}"
        )
    pattern = [re.escape(p) if i % 2 == 0 else f"(?P<{p}>{_VALUES[kinds[p]]})" for i, p in enumerate(parts)]
    others = "|".join(name for name in family.precisions if name != FLOAT)
    suffix = f"(?:/precision=(?P<precision>{others}))?" if others else "(?P<precision>(?!))?"
    return re.compile(f"{re.escape(family.family)}/{''.join(pattern)}{suffix}", re.ASCII)


@cache
def _converters(family: type[Operator]) -> tuple[tuple[str, Any], ...]:
    return tuple((name, _CONVERTED[kind]) for name, kind in _kinds(family).items())


_CONVERTED: Final[dict[str, Any]] = {"int": int, "bool": "1".__eq__, "str": str}
