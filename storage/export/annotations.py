"""Annotations of mailboxes in archives: a list in account.json.

What they say of mailboxes of others is the account's too, and stands there without a name of the mailbox. When an
archive comes back, nothing replaces an annotation that is there.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Final

from storage.mail.account import Account
from storage.mail.annotations import SERVER, AnnotationLimits, TooMany, is_entry
from storage.values import MailboxId

_LIMITS: Final = AnnotationLimits(entries=10_000, octets=16 * 1024 * 1024)  # of what may come back; clients have theirs
_MOST: Final = 100_000


def written(account: Account) -> list[dict[str, Any]]:
    """All of them; `mailbox` is empty for the account as a whole, None for one of somebody else."""
    names = {each.id: each.name for each in account.mailboxes.list()} | {SERVER: ""}
    return [
        {"mailbox": names.get(mailbox_id) if owner_id == account.account_id else None, "entry": entry, **_value(value)}
        for owner_id, mailbox_id, entry, value in account.annotations.all()
    ]


def _value(value: bytes) -> dict[str, str]:
    try:
        return {"value": value.decode("utf-8")}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}


def restore(account: Account, mailboxes: Mapping[str, MailboxId], listed: object) -> int:
    """Sets those of `mailboxes` and of the account that are not there; how many were left out, since they are wrong."""
    wanted: dict[MailboxId, dict[str, bytes | None]] = {}
    left_out = 0
    for each in listed[:_MOST] if isinstance(listed, list) else ():
        values: Mapping[str, Any] = each if isinstance(each, dict) else {}
        name, entry, value = values.get("mailbox"), values.get("entry"), _octets(values)
        if name is None and "mailbox" in values:
            continue  # it was beside somebody else's
        mailbox_id = SERVER if name == "" else mailboxes.get(str(name))
        if mailbox_id is None or value is None or not isinstance(entry, str) or not is_entry(entry):
            left_out += 1
        else:
            wanted.setdefault(mailbox_id, {})[entry.lower()] = value
    for mailbox_id, entries in wanted.items():
        there = account.annotations.sizes(account.account_id, mailbox_id)
        new = {entry: value for entry, value in entries.items() if entry not in there}
        try:
            if new:
                account.annotations.change(account.account_id, mailbox_id, new, _LIMITS)
        except TooMany:
            left_out += len(new)
    return left_out


def _octets(values: Mapping[str, Any]) -> bytes | None:
    text, encoded = values.get("value"), values.get("base64")
    try:
        if isinstance(text, str):
            return text.encode("utf-8")
        return base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else None
    except (UnicodeEncodeError, binascii.Error, ValueError):
        return None
