"""What the octets of a message show by themselves: one pass for authentication, content and classifier.

Pure. What breaks is left out and said so in `unknown`; nothing is raised. A first reading may cost little (`GLANCE`, or
`SIP` where an event loop does it); only a message that is not done then, with archives in it, is worth a turn of its
own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from gateway.authentication.collection import PreparedMessage, prepare
from gateway.classifier.features import Features, features_of
from gateway.classifier.model import Maturity, SharedModel, maturity_of
from gateway.content_facts import ContentFacts, ContentLimits, Incomplete, content_facts
from gateway.content_facts.header_checks import FIELDS_MAX
from storage.mime.fields import Header, header_end, read_header

T = TypeVar("T")

BROKEN = "the check did not work"
SIP = ContentLimits(work=400_000)
GLANCE = ContentLimits(work=4_000_000)  # some hundredths of a second at most
WHOLE = ContentLimits()

# What costs most for its octets, and how much of it an event loop takes: fields, parts, encoded words, comments.
_HEADER_LINES, _PARTS, _WORDS, _COMMENTS = 300, 200, 500, 2000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reading:
    """`features` and `shared`, the shared model's score (a logit), are there if there is a model."""

    prepared: PreparedMessage | None = None
    content: ContentFacts | None = None
    features: Features | None = field(default=None, repr=False)
    shared: float | None = None
    maturity: Maturity = Maturity.NONE
    unknown: tuple[str, ...] = ()  # which of them broke

    @property
    def was_a_glance(self) -> bool:
        """Whether the content is worth another look."""
        content = self.content
        if content is None:
            return False
        told = (content.incomplete, *(attachment.incomplete for attachment in content.attachments))
        return Incomplete.TOO_MUCH_WORK in told


def is_light(data: bytes) -> bool:
    """Whether a small message is read in a few milliseconds, as nearly all are; others take ten times as long."""
    return (
        data.count(b"\n", 0, header_end(data, 0, len(data))) <= _HEADER_LINES
        and data.count(b"\n--") <= _PARTS
        and data.count(b"=?") <= _WORDS
        and data.count(b"(") <= _COMMENTS
    )


def read(
    data: bytes, model: SharedModel | None, now: int, limits: ContentLimits = WHOLE, *, smtputf8: bool = False
) -> Reading:
    """`data` as it came over the wire; `now` is Unix seconds. `smtputf8`: as the envelope announced it."""
    unknown: list[str] = []

    def part(name: str, work: Callable[[], T]) -> T | None:
        try:
            return work()
        except Exception as error:  # noqa: BLE001 - a fault of ours loses no message
            _log.error("reading the %s of a message failed: %s", name, type(error).__name__)
            unknown.append(name)
            return None

    header: Header = read_header(data, most=FIELDS_MAX + 1)  # whoever sends more is refused for it
    prepared = part("authentication", lambda: prepare(data, header))
    content = part("content", lambda: content_facts(data, header, now, smtputf8=smtputf8, limits=limits))
    features = shared = None
    if model is not None:
        features = part("score", lambda: features_of(data))
        if features is not None:
            found = features
            shared = part("score", lambda: model.score(found))
    return Reading(prepared, content, features, shared, maturity_of(model), tuple(unknown))
