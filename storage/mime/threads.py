"""The message ids that threading goes by.

Ids come without angle brackets, and a quoted local part without its quotes, so that equal ids are equal strings.
Never fails; linear time; of very long References the first and the last are kept.
Standards: RFC 5256 §3 (REFERENCES, step 1), RFC 5322 §3.6.4.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import NamedTuple

from storage.mime.fields import Header

REFERENCES_MAX = 1_000
_READ_MAX = 100_000
ID_MAX = 998  # octets: what a line of a header may have

_ID = re.compile(rb"<([^<>]*+)>")
_NOT_IN_ID = re.compile(rb"[\x00-\x20\x7f\\\"]+")


class ThreadIds(NamedTuple):
    """A message's own id, "" when it has none, and its references, eldest first."""

    message_id: str
    references: tuple[str, ...]


def message_ids(value: bytes) -> list[str]:
    """The ids in angle brackets in a field's value, in order; what has no "@" in it is none."""
    ids: list[str] = []
    for match in islice(_ID.finditer(value), _READ_MAX):
        text = _NOT_IN_ID.sub(b"", match[1])
        if b"@" in text and len(text) <= ID_MAX:
            ids.append(text.decode("utf-8", "replace"))
    return ids


def thread_ids(header: Header) -> ThreadIds:
    """RFC 5256 §3: the ids in References or, if there is none, the first in In-Reply-To."""
    own = message_ids(header.raw(b"message-id") or b"")
    references = message_ids(header.raw(b"references") or b"")
    if not references:
        references = message_ids(header.raw(b"in-reply-to") or b"")[:1]
    if len(references) > REFERENCES_MAX:
        references = references[:1] + references[1 - REFERENCES_MAX :]
    return ThreadIds(own[0] if own else "", tuple(references))
