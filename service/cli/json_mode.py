"""`--json` on every command: what a command says becomes one JSON value on standard output, for programs.

A command that prints its own JSON has an option `--json` itself. Every other one gets it here: what it hands
to `screen.result` is printed at its end, or, where it hands nothing, the lines and tables that it would have
shown.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Annotated, Any, Final, get_type_hints

import typer

from latency_tables.errors import BespokeError
from service.cli import screen

OPTION: Final = "--json"
OWN_PARSER: Final = ("agent",)  # hands everything on to the agent's own command line
_GIVEN: Final = Annotated[bool, typer.Option(OPTION, help="Print JSON, for programs.")]


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command of a built tree that does something, by its words."""
    parts = getattr(command, "commands", None)
    if parts is None:
        yield path, command
        return
    for name, part in parts.items():
        yield from leaves(part, (*path, name))


def with_json(app: typer.Typer) -> typer.Typer:
    """The same application; each command that had no `--json` has one now. Again, it changes nothing."""
    for entry in app.registered_commands:
        call = entry.callback
        if call is not None and call.__name__ not in OWN_PARSER and not _has_one(call):
            entry.callback = _collected(call)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            with_json(group.typer_instance)
    return app


def _has_one(call: Callable[..., Any]) -> bool:
    hints = get_type_hints(call, include_extras=True).values()
    options = [one for hint in hints for one in getattr(hint, "__metadata__", ())]
    # In `Annotated`, typer keeps the first name as the default until it builds the option.
    return any(
        OPTION in (getattr(one, "default", None), *(getattr(one, "param_decls", None) or ()))
        for one in options
    )


def _collected(call: Callable[..., Any]) -> Callable[..., Any]:
    """The command with one option more, which typer reads from its signature."""

    @wraps(call)
    def collected(*given: Any, json_mode: bool = False, **named: Any) -> Any:
        if not json_mode:
            return call(*given, **named)
        with screen.collecting() as found:
            try:
                returned = call(*given, **named)
            except BespokeError:
                if found.result is not None:  # what was done all the same; the error says what was not
                    screen.as_json(found.result)
                raise
        screen.as_json(found.value())
        return returned

    hints = get_type_hints(call, include_extras=True)
    own = inspect.signature(call)
    parameters = [p.replace(annotation=hints.get(p.name, p.annotation)) for p in own.parameters.values()]
    more = inspect.Parameter("json_mode", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_GIVEN)
    collected.__annotations__ = {**hints, "json_mode": _GIVEN}
    collected.__signature__ = own.replace(parameters=[*parameters, more])  # type: ignore[attr-defined]
    return collected
