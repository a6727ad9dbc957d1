r"""EXPUNGE and UID EXPUNGE: removes what is \Deleted among the messages that this client was told of.

Standards: RFC 9051 §6.4.3 and §6.4.9, RFC 4315 §2.1, RFC 7162 §3.2.7 (HIGHESTMODSEQ).
"""

from __future__ import annotations

from hosting.imap.commands import Expunge
from hosting.imap.effects import Flow, blocking
from hosting.imap.positions import runs
from hosting.imap.replies import Refused
from hosting.imap.session import Session
from hosting.imap.sharing import rights
from storage.errors import NotPermitted
from storage.mail.messages import Expunged
from storage.values import UidSet


def expunge(session: Session, _: bytes, command: Expunge) -> Flow[bytes]:
    selected, messages = session.mailbox, session.mailbox.account.messages
    if selected.read_only:
        raise Refused(b"READ-ONLY", "The mailbox was opened for reading only.")
    if not rights.has(selected.rights, rights.NEEDED["EXPUNGE"]):
        raise NotPermitted("The owner of the mailbox does not let you expunge messages.")
    if not selected.told:
        return b"Expunged."
    if command.uids is None:
        uids = UidSet(((1, selected.last_uid),))
    else:
        uids = UidSet.of_ranges(runs(selected.uids, selected.positions(command.uids, by_uid=True)))
        if not uids:
            return b"Expunged."

    def work() -> Expunged:
        return messages.expunge(selected.mailbox_id, uids, only_deleted=True)

    yield from blocking(work)
    yield from selected.refreshing()
    yield from session.news(expunges=True, arrivals=False)
    if session.qresync:
        return b"[HIGHESTMODSEQ %d] Expunged." % selected.told_modseq
    return b"Expunged."
