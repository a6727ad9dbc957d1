"""DELETE: an object, or a collection with everything below it (RFC 4918 §9.6).

A collection goes as a whole or not at all: where something below it is locked, that is told as 207 and nothing is
removed. A collection that somebody else shares is only taken out of one's own home.

Standards: RFC 4918 §9.6; RFC 6638 §3.2.1.3, §8.1 (Schedule-Reply).
"""

from __future__ import annotations

from hosting.dav.context import Context
from hosting.dav.errors import Refused
from hosting.dav.locating import Place, locate, place, requested
from hosting.dav.locks import blocked_below, check_if, check_members_unlocked, check_unlocked, first_unlocked
from hosting.dav.methods.putting import check_conditions, conditions_from
from hosting.dav.multistatus import answer, status_response
from hosting.dav.reach import Reach
from hosting.dav.registry import Registry
from hosting.dav.request import DavResponse, empty
from hosting.dav.resources import KEPT, OBJECTS, Resource, ResourceType
from hosting.dav.scheduling import Change, Consequence
from storage.collections.conditions import ANYTHING, Conditions, PreconditionFailed
from storage.collections.locks import Locked
from storage.collections.values import Stored
from storage.database.database import Transaction
from storage.errors import Conflict

_ATTEMPTS = 4


class Deleting:
    """Removes what a path leads to; MOVE between accounts uses it too."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def remove_object(
        self, context: Context, resource: Resource, conditions: Conditions = ANYTHING, *, quietly: bool = False
    ) -> None:
        """`quietly`: nothing is scheduled, since it goes on elsewhere."""
        for check in self._registry.before_changing:
            check(context, resource)
        for attempt in range(_ATTEMPTS):
            consequence = None if quietly else self._consequence(context, resource, conditions)
            within = None if consequence is None else _Within(consequence)
            try:
                resource.data.objects.delete(
                    resource.row.id,
                    resource.object.name,
                    if_match=conditions.if_match,
                    if_none_match=conditions.if_none_match or False,
                    if_schedule_tag=conditions.if_schedule_tag,
                    first=first_unlocked(context, resource, members=True),
                    within=within,
                )
            except (PreconditionFailed, Locked):
                raise
            except Conflict:
                if consequence is None or attempt == _ATTEMPTS - 1:
                    raise
                continue
            if consequence is not None:
                consequence.committed()
            return

    @staticmethod
    def _consequence(context: Context, resource: Resource, conditions: Conditions) -> Consequence | None:
        scheduler = context.services.scheduler
        if scheduler is None or resource.type is not ResourceType.EVENT or resource.owner is None:
            return None
        before = resource.data.objects.find(resource.row.id, resource.object.name)
        check_conditions(conditions, before)
        if before.schedule_tag is None:
            return None
        return scheduler.consequence(
            Change(
                context.principal,
                resource.owner,
                resource.data,
                resource.row,
                before.name,
                None,
                before,
                resource.data.objects.read(before),
                if_schedule_tag_match=conditions.if_schedule_tag or "",
                reply=context.request.header("schedule-reply").strip().upper() != "F",
            )
        )

    def remove_collection(self, context: Context, resource: Resource) -> None:
        """With everything below it, and what follows for meetings in it."""
        if resource.share is not None:
            context.services.shares.leave(context.me.tenant_id, resource.share)
            return
        for guard in self._registry.guards:
            guard(context, resource.row)
        if context.services.scheduler is not None and resource.type is ResourceType.CALENDAR:
            for each in resource.data.objects.list(resource.row.id):
                if each.schedule_tag is not None:
                    self.remove_object(context, resource.member(each))
        resource.data.collections.delete(resource.row.id)


class _Within:
    def __init__(self, consequence: Consequence) -> None:
        self._consequence = consequence

    def __call__(self, transaction: Transaction, before: Stored) -> None:
        self._consequence.within(transaction, before, None)


class Delete:
    def __init__(self, registry: Registry) -> None:
        self._deleting = Deleting(registry)
        self._removals = registry.removals

    def __call__(self, context: Context) -> DavResponse:
        path = requested(context)
        resource = locate(context, path.segments)
        remove = self._removals.get(resource.type)
        if remove is not None:
            context.require(resource, Reach.UNBIND)
            remove(context, resource)
            return empty(204)
        if resource.type not in KEPT | OBJECTS:
            raise Refused(403, why="This is made by the server and stays.")
        where = place(context, path)
        context.require(where.parent if resource.share is None else resource, _needed(resource))
        check_if(context, Place(where.parent, where.name, resource))
        check_unlocked(context, resource)
        check_members_unlocked(context, where.parent)
        if resource.stored is not None:
            self._deleting.remove_object(context, resource, conditions_from(context))
            return empty(204)
        if context.request.header("depth").strip().lower() not in ("", "infinity"):
            raise Refused(400, why="A collection goes with everything in it: Depth is infinity.")  # §9.6.1
        conditions_from(context).check(None, None)
        blocked = blocked_below(context, resource)
        if blocked:
            return answer(context, [status_response(href, 423, condition) for href, condition in blocked])
        self._deleting.remove_collection(context, resource)
        return empty(204)


def _needed(resource: Resource) -> Reach:
    """To take a shared collection out of one's own home one need not be allowed to write."""
    return Reach.READ if resource.share is not None and resource.stored is None else Reach.UNBIND
