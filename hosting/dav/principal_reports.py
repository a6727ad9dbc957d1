"""Reports about principals: who is there in the tenant, who is meant by a property, what lies behind hrefs.

All of them look at accounts of the tenant of who asks, and at no others.

Standards: RFC 3744 §9 (acl-principal-prop-set, principal-match, principal-property-search,
principal-search-property-set); RFC 3253 §3.8 (expand-property); calendarserver-principal-search (CalendarServer).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from xml.sax.saxutils import unescape

from hosting.dav.context import Context
from hosting.dav.errors import Refused, precondition
from hosting.dav.locating import collections_in, locate, principal
from hosting.dav.multistatus import (
    Asked,
    Multistatus,
    Wanted,
    answer,
    described,
    status_response,
    wanted_in,
    xml_response,
)
from hosting.dav.names import DECLARATIONS, caldav, calendarserver, dav, element
from hosting.dav.paths import read_reference
from hosting.dav.reach import Reach
from hosting.dav.registry import Registry, Report
from hosting.dav.request import DavResponse
from hosting.dav.resources import EVERYTHING, Person, Resource, ResourceType
from hosting.dav.sync_report import limit_of
from hosting.dav.xml import Element

_RESULTS_MAX = 200  # principals in one answer
_TERMS_MAX = 20
_EXPANDED_MAX = 500  # resources that one expand-property looks at
_EXPANSION_DEPTH = 3
_PARTS_OF_SEARCH = frozenset(map(dav, ("property-search", "prop", "apply-to-principal-collection-set")))
_HREF = re.compile(rb"<D:href>([^<]*)</D:href>")

_WHOLE = frozenset(
    {
        ResourceType.ROOT,
        ResourceType.PRINCIPALS,
        ResourceType.PRINCIPAL,
        ResourceType.CALENDAR_HOME,
        ResourceType.ADDRESS_BOOK_HOME,
    }
)


def _addresses_of(context: Context, person: Person) -> tuple[str, ...]:
    return (person.login,)


# What may be searched for, and what a principal has there.
_SEARCHED: Mapping[str, Callable[[Context, Person], tuple[str, ...]]] = {
    dav("displayname"): lambda context, person: (context.name_of(person),),
    calendarserver("email-address-set"): _addresses_of,
    calendarserver("first-name"): lambda context, person: (context.name_of(person).partition(" ")[0],),
    calendarserver("last-name"): lambda context, person: (context.name_of(person).rpartition(" ")[2],),
    caldav("calendar-user-address-set"): lambda context, person: (f"mailto:{person.login}",),
}
_CONTAINS, _STARTS, _ENDS, _EQUALS = "contains", "starts-with", "ends-with", "equals"
_MATCHES: Mapping[str, Callable[[str, str], bool]] = {
    _CONTAINS: lambda value, term: term in value,
    _STARTS: lambda value, term: value.startswith(term) or f" {term}" in value,
    _ENDS: lambda value, term: value.endswith(term),
    _EQUALS: lambda value, term: value == term,
}


class PrincipalReports:
    def __init__(self, registry: Registry) -> None:
        self._multistatus = Multistatus(registry)

    def _people(
        self, context: Context, people: Iterable[Person], wanted: Wanted, most: int, root: bytes
    ) -> Iterator[bytes]:
        for number, person in enumerate(people):
            if number == most:
                yield status_response(root, 507, element(dav("number-of-matches-within-limits")))
                return
            yield self._multistatus.respond(context, principal(context, person), wanted)

    def property_search(self, context: Context, resource: Resource, body: Element, depth: str) -> DavResponse:
        """RFC 3744 §9.4: those who have all of the values, or (CalendarServer: test="anyof") one of them."""
        if depth != "0":
            raise Refused(400, why="This report has Depth 0.")
        searches = body.all(dav("property-search"))
        if len(searches) > _TERMS_MAX:
            raise Refused(400, why="The report says what to search for, a few times at most.")
        terms = [_term(each) for each in searches]  # none: everybody has all of them, as clients that list people ask
        anyone = bool(terms) and body.attributes.get("test") == "anyof"
        found = (person for person in context.people() if _is_meant(context, person, terms, anyone=anyone))
        parts = self._people(context, found, wanted_in(context, _prop_or_beside(body)), _RESULTS_MAX, resource.href)
        return answer(context, parts)

    def calendarserver_search(self, context: Context, resource: Resource, body: Element, depth: str) -> DavResponse:
        """Tokens that are looked for in names and addresses, all of them."""
        tokens = [each.text.strip().casefold() for each in body.all(calendarserver("search-token"))]
        tokens = [each for each in tokens if each]
        if not tokens or len(tokens) > _TERMS_MAX:
            raise Refused(400, why="The report says what to search for, a few times at most.")
        limit = body.find(calendarserver("limit"))
        most = _RESULTS_MAX
        if limit is not None:
            asked = Element(body.name, children=[Element(dav("limit"), children=[_renamed(limit)])])
            most = min(limit_of(context, asked) or most, most)

        def is_meant(person: Person) -> bool:
            words = f" {context.name_of(person)} {person.login}".casefold()
            return all(token in words for token in tokens)

        found = (person for person in context.people() if is_meant(person))
        return answer(context, self._people(context, found, wanted_in(context, _prop_only(body)), most, resource.href))

    def search_properties(self, context: Context, _: Resource, __: Element, ___: str) -> DavResponse:
        """RFC 3744 §9.5."""
        told = b"".join(element(dav("principal-search-property"), described(name)) for name in _SEARCHED)
        opened = b"<D:principal-search-property-set " + DECLARATIONS + b">"
        return xml_response(200, opened + told + b"</D:principal-search-property-set>")

    def match(self, context: Context, resource: Resource, body: Element, _: str) -> DavResponse:
        """RFC 3744 §9.3: of what is below, the principals that who asks is, or the resources that are his."""
        if body.find(dav("self")) is None and body.find(dav("principal-property")) is None:
            raise Refused(400, why="The report asks for DAV:self or for a property.")
        wanted = wanted_in(context, _prop_only(body))
        if resource.type in (ResourceType.ROOT, ResourceType.PRINCIPALS, ResourceType.PRINCIPAL):
            mine = resource.type is not ResourceType.PRINCIPAL or resource.person == context.me
            return answer(context, self._people(context, [context.me] if mine else [], wanted, 1, resource.href))
        return answer(context, ())

    def acl_principals(self, context: Context, resource: Resource, body: Element, depth: str) -> DavResponse:
        """RFC 3744 §9.2: whom the ACL names."""
        if depth != "0":
            raise Refused(400, why="This report has Depth 0.")
        context.require(resource, Reach.READ_ACL)
        people = [resource.owner] if resource.owner is not None else []
        if resource.owner is not None and resource.collection is not None:
            shares = context.shares_of(resource.owner, resource.collection.id)
            people += [context.person(each.sharee_id) for each in shares]
        wanted = wanted_in(context, _prop_only(body))
        return answer(context, self._people(context, people, wanted, _RESULTS_MAX, resource.href))

    # RFC 3253 §3.8

    def expand(self, context: Context, resource: Resource, body: Element, depth: str) -> DavResponse:
        """Hrefs in properties become responses about what they lead to; with Depth 1 for the collections in it too."""
        if depth == "infinity":
            raise Refused(400, why="This report has Depth 0 or 1.")
        left = [_EXPANDED_MAX]
        resources = [resource, *(collections_in(context, resource) if depth == "1" else ())]
        return answer(context, (self._expanded(context, each, body, left, _EXPANSION_DEPTH) for each in resources))

    def _expanded(self, context: Context, resource: Resource, asked: Element, left: list[int], depth: int) -> bytes:
        wanted_elements = asked.all(dav("property"))
        if len(wanted_elements) > context.services.limits.properties:
            raise Refused(400, why="The request asks for too many properties.")
        names = [_property_name(each) for each in wanted_elements]
        given: dict[str, bytes] = {}
        for each, name in zip(wanted_elements, names, strict=True):
            live = self._multistatus.live(resource.type, name)
            if live is not None and each.children and depth > 0:
                value = live.read(context, resource)
                if value is not None:
                    given[name] = self._followed(context, value, each, left, depth - 1)
        return self._multistatus.respond(context, resource, Wanted(Asked.NAMED, tuple(names)), given)

    def _followed(self, context: Context, value: bytes, asked: Element, left: list[int], depth: int) -> bytes:
        parts = []
        for found in _HREF.finditer(value):
            left[0] -= 1
            if left[0] < 0:
                raise Refused(507, element(dav("number-of-matches-within-limits")), "The report leads too far.")
            try:
                path = read_reference(context.request, unescape(found[1].decode("utf-8")), context.services.limits)
                resource = locate(context, path.segments)
                context.require(resource, Reach.READ)
            except Refused as refused:
                parts.append(status_response(found[1], refused.status))
                continue
            parts.append(self._expanded(context, resource, asked, left, depth))
        return b"".join(parts)


def _property_name(asked: Element) -> str:
    name = asked.attributes.get("name", "")
    if not name or len(name) > 255 or not re.fullmatch(r"[^\W\d][\w.-]*", name):
        raise Refused(400, why="A property has a name.")
    return "{" + asked.attributes.get("namespace", "DAV:") + "}" + name


def _prop_only(body: Element) -> Element:
    """What is asked for of each; nothing is not everything here."""
    return body if body.find(dav("prop")) is not None else Element(body.name, children=[Element(dav("prop"))])


def _prop_or_beside(body: Element) -> Element:
    """As `_prop_only`; python-caldav (3.6) writes an empty DAV:prop and what it wants beside that."""
    holder = body.find(dav("prop"))
    beside = [each for each in body.children if each.name not in _PARTS_OF_SEARCH]
    if holder is None or holder.children or not beside:
        return _prop_only(body)
    return Element(body.name, children=[Element(dav("prop"), children=beside)])


def _renamed(limit: Element) -> Element:
    number = limit.find(calendarserver("nresults")) or limit.find(dav("nresults")) or Element(dav("nresults"))
    return replace(number, name=dav("nresults"))


_Term = tuple[tuple[str, ...], str, str]  # names of properties, how, what


def _term(search: Element) -> _Term:
    holder, match = search.find(dav("prop")), search.find(dav("match"))
    if holder is None or match is None or not holder.children:
        raise Refused(400, why="A search has properties and what they match.")
    names = tuple(each.name for each in holder)
    unknown = [name for name in names if name not in _SEARCHED]
    if len(unknown) == len(names):  # none of them is anything that can be searched: nobody is found
        names = ()
    how = match.attributes.get("match-type", _CONTAINS)
    if how not in _MATCHES:
        raise precondition(403, dav("supported-match-type"), why="This way of matching is not known.")
    return names, how, match.text.strip().casefold()


def _is_meant(context: Context, person: Person, terms: list[_Term], *, anyone: bool) -> bool:
    def holds(term: _Term) -> bool:
        names, how, wanted = term
        matches = _MATCHES[how]
        values = [value.casefold() for name in names if name in _SEARCHED for value in _SEARCHED[name](context, person)]
        if wanted.startswith("mailto:"):
            wanted = wanted.removeprefix("mailto:")
        return any(matches(value.removeprefix("mailto:"), wanted) for value in values)

    return any(map(holds, terms)) if anyone else all(map(holds, terms))


def register(registry: Registry) -> None:
    reports = PrincipalReports(registry)
    registry.report(
        Report(dav("principal-property-search"), _WHOLE, reports.property_search),
        Report(calendarserver("calendarserver-principal-search"), _WHOLE, reports.calendarserver_search),
        Report(dav("principal-search-property-set"), _WHOLE, reports.search_properties),
        Report(dav("principal-match"), _WHOLE, reports.match),
        Report(dav("acl-principal-prop-set"), EVERYTHING, reports.acl_principals),
        Report(dav("expand-property"), EVERYTHING, reports.expand),
    )
