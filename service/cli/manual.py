"""Man pages from the command tree: `python -m service.cli.manual man/` writes them; the wheel installs them.

One page for `bespoke` and one for each word after it, with all its commands. A test compares what is in
`man/` with what the tree says now.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from rich.text import Text

from service.cli.app import command_tree
from service.cli.json_mode import leaves

NAME: Final = "bespoke"
_STATUS: Final = "0 done, 1 an error that was explained, 2 wrong usage, 130 interrupted."


def pages() -> dict[str, str]:
    """File name -> text in roff, for every page."""
    tree = command_tree()
    found = {f"{NAME}.1": _overview(tree)}
    for word, command in sorted(tree.commands.items()):
        found[f"{NAME}-{word}.1"] = _page(word, command)
    return found


def _head(name: str, summary: str) -> list[str]:
    return [
        f'.TH "{name.upper()}" 1 "" "bespoke-nas" "bespoke"',
        ".SH NAME",
        f"{_safe(name)} \\- {_safe(summary)}",
    ]


def _overview(tree: Any) -> str:
    lines = [
        *_head(NAME, "networks made to measure"),
        ".SH SYNOPSIS",
        ".B bespoke",
        "[OPTIONS] COMMAND [ARGUMENTS]",
    ]
    lines += [
        ".SH DESCRIPTION",
        *_paragraphs(tree.help or ""),
        ".SH OPTIONS",
        *_options(tree),
        ".SH COMMANDS",
    ]
    for path, command in leaves(tree):
        lines += [".TP", f".B {_safe(NAME + ' ' + ' '.join(path))}", _safe(_first(command))]
    lines += [".SH EXIT STATUS", _STATUS, ".SH SEE ALSO"]
    lines.append(
        ", ".join(f".BR {NAME}-{word} (1)" for word in sorted(tree.commands)).replace(", .BR", ",\n.BR")
    )
    return "\n".join(lines) + "\n"


def _page(word: str, command: Any) -> str:
    lines = _head(f"{NAME}-{word}", _first(command))
    if hasattr(command, "commands"):
        lines += [".SH DESCRIPTION", *_paragraphs(command.help or "")]
        for path, leaf in leaves(command, (word,)):
            lines += [
                f".SH {_safe(' '.join(path[1:]).upper())}",
                *_synopsis(path, leaf),
                *_paragraphs(leaf.help or ""),
            ]
            lines += _options(leaf)
    else:
        lines += [
            ".SH SYNOPSIS",
            *_synopsis((word,), command),
            ".SH DESCRIPTION",
            *_paragraphs(command.help or ""),
        ]
        lines += [".SH OPTIONS", *_options(command)]
    return "\n".join([*lines, ".SH SEE ALSO", f".BR {NAME} (1)"]) + "\n"


def _synopsis(path: tuple[str, ...], command: Any) -> list[str]:
    arguments = [str(p.name or "").upper() for p in command.params if p.param_type_name == "argument"]
    return [f".B {_safe(NAME + ' ' + ' '.join(path))}", _safe(" ".join(["[OPTIONS]", *arguments])), ".PP"]


def _options(command: Any) -> list[str]:
    lines = []
    for option in command.params:
        if option.param_type_name != "option" or option.hidden:
            continue
        names = ", ".join(option.opts)
        value = "" if option.is_flag or option.count else f" {option.name or ''}".upper()
        lines += [".TP", f".B {_safe(names)}{_safe(value)}", _safe(" ".join((option.help or "").split()))]
    return lines


def _paragraphs(text: str) -> Iterator[str]:
    for part in re.split(r"\n\s*\n", text.strip()):
        yield _safe(" ".join(Text.from_markup(part).plain.split()))
        yield ".PP"


def _first(command: Any) -> str:
    plain = Text.from_markup((command.help or "").strip().split("\n\n")[0]).plain
    return " ".join(plain.split()).partition(". ")[0].rstrip(".")


def _safe(text: str) -> str:
    """Text that roff shows as it is: backslashes, hyphens of options, and no line that begins with a
    control.
    """
    shown = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + shown if shown.startswith((".", "'")) else shown


def write(folder: Path) -> list[Path]:
    """Write every page; those that are there and not of the tree any more are deleted."""
    folder.mkdir(parents=True, exist_ok=True)
    made = pages()
    for old in folder.glob(f"{NAME}*.1"):
        if old.name not in made:
            old.unlink()
    for name, text in made.items():
        (folder / name).write_text(text, encoding="utf-8")
    return sorted(folder / name for name in made)


if __name__ == "__main__":
    sys.stdout.write("".join(f"{path}\n" for path in write(Path(sys.argv[1]))))
