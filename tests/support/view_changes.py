"""What a view says of the past, in one answer."""

from __future__ import annotations

from typing import NamedTuple

from storage.mail.view import MailboxView


class Changes(NamedTuple):
    """UIDs of the view that arrived or changed, and UIDs that left it, since some modseq."""

    changed: list[int]
    vanished: list[int]


def changes_since(view: MailboxView, modseq: int) -> Changes:
    changed = [uid for uid, at in zip(view.uids, view.modseqs, strict=True) if at > modseq]
    vanished = view.vanished_since(modseq)
    assert vanished is not None
    return Changes(changed, vanished)
