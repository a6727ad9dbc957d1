"""Labels that Apple's address book puts beside a property: item1.X-ABLABEL:_$!<Anniversary>!$_"""

from __future__ import annotations

from storage.icalendar.contentlines import Property, text
from storage.vcard.card import Card

# RFC 6350 §6.6.6 has fewer words for relations than Apple; a label that has no type stays a label.
RELATED = {
    "spouse": "Spouse",
    "child": "Child",
    "parent": "Parent",
    "sibling": "Sibling",
    "friend": "Friend",
    "agent": "Agent",
    "contact": "Contact",
    "co-worker": "Co-worker",
    "emergency": "Emergency",
}
_TYPES = {label.lower(): kind for kind, label in RELATED.items()} | {
    "partner": "spouse",
    "mother": "parent",
    "father": "parent",
    "brother": "sibling",
    "sister": "sibling",
    "son": "child",
    "daughter": "child",
}


class Labels:
    """The labels of a card by their group, found in one pass."""

    def __init__(self, card: Card) -> None:
        self._labels: dict[str, str] = {}
        self._beside: dict[str, list[Property]] = {}
        for one in card.properties:
            if one.group and one.name == "X-ABLABEL":
                label = text(one.value).strip().removeprefix("_$!<").removesuffix(">!$_")
                self._labels.setdefault(one.group.lower(), label)
            elif one.group:
                self._beside.setdefault(one.group.lower(), []).append(one)

    def of(self, one: Property) -> str:
        """What stands beside a property, without Apple's marks around its own words; empty: nothing."""
        return self._labels.get(one.group.lower(), "") if one.group else ""

    def labelled(self, label: Property) -> Property | None:
        """The property that a label stands beside, if it is one."""
        beside = self._beside.get(label.group.lower(), []) if label.group else []
        return beside[0] if len(beside) == 1 else None


def related_type(label: str) -> str:
    """The TYPE of RELATED for a label; empty: there is none."""
    return _TYPES.get(label.lower(), "")


def apple(label: str) -> str:
    """A word of Apple's own, which its programs show in the language of who reads."""
    return f"_$!<{label}>!$_"
