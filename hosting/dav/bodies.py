"""Bodies of requests that are XML: of the root that is expected, and no larger than is taken.

Raises: Refused (400, 413).
"""

from __future__ import annotations

from hosting.dav.context import Context
from hosting.dav.errors import Refused
from hosting.dav.xml import Element, parse


def xml_body(context: Context, *roots: str, optional: bool = False) -> Element | None:
    """The document's root, one of `roots`; None where the body is empty and may be."""
    body = context.request.body
    if not body.strip():
        if optional:
            return None
        raise Refused(400, why="The request has no body.")
    if len(body) > context.services.limits.xml_body:
        raise Refused(413, why="The body is larger than this server takes.")
    root = parse(body)
    if root.name not in roots:
        raise Refused(400, why="The body is not what this method takes.")
    return root
