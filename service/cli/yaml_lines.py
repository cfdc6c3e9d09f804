"""YAML as people mean it, with the line of every value: no anchors, no tags, no duplicate keys, no surprises.

Scalars are those of YAML 1.2's core schema: `true`, `false`, `null`, decimal numbers; everything else is
text (so `yes`, `1:30` and `0x10` are). Nothing is built but dicts, lists and these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from latency_tables.errors import BespokeError

MOST_BYTES: Final = 1 << 20
DEEPEST: Final = 32
Path = tuple[str | int, ...]
_WHOLE: Final = re.compile(r"[-+]?[0-9]{1,18}", re.ASCII)
_NUMBER: Final = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]{1,3})?", re.ASCII)
_REFUSED: Final[dict[type[yaml.Token], str]] = {
    yaml.AnchorToken: "anchors (&name) are not taken: write it out",
    yaml.AliasToken: "aliases (*name) are not taken: write it out",
    yaml.TagToken: "tags (!name) are not taken",
    yaml.DirectiveToken: "directives (%NAME) are not taken",
}
_OPENING: Final = (
    yaml.BlockMappingStartToken,
    yaml.BlockSequenceStartToken,
    yaml.FlowMappingStartToken,
    yaml.FlowSequenceStartToken,
)
_CLOSING: Final = (yaml.BlockEndToken, yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)


@dataclass(frozen=True, order=True)
class Fault:
    """What is wrong in a line, counted from 1."""

    line: int
    text: str


class FileRefused(BespokeError):
    """A file that cannot be used; every fault with its line."""

    def __init__(self, name: str, faults: list[Fault]) -> None:
        self.faults = sorted(set(faults))
        super().__init__("\n".join(f"{name}:{fault.line}: {fault.text}" for fault in self.faults))


@dataclass
class Lined:
    """A document and the line in which each of its values and keys stands."""

    value: Any
    lines: dict[Path, int] = field(default_factory=dict)

    def line_of(self, path: Path) -> int:
        """The line of the value, or of the nearest thing around it that is there."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return 1


def read_yaml(text: str, name: str) -> Lined:
    """One document. Raises FileRefused with every line that is not taken."""
    if len(text.encode()) > MOST_BYTES:
        raise FileRefused(name, [Fault(1, f"the file has more than {MOST_BYTES} bytes; write several")])
    try:
        faults = list(_scanned(text))
        if faults:
            raise FileRefused(name, faults)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise FileRefused(
            name, [Fault(1 if mark is None else mark.line + 1, str(error.problem or error.context))]
        ) from None
    except yaml.YAMLError as error:  # characters that YAML does not take
        raise FileRefused(name, [Fault(1, str(error).splitlines()[0])]) from None
    found = Lined(None)
    if node is not None:
        found.value = _built(node, (), found.lines, faults)
    if faults:
        raise FileRefused(name, faults)
    return found


def _scanned(text: str) -> Iterator[Fault]:
    """What is refused before anything is built, so that nothing can grow: names, tags, depth, a second
    document.
    """
    depth, begun = 0, False
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        line = token.start_mark.line + 1
        if type(token) in _REFUSED:
            yield Fault(line, _REFUSED[type(token)])
        elif isinstance(token, yaml.DocumentStartToken) and begun:
            yield Fault(line, "a second document begins; a file holds one")
            return
        elif isinstance(token, _OPENING):
            depth, begun = depth + 1, True
            if depth > DEEPEST:
                yield Fault(line, f"nested deeper than {DEEPEST}")
                return
        elif isinstance(token, _CLOSING):
            depth -= 1


def _built(node: yaml.Node, path: Path, lines: dict[Path, int], faults: list[Fault]) -> Any:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, lines, faults)
    if isinstance(node, yaml.SequenceNode):
        return [_built(child, (*path, index), lines, faults) for index, child in enumerate(node.value)]
    text = str(node.value)
    return text if getattr(node, "style", None) in ("'", '"', "|", ">") else _scalar(text)


def _mapping(
    node: yaml.MappingNode, path: Path, lines: dict[Path, int], faults: list[Fault]
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        if not isinstance(key_node, yaml.ScalarNode):
            faults.append(Fault(line, "a key is a word"))
            continue
        key = str(key_node.value)
        if key in found:
            faults.append(
                Fault(line, f"{key!r} stands here twice; it was in line {lines[*path, key]} before")
            )
            continue
        lines[*path, key] = line
        found[key] = _built(value_node, (*path, key), lines, faults)
    return found


def _scalar(text: str) -> Any:
    if text in ("", "~", "null"):
        return None
    if text in ("true", "false"):
        return text == "true"
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) else text
