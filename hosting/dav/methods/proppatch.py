"""PROPPATCH: all of it, or nothing (RFC 4918 §9.2); and the same checks for collections that are made with properties.

Live properties say themselves what they take. Everything else is kept as it was sent, up to a size and a number.

Standards: RFC 4918 §9.2, §4.3; RFC 5689 §3; RFC 8144 §2.2 (return=minimal).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from hosting.dav.bodies import xml_body
from hosting.dav.context import Context
from hosting.dav.errors import Refused, refusal_of
from hosting.dav.locating import locate, requested, with_folder
from hosting.dav.locks import check_if, check_unlocked, first_unlocked
from hosting.dav.multistatus import answer, kept_at, preferences, propstat, response_of
from hosting.dav.names import dav, element
from hosting.dav.reach import Reach
from hosting.dav.registry import Registry
from hosting.dav.request import DavResponse, empty
from hosting.dav.resources import Resource, ResourceType, Share
from hosting.dav.services import SHAREES_OWN
from hosting.dav.xml import LANGUAGE, Element, serialised
from storage.collections.collections import CollectionChanges
from storage.database.database import Transaction
from storage.errors import CleanmailError

_PROTECTED = Refused(403, element(dav("cannot-modify-protected-property")))
_OWNERS = Refused(403, why="Properties of this resource are its owner's.")


@dataclass(slots=True)
class Changes:
    """What a request sets and removes, checked property by property; `failed` is empty if all of it can be done."""

    names: list[str] = field(default_factory=list)
    fields: dict[str, object] = field(default_factory=dict)
    put: dict[str, bytes] = field(default_factory=dict)
    remove: list[str] = field(default_factory=list)
    apply: list[Callable[[], None]] = field(default_factory=list)
    failed: dict[str, Refused] = field(default_factory=dict)

    def propstats(self, done: int = 200) -> bytes:
        """What became of each: where one failed, the others did because of it (424)."""
        if not self.failed:
            return propstat(dict.fromkeys(self.names), done)
        others = [name for name in dict.fromkeys(self.names) if name not in self.failed]
        parts = [propstat((name,), refused.status, refused.condition) for name, refused in self.failed.items()]
        return b"".join(parts) + (propstat(others, 424) if others else b"")


class Checking:
    """Reads DAV:set and DAV:remove against what a resource takes."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def changes(self, context: Context, resource: Resource, body: Element, *, creating: bool = False) -> Changes:
        """Raises Refused where there are too many of them."""
        changes = Changes()
        for number, (element_, value, language) in enumerate(_instructions(body)):
            if number >= context.services.limits.properties:
                raise Refused(400, why="The request sets too many properties.")
            changes.names.append(element_.name)
            if creating and element_.name == dav("resourcetype"):
                continue
            try:
                self._check(context, resource, element_, value, language, changes, creating=creating)
            except Refused as refused:
                changes.failed.setdefault(element_.name, refused)
            except CleanmailError as error:
                changes.failed.setdefault(element_.name, refusal_of(error))
        return changes

    def _check(
        self,
        context: Context,
        resource: Resource,
        named: Element,
        value: Element | None,
        language: str,
        changes: Changes,
        *,
        creating: bool,
    ) -> None:
        live = self._registry.live(resource.type).get(named.name)
        if live is not None:
            write = (live.create or live.write) if creating else live.write
            if write is None:
                raise _PROTECTED
            edit = write(context, resource, value)
            if resource.share is not None and resource.stored is None and not edit.fields.keys() <= SHAREES_OWN:
                raise _OWNERS
            changes.fields.update(edit.fields)
            if edit.apply is not None:
                changes.apply.append(edit.apply)
            return
        if self._registry.is_protected(named.name):
            raise _PROTECTED
        if not creating and kept_at(resource) is None:
            raise _OWNERS
        if value is None:
            changes.put.pop(named.name, None)
            changes.remove.append(named.name)
            return
        whole = serialised(value, language)
        if len(whole) > context.services.limits.property_size:
            raise Refused(507, why="The property is larger than this server keeps.")
        changes.put[named.name] = whole
        if named.name in changes.remove:
            changes.remove.remove(named.name)


def _instructions(body: Element) -> Iterator[tuple[Element, Element | None, str]]:
    """Each property in the order of the document, with its value (None: it is removed) and its language."""
    for step in body:
        if step.name not in (dav("set"), dav("remove")):
            continue
        for holder in step.all(dav("prop")):
            for each in holder:
                language = next(
                    (above.attributes[LANGUAGE] for above in (holder, step, body) if LANGUAGE in above.attributes), ""
                )
                yield each, (each if step.name == dav("set") else None), language


class Proppatch:
    def __init__(self, registry: Registry) -> None:
        self._checking = Checking(registry)

    def __call__(self, context: Context) -> DavResponse:
        resource = locate(context, requested(context).segments)
        context.require(resource, Reach.WRITE_PROPERTIES)
        check_if(context, resource)
        check_unlocked(context, resource)
        body = xml_body(context, dav("propertyupdate"))
        assert body is not None
        changes = self._checking.changes(context, resource, body)
        if not changes.failed:
            self._apply(context, resource, changes)
        if not changes.failed and "minimal" in preferences(context):
            return empty(200, [("Preference-Applied", "return=minimal")])
        return answer(context, (response_of(resource.href, changes.propstats()),))

    @staticmethod
    def _apply(context: Context, resource: Resource, changes: Changes) -> None:
        """Durable afterwards, or nothing of it is done and `changes.failed` says why."""
        if resource.type is ResourceType.FILE_HOME and changes.fields:
            resource = with_folder(context, resource)
        place = kept_at(resource)
        if resource.share is not None and resource.stored is None and changes.fields:
            fields = dict(changes.fields)
            changes.apply.insert(0, partial(_change_share, context, resource.share, fields))
            changes.fields.clear()

        still_unlocked = first_unlocked(context, resource) if resource.collection is not None else None

        def work(transaction: Transaction) -> None:
            if still_unlocked is not None:
                still_unlocked(transaction, resource.stored)
            if changes.fields:
                fields = cast(CollectionChanges, cast(Any, changes.fields))
                resource.data.collections.update_in(transaction, resource.row.id, fields)
            if (changes.put or changes.remove) and place is not None:
                resource.data.properties.change_in(transaction, *place, put=changes.put, remove=changes.remove)

        try:
            if changes.fields or changes.put or changes.remove:
                resource.data.database.write(work)
            for apply in changes.apply:
                apply()
        except CleanmailError as error:
            if error.temporary and refusal_of(error).status == 503:
                raise
            changes.failed = dict.fromkeys(changes.names, refusal_of(error))


def _change_share(context: Context, share: Share, fields: dict[str, object]) -> None:
    context.services.shares.change(context.me.tenant_id, share, fields)
