"""What a command asks of the shell around it: the only ways in which the core touches the world.

A handler is a generator. It yields octets to send (the transport pulls them) and effects; the result of an effect comes
back into the generator, an exception of it is thrown in. Tests drive the same generators without a socket. Empty octets
say that others may be served here: a handler that computes for long yields them every few milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, TypeVar, cast

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Work:
    """A blocking call (it waits for a disk, a lock, another process, or scans): runs in a worker thread."""

    run: Callable[[], Any]


class Proof(Enum):
    """By what somebody signs in, as far as it says what the answer waits for."""

    PASSWORD = auto()  # argon2
    QUICK = auto()  # nothing: an app password by its form, or SCRAM
    TOKEN = auto()  # an OpenID provider


@dataclass(frozen=True, slots=True)
class SignInWork(Work):
    """Asks the auth role who somebody is: one of a few at a time, so that others have threads (`shell.workers`)."""

    proof: Proof


@dataclass(frozen=True, slots=True)
class NextLine:
    """The client's next line, outside the grammar of commands."""


@dataclass(frozen=True, slots=True)
class News:
    """The client's next line, or None as soon as the selected mailbox may have news: IDLE."""


@dataclass(frozen=True, slots=True)
class Secure:
    """Begin TLS; what arrived in plain before it is forgotten."""


@dataclass(frozen=True, slots=True)
class Compress:
    """Compress in both directions from the next octet on; what has arrived behind the command is compressed already."""


@dataclass(frozen=True, slots=True)
class EndCompression:
    """The opposite: the octets after this are as they are, in both directions."""


Effect = bytes | Work | NextLine | News | Secure | Compress | EndCompression
Flow = Generator[Effect, Any, Result]
Handling = Generator[Effect, Any, None]


def blocking(run: Callable[[], Result]) -> Flow[Result]:
    """`yield from blocking(call)`: the call's result, computed outside the event loop."""
    return cast(Result, (yield Work(run)))


def next_line() -> Flow[bytes]:
    return cast(bytes, (yield NextLine()))


def news_or_line() -> Flow[bytes | None]:
    return cast("bytes | None", (yield News()))
