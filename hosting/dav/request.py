"""What the DAV layer is asked and what it answers: values, so that any HTTP server carries them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from hosting.auth.signin import Principal

Headers = list[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class DavRequest:
    """A request whose body is whole; its size was bounded before it was read."""

    method: str
    path: str = field(repr=False)  # as it was sent, percent-encoded, without the query
    headers: Mapping[str, str] = field(repr=False)  # names in lower case; several fields of one name joined by ", "
    body: bytes = field(repr=False)
    principal: Principal
    address: str = field(repr=False)  # the client's
    scheme: str = "https"
    query: str = field(default="", repr=False)  # after the question mark, as it was sent

    def header(self, name: str) -> str:
        """Its value; "" where there is none."""
        return self.headers.get(name, "")


class Streamed(Iterator[bytes]):
    """A body that is made while it is sent. Whoever sends it calls `close`, sent or not: it lets go of accounts."""

    __slots__ = ("_let_go", "_parts")

    def __init__(self, parts: Iterator[bytes], let_go: Callable[[], None]) -> None:
        self._parts = parts
        self._let_go: Callable[[], None] | None = let_go

    def __next__(self) -> bytes:
        if self._let_go is None:
            raise StopIteration
        try:
            return next(self._parts)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        let_go, self._let_go = self._let_go, None
        if let_go is not None:
            let_go()


@dataclass(frozen=True, slots=True)
class DavResponse:
    """`body` is bytes, with their Content-Length among the headers, or a `Streamed` of a length nobody knows yet.

    Making a part of a streamed body may block.
    """

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes | Streamed = field(default=b"", repr=False)

    def close(self) -> None:
        """To be called when the answer was sent, or will not be."""
        if isinstance(self.body, Streamed):
            self.body.close()


def empty(status: int, headers: Iterable[tuple[str, str]] = ()) -> DavResponse:
    """An answer without a body."""
    told = [] if status in (204, 304) else [("Content-Length", "0")]
    return DavResponse(status, [*told, *headers])
