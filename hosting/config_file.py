"""Reads a TOML file strictly into frozen dataclasses: an unknown key or a bad value is an error with line and hint.

`read` takes the defaults, an instance of a dataclass whose fields are values or further dataclasses (tables), and
returns a copy with what the file gives. All mistakes of a file are reported at once. Numbers must be positive unless
their default is 0 (which then means what the field says) or the field's metadata has a `least`; `most` and `choices`
bound others.

Raises: InvalidInput, whose text has one line for each mistake. Standards: TOML 1.0.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import tomllib
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from storage.errors import InvalidInput

T = TypeVar("T")

_TABLE = re.compile(r"\s*\[\[?\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"\s*([A-Za-z0-9_\-\"'][A-Za-z0-9_\-\"'. ]*?)\s*=")

_NAMES: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: 'a text in quotes, "like this"',
    tuple: 'a list of texts, ["like", "this"]',
    dict: 'a table of texts, {like = "this"}',
}


def read(text: str, defaults: T, name: str, check: Callable[[T], Mapping[str, str]] | None = None) -> T:
    """`defaults` with what `text` says instead; `name` is how messages call the file.

    `check` sees the whole and returns what is wrong with it by dotted key.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(_syntax_error(name, str(error))) from None
    mistakes: list[tuple[tuple[str, ...], str]] = []
    result = _read_table(table, defaults, (), mistakes)
    if not mistakes and check is not None:
        mistakes = [(tuple(key.split(".")), what) for key, what in check(result).items()]
    if mistakes:
        lines = _line_numbers(text)
        located = sorted((_line_of(lines, path), what) for path, what in mistakes)
        raise InvalidInput("\n".join(f"{name}:{line}: {what}" if line else f"{name}: {what}" for line, what in located))
    return result


def _read_table(table: Mapping[str, Any], defaults: T, path: tuple[str, ...], mistakes: list[Any]) -> T:
    assert dataclasses.is_dataclass(defaults) and not isinstance(defaults, type)
    fields = {field.name: field for field in dataclasses.fields(defaults)}
    types_of = typing.get_type_hints(type(defaults))
    given: dict[str, Any] = {}
    for key, value in table.items():
        here = (*path, key)
        if key not in fields:
            mistakes.append((here, _unknown(key, path, value, list(fields))))
            continue
        default = getattr(defaults, key)
        if dataclasses.is_dataclass(default):
            if isinstance(value, dict):
                given[key] = _read_table(value, default, here, mistakes)
            else:
                mistakes.append((here, f"[{'.'.join(here)}] is a table of settings, not a value."))
            continue
        try:
            given[key] = _value(value, types_of[key], default, fields[key].metadata)
        except ValueError as error:
            mistakes.append((here, f"{'.'.join(here)} {error}."))
    return dataclasses.replace(defaults, **given)


def _value(value: Any, kind: Any, default: Any, metadata: Mapping[str, Any]) -> Any:
    """`value` as the field has it. Raises ValueError with the end of a sentence."""
    base: Any = _base(kind)
    if base is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if base is tuple and isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = tuple(value)
    if type(value) is not base or (base is dict and not all(isinstance(item, str) for item in value.values())):
        raise ValueError(f"must be {_NAMES[base]}, not {_shown(value)}")
    if base in (int, float):
        least = metadata.get("least", 0 if not default else None)
        if least is None and value <= 0:
            raise ValueError(f"must be more than 0, not {_shown(value)}")
        if least is not None and value < least:
            raise ValueError(f"must be at least {least}, not {_shown(value)}")
        if "most" in metadata and value > metadata["most"]:
            raise ValueError(f"must be at most {metadata['most']}, not {_shown(value)}")
    if "choices" in metadata and value not in metadata["choices"]:
        raise ValueError(f"must be one of {', '.join(metadata['choices'])}, not {_shown(value)}")
    return value


def _base(kind: Any) -> type:
    """The plain type of a field's annotation: `int | None` is int, `tuple[str, ...]` is tuple."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        kind = next(part for part in typing.get_args(kind) if part is not type(None))
    base = typing.get_origin(kind) or kind
    if base not in _NAMES:
        raise TypeError(f"{kind} is no type of a setting")
    return typing.cast(type, base)


def _unknown(key: str, path: tuple[str, ...], value: Any, known: list[str]) -> str:
    where = f"[{'.'.join(path)}]" if path else "the file"
    what = "table" if isinstance(value, dict) else "key"
    close = difflib.get_close_matches(key, known, 1, 0.6)
    hint = f"; did you mean '{close[0]}'?" if close else f"; it may hold: {', '.join(known)}."
    return f"unknown {what} '{key}' in {where}{hint}"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    return repr(value)[:60]


def _syntax_error(name: str, text: str) -> str:
    found = re.search(r"\s*\(at line (\d+), column (\d+)\)$", text)
    if found is None:
        return f"{name}: {text}."
    return f"{name}:{found[1]}: {text[: found.start()]} (column {found[2]})."


def _line_numbers(text: str) -> dict[tuple[str, ...], int]:
    """Where each key and table of a file that parses is written first."""
    lines: dict[tuple[str, ...], int] = {}
    prefix: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        table = _TABLE.match(line)
        key = None if table else _KEY.match(line)
        if table:
            prefix = _split(table[1])
            lines.setdefault(prefix, number)
        elif key:
            lines.setdefault((*prefix, *_split(key[1])), number)
    return lines


def _split(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip().strip("\"'") for part in dotted.split("."))


def _line_of(lines: Mapping[tuple[str, ...], int], path: tuple[str, ...]) -> int:
    """The line of the key, or of the nearest thing around it (inline tables, dotted keys); 0 if there is none."""
    for length in range(len(path), 0, -1):
        inside = [number for key, number in lines.items() if key[:length] == path[:length]]
        if inside:
            return lines.get(path[:length], min(inside))
    return 0
