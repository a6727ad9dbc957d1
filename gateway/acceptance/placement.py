r"""Where in its account a message is filed: INBOX, or the mailbox with the special use \Junk, marked $Junk. Blocking.

An account without a Junk mailbox is given one; a mailbox that is only called so becomes it. Where that cannot be, the
message goes to INBOX, marked all the same if the mailbox has room for the keyword: no filing keeps a message from being
delivered.

Standards: RFC 6154 §2 (special uses), RFC 5788 ($Junk), RFC 9051 §2.3.2.
"""

from __future__ import annotations

from contextlib import suppress

from storage.delivery import Delivery
from storage.errors import AlreadyExists, CleanmailError
from storage.installation import Installation
from storage.mail.account import Account
from storage.mail.mailboxes import Mailbox
from storage.mail.names import INBOX
from storage.values import KEYWORDS_PER_MAILBOX, AccountId, TenantId

JUNK = "\\Junk"  # as `RecipientParameters.mailbox` and targets name it
JUNK_KEYWORD = "$Junk"

_NEW_JUNK = "Junk"


def delivery(installation: Installation, tenant_id: TenantId, account_id: AccountId, mailbox: str) -> Delivery:
    """`mailbox` is JUNK; anything else is INBOX. An account that cannot be opened is left to the delivery."""
    if mailbox != JUNK:
        return Delivery(account_id)
    try:
        with installation.account(tenant_id, account_id) as account:
            found = _junk(account)
            return Delivery(account_id, found.name, keywords=_keywords(account, found))
    except CleanmailError:
        return Delivery(account_id)


def _junk(account: Account) -> Mailbox:
    """The first by name of those that have the special use; INBOX if there is none and none can be made."""
    found = _find(account)
    if found is not None:
        return found
    with suppress(CleanmailError):
        try:
            return account.mailboxes.create(_NEW_JUNK, (JUNK,))
        except AlreadyExists:  # a mailbox of that name has no use or another one, or somebody made it this moment
            account.mailboxes.use(_NEW_JUNK, JUNK)
            return _find(account) or account.mailboxes.find(_NEW_JUNK)
    return account.mailboxes.find(INBOX)


def _find(account: Account) -> Mailbox | None:
    return next((each for each in account.mailboxes.list() if JUNK in each.special_use), None)


def _keywords(account: Account, mailbox: Mailbox) -> tuple[str, ...]:
    names = account.mailboxes.keywords(mailbox.id).values()
    known = any(name.casefold() == JUNK_KEYWORD.casefold() for name in names)
    return (JUNK_KEYWORD,) if known or len(names) < KEYWORDS_PER_MAILBOX else ()
