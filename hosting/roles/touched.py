"""Copies what the first client would make a forked process copy.

What was imported before a fork lies in memory once until somebody writes to it, and whoever calls a function does:
Python counts references beside each object. The first SELECT of a process wrote to two hundred pages for the first
time. They are copied with its first clients in any case; here it is done before one waits for it.

Nothing is called, and nothing is kept. In an executed process, which shares nothing, it does nothing but look.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from types import CodeType, FunctionType, ModuleType


def touch(packages: Iterable[str]) -> int:
    """The functions of these modules, and of those below them; how many pieces of code were looked at.

    A module is found by its name alone: to look at each would copy it.
    """
    names = {name for name in sys.modules for package in packages if f"{name}.".startswith(f"{package}.")}
    return sum(1 for name in names for _ in _codes(sys.modules[name]))


def _codes(module: ModuleType) -> Iterator[CodeType]:
    """To give out a reference is what writes, so to look at all of them is enough."""
    for value in list(vars(module).values()):
        if getattr(value, "__module__", None) != module.__name__:
            continue  # what another module made, or a value
        for member in list(vars(value).values()) if isinstance(value, type) else [value]:
            for function in _functions(member):
                yield from _nested(function.__code__)


def _functions(member: object) -> Iterator[FunctionType]:
    """The function itself, that of a class method, those of a property."""
    if isinstance(member, property):
        parts: tuple[object, ...] = (member.fget, member.fset)
    elif isinstance(member, classmethod | staticmethod):
        parts = (member.__func__,)
    else:
        parts = (member,)
    return (part for part in parts if isinstance(part, FunctionType))


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
