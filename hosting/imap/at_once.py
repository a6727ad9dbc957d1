"""Commands that are answered at once: by octets, without a generator and its steps between session and shell.

Most NOOPs tell of nothing, and most FETCHes ask for one message that is at hand. So where nothing special is set up in
a session, such a command is first tried in this way. What it finds to be otherwise, or to go wrong, it leaves to the
command's way proper, which begins anew: so nothing may have been changed before that.

Standards: RFC 9051 §7 (what follows a command is no news here).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hosting.imap.selected import Selected
from hosting.imap.session import AtOnce, Session


def plainly(run: Callable[[Session, bytes, Any], bytes | None]) -> AtOnce:
    """What `run` answers; None: it doesn't, or the session is not a plain one."""

    def at_once(session: Session, tag: bytes, command: Any) -> bytes | None:
        if not _is_plain(session):
            return None
        try:
            return run(session, tag, command)
        except Exception:  # noqa: BLE001 - the command's own way comes to the same, and answers it
            return None

    return at_once


def _is_plain(session: Session) -> bool:
    """Whether it is in its own account, and asked for no news but those that follow each command."""
    if session.contexts is not None or session.listening is not None or session.annotation_news is not None:
        return False
    if session.others is not None or session.uid_only:
        return False
    principal, selected = session.principal, session.selected
    if principal is not None and principal.has_expired(session.services.clock.now()):
        return False
    return selected is None or selected.account is session.account


def is_told(selected: Selected) -> bool:
    """The client was told of everything that is known here: no news would follow a command."""
    return selected.told_modseq == selected.view.highest_modseq and not selected.has_new_keywords
