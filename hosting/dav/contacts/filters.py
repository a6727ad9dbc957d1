"""CARDDAV:filter and CARDDAV:address-data as they stand in a request, read into the values of storage.vcard.

Raises: Violated (supported-filter, supported-collation, supported-address-data).
Standards: RFC 6352 §8.6, §10.4, §10.5.
"""

from __future__ import annotations

from hosting.dav.calendars.filters import read_text_match
from hosting.dav.errors import Refused
from hosting.dav.names import carddav
from hosting.dav.xml import Element
from storage.collections.conditions import Namespace, Violated
from storage.vcard.card import VERSIONS
from storage.vcard.filter import CardFilter, CardParamFilter, CardPropFilter, Test, named
from storage.vcard.partial import AddressData, CardProp

_PROP, _PARAM = carddav("prop-filter"), carddav("param-filter")
_TEXT, _UNDEFINED = carddav("text-match"), carddav("is-not-defined")

_CONDITIONS_MAX = 100  # of one filter, each of which may be asked of every card
_PROPERTIES_MAX = 500  # that an address-data asks for


def refused(why: str) -> Violated:
    return Violated("supported-filter", why, Namespace.CARDDAV)


def read_filter(element: Element | None) -> CardFilter:
    """The filter of an addressbook-query; none, or one without conditions, is every card."""
    if element is None:
        return CardFilter()
    if sum(1 + len(child.children) for child in element) > _CONDITIONS_MAX:
        raise refused("The filter has more conditions than this server takes.")
    return CardFilter(tuple(_property(child) for child in element), _test(element))


def _test(element: Element) -> Test:
    try:
        return Test(element.attributes.get("test", Test.ANY_OF))
    except ValueError:
        raise refused("A test is anyof or allof.") from None


def _property(element: Element) -> CardPropFilter:
    if element.name != _PROP:
        raise refused("A filter holds what it may not.")
    name, group = named(element.attributes.get("name", ""))
    if not name:
        raise refused("A prop-filter does not say a name.")
    test = _test(element)
    if _is_undefined(element):
        return CardPropFilter(name, group, is_not_defined=True, test=test)
    texts, parameters = [], []
    for child in element:
        if child.name == _TEXT:
            texts.append(read_text_match(child, Namespace.CARDDAV))
        elif child.name == _PARAM:
            parameters.append(_parameter(child))
        else:
            raise refused("A prop-filter holds what it may not.")
    return CardPropFilter(name, group, False, tuple(texts), tuple(parameters), test)


def _parameter(element: Element) -> CardParamFilter:
    name = element.attributes.get("name", "").upper()
    if not name or len(element.children) > 1:
        raise refused("A param-filter is not valid.")
    if _is_undefined(element):
        return CardParamFilter(name, is_not_defined=True)
    if not element.children:
        return CardParamFilter(name)
    if element.children[0].name != _TEXT:
        raise refused("A param-filter holds what it may not.")
    return CardParamFilter(name, read_text_match(element.children[0], Namespace.CARDDAV))


def _is_undefined(element: Element) -> bool:
    if element.find(_UNDEFINED) is None:
        return False
    if len(element.children) != 1:
        raise refused("is-not-defined stands alone.")
    return True


def read_limit(query: Element) -> int | None:
    """CARDDAV:limit with CARDDAV:nresults (RFC 6352 §8.6.1). Raises Refused."""
    limit = query.find(carddav("limit"))
    if limit is None:
        return None
    given = limit.content(carddav("nresults")) or ""
    if not given.isascii() or not given.isdigit() or len(given) > 9 or int(given) == 0:
        raise Refused(400, why="A limit holds a positive number of results.")
    return int(given)


def read_address_data(element: Element) -> AddressData:
    """What of each card is asked for. Without a version, cards come as they are stored (RFC 6352 §10.4)."""
    media_type = element.attributes.get("content-type", "text/vcard").strip().lower()
    version = element.attributes.get("version", "")
    if media_type != "text/vcard" or (version and version not in VERSIONS):
        raise Violated("supported-address-data", "Cards are given as vCard 3.0 and 4.0.", Namespace.CARDDAV)
    properties = element.all(carddav("prop"))
    if not properties or element.find(carddav("allprop")) is not None:
        return AddressData(None, version)
    if len(properties) > _PROPERTIES_MAX:
        raise Refused(400, why="The request asks for too many properties.")
    asked = []
    for each in properties:
        name, group = named(each.attributes.get("name", ""))
        if not name:
            raise Refused(400, why="A property of address-data has no name.")
        asked.append(CardProp(name, group, each.attributes.get("novalue", "no") == "yes"))
    return AddressData(tuple(asked), version)
