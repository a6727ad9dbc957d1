"""A body that is to be stored in an address book: checked, with what is known of it. Its octets stay as they are.

Raises: Violated, as storage.vcard.card says.
"""

from __future__ import annotations

from storage.collections.values import Content
from storage.vcard.card import CardLimits, checked

CONTENT_TYPE = "text/vcard; charset=utf-8"


def card_content(data: bytes, limits: CardLimits | None = None) -> Content:
    """`data` as it may be stored."""
    card = checked(data, limits)
    return Content(data, CONTENT_TYPE, uid=card.uid, component="VCARD")
