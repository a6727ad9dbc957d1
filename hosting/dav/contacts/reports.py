"""addressbook-query and addressbook-multiget (RFC 6352 §8.6, §8.7)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial as bound

from hosting.dav.contacts.filters import read_address_data, read_filter, read_limit
from hosting.dav.contents import Contents, Part, cut, hrefs_of, scope
from hosting.dav.context import Context
from hosting.dav.multistatus import Multistatus, Wanted, answer, wanted_in
from hosting.dav.names import carddav
from hosting.dav.reach import Reach
from hosting.dav.registry import Registry, Report
from hosting.dav.request import DavResponse
from hosting.dav.resources import Resource, ResourceType
from hosting.dav.xml import Element
from storage.collections.conditions import Violated
from storage.collections.values import Stored
from storage.vcard.card import read_card
from storage.vcard.filter import CardFilter, matches, may_match
from storage.vcard.partial import partial

ADDRESS_DATA = carddav("address-data")

_TYPES = frozenset({ResourceType.ADDRESS_BOOK, ResourceType.CARD, ResourceType.ADDRESS_BOOK_HOME})


class CardReports:
    def __init__(self, registry: Registry) -> None:
        self._contents = Contents(Multistatus(registry), ADDRESS_DATA)

    def register(self, registry: Registry) -> None:
        registry.report(
            Report(carddav("addressbook-query"), _TYPES, self._query),
            Report(carddav("addressbook-multiget"), _TYPES, self._multiget),
        )

    def _multiget(self, context: Context, resource: Resource, body: Element, depth: str) -> DavResponse:
        context.require(resource, Reach.READ)
        wanted = wanted_in(context, body)
        return answer(context, self._contents.multiget(context, resource, hrefs_of(body), wanted, part_asked(wanted)))

    def _query(self, context: Context, resource: Resource, body: Element, depth: str) -> DavResponse:
        context.require(resource, Reach.READ)
        wanted = wanted_in(context, body)
        filter_ = read_filter(body.find(carddav("filter")))
        asked = read_limit(body)
        most = min(asked or context.services.limits.report_results, context.services.limits.report_results)
        return answer(context, self._found(context, resource, wanted, filter_, most, in_order=asked is not None))

    def _found(
        self,
        context: Context,
        resource: Resource,
        wanted: Wanted,
        filter_: CardFilter,
        most: int,
        *,
        in_order: bool,
    ) -> Iterator[bytes]:
        part = part_asked(wanted)
        left = most
        for book, only in scope(context, resource):
            objects = [only] if only else list(book.data.objects.list(book.row.id))
            if in_order:  # the same ones each time
                objects.sort(key=lambda stored: stored.name)
            if filter_.props:
                told = self._contents.told_read(context, book, _matching(book, objects, filter_), wanted, part)
            else:
                told = self._contents.told(context, book, objects[: left + 1], wanted, part)
            for response in told:
                if left == 0:
                    yield cut(resource)
                    return
                left -= 1
                yield response


def part_asked(wanted: Wanted) -> Part | None:
    """What of each card's octets is asked for; None: none. Raises Violated, Refused."""
    element = wanted.elements.get(ADDRESS_DATA)
    if element is None:
        return None
    asked = read_address_data(element)
    return bound(partial, asked=asked) if asked.props is not None or asked.version else _whole


def _whole(data: bytes) -> bytes:
    return data


def _matching(book: Resource, objects: list[Stored], filter_: CardFilter) -> Iterator[tuple[Stored, bytes]]:
    for stored, data in book.data.objects.read_many(objects):
        if not may_match(data, filter_):
            continue
        try:
            card = read_card(data)
        except Violated:  # kept by an older version of this server
            continue
        if matches(card, filter_):
            yield stored, data
