"""Options in groups: frozen dataclasses whose fields become the flags of a command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from inspect import Parameter, Signature, signature
from typing import Any, get_type_hints

import typer

Command = Callable[..., int | None]


def option(names: str, metavar: str | None, help: str, panel: str | None = None) -> Any:
    """A flag.

    Args:
        names: separated by spaces.
        metavar: stands for the value in --help; None for a flag that takes none.
        panel: its heading in --help; None puts it under "Options".
    """
    return typer.Option(*names.split(), metavar=metavar, help=help, rich_help_panel=panel)


def flattened(command: Command) -> Command:
    """The command as typer needs it: in place of each group its fields, all of them keywords.

    A group is a frozen dataclass, and so may be its fields. The names of all fields must differ.
    """
    groups = {name: hint for name, hint in _hints(command).items() if is_dataclass(hint)}
    others = [parameter for parameter in _parameters(command) if parameter.name not in groups]

    def call(**values: Any) -> int | None:
        rest = {parameter.name: values[parameter.name] for parameter in others}
        return command(**rest, **{name: _build(group, values) for name, group in groups.items()})

    flat: list[Parameter] = []
    for parameter in _parameters(command):
        group = groups.get(parameter.name)
        flat += [parameter] if group is None else _flags(group)
    return with_parameters(call, flat, command)


def with_parameters(call: Command, parameters: Sequence[Parameter], like: Command) -> Command:
    """`call`, described to typer by these parameters and by name and docstring of `like`."""
    call.__name__, call.__doc__ = like.__name__, like.__doc__
    call.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _hints(source: Any) -> dict[str, Any]:
    return get_type_hints(source, include_extras=True)


def _parameters(command: Command) -> list[Parameter]:
    hints = _hints(command)
    found = signature(command).parameters.values()
    return [each.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[each.name]) for each in found]


def _flags(group: Any) -> list[Parameter]:
    hints = _hints(group)
    flags: list[Parameter] = []
    for field in fields(group):
        hint = hints[field.name]
        if is_dataclass(hint):
            flags += _flags(hint)
        else:
            flags.append(Parameter(field.name, Parameter.KEYWORD_ONLY, default=_default(field), annotation=hint))
    return flags


def _default(field: Field[Any]) -> Any:
    return Parameter.empty if field.default is MISSING else field.default


def _build(group: Any, values: Mapping[str, Any]) -> Any:
    hints = _hints(group)
    built = {}
    for field in fields(group):
        hint = hints[field.name]
        built[field.name] = _build(hint, values) if is_dataclass(hint) else values[field.name]
    return group(**built)
