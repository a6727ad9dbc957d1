"""What a session needs to know of NOTIFY: `hosting.imap.news.notify` has the rest. Standards: RFC 5465."""

from __future__ import annotations

from typing import Protocol

from hosting.imap.commands import Command
from hosting.imap.effects import Flow, Handling


class Listening(Protocol):
    """What a client asked to be told of, and what of it waits."""

    def tell(self, *, expunges: bool, arrivals: bool) -> Flow[None]:
        """Tells what waits and may be told in the answer to a command."""
        ...

    def tell_result(self, *, arrivals: bool) -> Flow[None]:
        """Tells what a command of the session did to its selected mailbox, whatever was asked for."""
        ...

    def between(self) -> Handling | None:
        """The same between commands; None: nothing."""
        ...

    def after(self, command: Command) -> Flow[None]:
        """A command of the session itself is done: what it did is no news to it."""
        ...

    def close(self) -> None: ...
