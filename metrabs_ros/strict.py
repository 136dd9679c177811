"""From plain data (YAML, JSON) to frozen dataclasses: unknown keys and wrong types are refused in a sentence."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from typing import Any, TypeVar

from metrabs_ros.errors import InputError

Record = TypeVar("Record")


def parsed(record: type[Record], data: Any, where: str, **known: Any) -> Record:
    """A ``record`` (a dataclass) from a mapping; ``where`` names the mapping in errors.

    Field types understood: str, bool, int, float, dict, X | None, tuple[X, ...], tuple[X, Y] and other dataclasses.
    Fields that are ``known`` without it are no keys of the mapping.
    Raises InputError for a key the record lacks (naming the nearest), a missing key or a value of another type.
    """
    if not isinstance(data, dict):
        raise InputError(f"{where} must be a mapping of keys to values, got {_shown(data)}.")
    every = dataclasses.fields(record)  # type: ignore[arg-type]
    fields = {field.name: field for field in every if field.init and field.name not in known}
    for key in data:
        if key not in fields:
            raise InputError(f"{where} has the unknown key {key!r}{nearest(str(key), fields)}.")
    missing = [
        name
        for name, field in fields.items()
        if name not in data and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    if missing:
        raise InputError(f"{where} lacks the key {', '.join(map(repr, missing))}: add it.")
    hints = typing.get_type_hints(record)
    read = {name: _converted(hints[name], value, f"{where}: {name}") for name, value in data.items()}
    return record(**read, **known)


def nearest(word: str, known: typing.Iterable[str]) -> str:
    """': did you mean ...?' for an error, or the list of what is known where nothing is near."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1)
    return f": did you mean {near[0]!r}?" if near else f": known are {', '.join(names)}"


def _converted(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _converted(next(a for a in arguments if a is not type(None)), value, where)
    if origin is tuple:
        return _tuple(arguments, value, where)
    if dataclasses.is_dataclass(hint):
        return parsed(typing.cast("type[Any]", hint), value, where)
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise InputError(f"{where} must be a finite number, got {value}.")
        return float(value)
    plain = origin or hint
    if not isinstance(value, plain) or (plain is int and isinstance(value, bool)):
        raise InputError(f"{where} must be of type {plain.__name__}, got {_shown(value)}.")
    return value


def _tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise InputError(f"{where} must be a list, got {_shown(value)}.")
    if arguments[-1] is Ellipsis:
        arguments = (arguments[0],) * len(value)
    if len(arguments) != len(value):
        raise InputError(f"{where} must have {len(arguments)} entries, got {len(value)}.")
    return tuple(
        _converted(hint, entry, f"{where}[{i}]") for i, (hint, entry) in enumerate(zip(arguments, value, strict=True))
    )


def _shown(value: Any) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
