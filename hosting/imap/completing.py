"""Messages that were not read yet are read by a worker, before a command looks at what that gives."""

from __future__ import annotations

from contextlib import suppress

from hosting.imap.effects import Flow, blocking
from storage.errors import Unavailable
from storage.mail.account import Account


def completed(account: Account) -> Flow[None]:
    """Everything that the account has is complete (storage.mail.completion), as far as it can be read now."""
    completion = account.completion
    if completion.is_due():
        with suppress(Unavailable):  # who needs one that is incomplete says so; the others are told of
            while (yield from blocking(completion.step)):
                yield b""  # others are served between steps
