"""What our own reports say of scheduling messages that could not be delivered: which object, and whom it did not reach.

Pure. Believed are reports that were made here: they have no Received, which everything has that came from elsewhere or
was submitted. The object is known by the envelope id that the message left with.

Standards: RFC 3464 §2.2, §2.3; RFC 3461 §4.4 (ENVID).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from storage.collections.values import CollectionId, ObjectId
from storage.itip.users import calendar_user
from storage.mime.fields import read_header
from storage.mime.message import read_message
from storage.mime.text import walk

_ENVELOPE = re.compile(r"meeting-(\d{1,18})-(\d{1,18})\Z")
_STATUS_MAX = 1 << 18  # octets


@dataclass(frozen=True, slots=True)
class Bounced:
    collection_id: CollectionId
    object_id: ObjectId
    users: tuple[str, ...] = field(repr=False)  # as `calendar_user` has them


def envelope_id(collection_id: CollectionId, object_id: ObjectId) -> str:
    """What a message about an object leaves with."""
    return f"meeting-{collection_id}-{object_id}"


def bounced(message: bytes) -> Bounced | None:
    """None: it is no such report."""
    if read_header(message).value(b"received") is not None:
        return None
    for part in walk(read_message(message).root):
        if part.media_type == b"message" and part.subtype in {b"delivery-status", b"global-delivery-status"}:
            return _read(message[part.body_start : min(part.end, part.body_start + _STATUS_MAX)])
    return None


def _read(status: bytes) -> Bounced | None:
    first, *recipients = (read_header(block + b"\r\n\r\n") for block in status.split(b"\r\n\r\n"))
    said = (first.value(b"original-envelope-id") or b"").decode("ascii", "replace").strip()
    found = _ENVELOPE.match(said)
    if found is None:
        return None
    users = []
    for each in recipients:
        address = (each.value(b"final-recipient") or b"").decode("utf-8", "replace").partition(";")[2].strip()
        if (each.value(b"action") or b"").strip().lower() == b"failed" and address:
            users.append(calendar_user(f"mailto:{address}"))
    return Bounced(CollectionId(int(found[1])), ObjectId(int(found[2])), tuple(users))
