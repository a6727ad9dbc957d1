r"""Which session is told of a message as \Recent: the first of all that have its mailbox open, in whatever process.

Who tells claims before it does: within a process by the view, between processes by `storage.recent_claims`. That they
are \Recent to nobody who selects the mailbox later is written when there is time.

Standards: RFC 3501 §2.3.2.
"""

from __future__ import annotations

from contextlib import suppress

from hosting.imap.selected import Claim, Selected
from storage.errors import NotFound
from storage.installation import Installation
from storage.mail.account import Account
from storage.mail.view import MailboxView


def claiming(installation: Installation, account: Account, view: MailboxView) -> Claim:
    claims, secret, mailbox_id = installation.recent_claims, account.key.secret, view.mailbox_id
    return lambda uid: claims.claim(secret, mailbox_id, view.uidvalidity, uid)


def settle(selected: Selected) -> None:
    r"""What the session told of is \Recent to no session that begins later, soon."""
    if selected.recent_told:
        selected.recent_told = False
        account, mailbox_id = selected.account, selected.mailbox_id

        def take() -> None:
            with suppress(NotFound):  # it was deleted meanwhile
                account.mailboxes.take_recent(mailbox_id)

        account.background.submit((account.account_id, "recent", mailbox_id), take)
