"""Brings a view up to date for a command that may wait: very many changes of another process are read by a worker.

Raises: Gone (the mailbox was deleted).
"""

from __future__ import annotations

from hosting.imap.effects import Flow, blocking
from storage.mail.view import MailboxView
from storage.mail.view_rows import FarBehind


def caught_up(view: MailboxView) -> Flow[None]:
    try:
        view.refresh(patient=True)
    except FarBehind:
        yield from blocking(view.prepare_changes)
        view.refresh()
