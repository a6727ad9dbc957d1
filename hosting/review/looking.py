"""A look at the header of one withheld message: recorded first, then the key, then the file.

The process that looks opens one file, with a key that opens nothing but headers; there is no step here that could come
to a body.

Raises: what `Reviewing` raises, NotFound (the message was released, deleted or expired meanwhile), Corrupt.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from hosting.review.values import Recorded, ReviewCase, Reviewing, purpose_of
from storage.quarantine.files import find_name, folder_of, read_header
from storage.quarantine.header_object import HeaderObject


@dataclass(frozen=True, slots=True)
class Seen:
    record: int  # the number of the audit record of this view
    case: ReviewCase
    header: HeaderObject = field(repr=False)


def look(
    reviews: Reviewing,
    data: Path,
    quarantine_id: str,
    *,
    tenant: str = "",
    reason: str,
    recorded: Callable[[Recorded], object] = lambda done: None,
) -> Seen:
    """`recorded` is told when the audit record of the view is durable, before anything is read."""
    done = reviews.view_review(quarantine_id, tenant, reason)
    recorded(done)
    key = reviews.header_key(done.case.tenant_id, purpose_of(done.record))
    folder = folder_of(data, done.case.tenant_id)
    return Seen(done.record, done.case, read_header(folder, find_name(folder, quarantine_id), key))
