"""REPORT: finds the report that the body asks for (RFC 3253 §3.6); the reports register themselves."""

from __future__ import annotations

from hosting.dav.context import Context
from hosting.dav.errors import Refused, precondition
from hosting.dav.locating import locate, requested
from hosting.dav.locks import check_if
from hosting.dav.methods.propfind import depth_of
from hosting.dav.names import dav
from hosting.dav.reach import Reach
from hosting.dav.registry import Registry
from hosting.dav.request import DavResponse
from hosting.dav.xml import parse


class ReportMethod:
    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def __call__(self, context: Context) -> DavResponse:
        resource = locate(context, requested(context).segments)
        context.require(resource, Reach.READ)
        check_if(context, resource)
        body = context.request.body
        if not body.strip():
            raise Refused(400, why="The request has no body.")
        if len(body) > context.services.limits.xml_body:
            raise Refused(413, why="The body is larger than this server takes.")
        root = parse(body)
        report = self._registry.reports.get((root.name, resource.type))
        if report is None:
            raise precondition(403, dav("supported-report"), why="This report is not made here.")
        return report.answer(context, resource, root, depth_of(context, "0"))
