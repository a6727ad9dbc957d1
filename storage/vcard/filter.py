"""What an addressbook-query asks for, as values, and whether a card is it (RFC 6352 §10.5).

Conditions of one prop-filter are asked of one property: an EMAIL that is of TYPE work and contains "bogus", not one of
each. A name without a group stands for the property in any group.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from storage.icalendar.contentlines import Property, text
from storage.icalendar.textmatch import Octets, TextMatch
from storage.vcard.card import Card
from storage.vcard.properties import types


class Test(StrEnum):
    __test__ = False  # no test of pytest

    ANY_OF = "anyof"
    ALL_OF = "allof"

    def of(self, answers: Iterator[bool]) -> bool:
        """The answer to several questions."""
        return any(answers) if self is Test.ANY_OF else all(answers)


@dataclass(frozen=True, slots=True)
class CardParamFilter:
    """Without `text`: the property has the parameter (RFC 6352 §10.5.2)."""

    name: str  # upper case
    text: TextMatch | None = None
    is_not_defined: bool = False

    def matches(self, one: Property) -> bool:
        """Whether it holds of `one`."""
        values = types(one) if self.name == "TYPE" else one.values_of(self.name)
        is_there = bool(values) or any(name == self.name for name, _ in one.parameters)
        if self.is_not_defined:
            return not is_there
        return is_there and (self.text is None or any(self.text.matches(value) for value in values))


@dataclass(frozen=True, slots=True)
class CardPropFilter:
    """Without conditions: there is such a property (RFC 6352 §10.5.1)."""

    name: str  # upper case, without its group
    group: str = ""
    is_not_defined: bool = False
    texts: tuple[TextMatch, ...] = ()
    params: tuple[CardParamFilter, ...] = ()
    test: Test = Test.ANY_OF

    def matches(self, card: Card) -> bool:
        """Whether it holds of `card`."""
        found = [one for one in card.properties if self._is_meant(one)]
        if self.is_not_defined:
            return not found
        if not self.texts and not self.params:
            return bool(found)
        return any(self.test.of(self._answers(one)) for one in found)

    def _is_meant(self, one: Property) -> bool:
        return one.name == self.name and (not self.group or one.group.lower() == self.group.lower())

    def _answers(self, one: Property) -> Iterator[bool]:
        value = text(one.value)
        yield from (wanted.matches(value) for wanted in self.texts)
        yield from (wanted.matches(one) for wanted in self.params)


@dataclass(frozen=True, slots=True)
class CardFilter:
    """Without conditions: every card (RFC 6352 §10.5)."""

    props: tuple[CardPropFilter, ...] = ()
    test: Test = Test.ANY_OF


def matches(card: Card, filter_: CardFilter) -> bool:
    """Whether `card` is what `filter_` asks for."""
    return not filter_.props or filter_.test.of(wanted.matches(card) for wanted in filter_.props)


def may_match(data: bytes, filter_: CardFilter) -> bool:
    """Whether a card with these octets can match at all: names and texts that are wanted have to be in them."""
    octets = Octets(data)
    return not filter_.props or filter_.test.of(_may_have(octets, wanted) for wanted in filter_.props)


def _may_have(octets: Octets, wanted: CardPropFilter) -> bool:
    if wanted.is_not_defined:
        return True
    if not octets.may_have(wanted.name):
        return False
    if not wanted.texts and not wanted.params:
        return True
    answers = [octets.may_match(each) for each in wanted.texts]
    answers += [_may_have_parameter(octets, each) for each in wanted.params]
    return wanted.test.of(iter(answers))


def _may_have_parameter(octets: Octets, wanted: CardParamFilter) -> bool:
    if wanted.is_not_defined:
        return True
    if wanted.name == "TYPE":  # known without its name too (vCard 2.1), and compared in lower case
        return wanted.text is None or not wanted.text.text.isascii() or octets.may_match(wanted.text)
    return octets.may_have(wanted.name) and octets.may_match(wanted.text)


def named(name: str) -> tuple[str, str]:
    """Name and group of a property as requests write them, e.g. "item1.EMAIL"."""
    group, dot, rest = name.strip().rpartition(".")
    return rest.upper(), group if dot else ""
