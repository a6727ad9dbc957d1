"""Messages that were not read yet are read by a worker, before a command looks at what that gives."""

from __future__ import annotations

from hosting.imap.effects import Flow, blocking
from storage.mail.account import Account


def completed(account: Account) -> Flow[None]:
    """Everything that the account has is complete (storage.mail.completion)."""
    completion = account.completion
    if completion.is_due():
        yield from blocking(completion.ensure)
