"""Looks at a whole message: its header, its structure, its texts, its attachments.

`content_facts` raises nothing, whatever the message is. Its cost is bounded by `ContentLimits`, and by the size of the
message, which is read once to find its parts.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from gateway.content_facts.attachment import Incomplete, Trait
from gateway.content_facts.budget import Budget
from gateway.content_facts.examiner import Examiner
from gateway.content_facts.facts import ContentFacts, ContentLimits
from gateway.content_facts.findings import Finding
from gateway.content_facts.header_checks import check_header
from gateway.content_facts.text_checks import check_texts
from gateway.content_facts.transfer import HIDING, is_encoding
from storage.mime.fields import Header
from storage.mime.message import DEPTH_MAX, PARTS_MAX, Kind, Message, Part, read_message

_log = logging.getLogger(__name__)

_DECEPTIONS = frozenset(
    {Trait.REVERSED_NAME, Trait.HIDDEN_NAME, Trait.DOUBLE_EXTENSION, Trait.PADDED_NAME, Trait.TWO_NAMES}
)
_LIMITS = ContentLimits()


def content_facts(
    data: bytes,
    header: Header,
    now: int | None = None,
    *,
    smtputf8: bool = False,
    message: Message | None = None,
    limits: ContentLimits = _LIMITS,
) -> ContentFacts:
    """Of the message `data`, whose header is `header`.

    `now`: when it came, in Unix seconds; without it the date is not judged. `smtputf8`: the envelope announced
    internationalised mail (RFC 6531). `message`: `data` as `read_message` read it, if somebody has done that.
    """
    try:
        return examine(data, header, now, Budget(limits), limits, smtputf8=smtputf8, message=message)
    except Exception as error:  # noqa: BLE001 - a mistake of ours must not stop mail
        _log.error("a message could not be looked into: %s", type(error).__name__)
        return ContentFacts(incomplete=Incomplete.FAILED)


def examine(
    data: bytes,
    header: Header,
    now: int | None,
    budget: Budget,
    limits: ContentLimits = _LIMITS,
    *,
    smtputf8: bool = False,
    message: Message | None = None,
) -> ContentFacts:
    """As `content_facts`, with a budget to look at afterwards; for tests, which want to see mistakes."""
    top = check_header(header, now, smtputf8=smtputf8)
    walk = _Walk(data, Examiner(limits, budget))
    walk.whole((message or read_message(data)).root)
    findings = walk.findings | check_texts(data, walk.plain, walk.html, attachments=bool(walk.examiner.found))
    attachments = tuple(walk.examiner.found)
    if any(not attachment.traits.isdisjoint(_DECEPTIONS) for attachment in attachments):
        findings.add(Finding.ATTACHED_NAME_DECEIVES)
    return ContentFacts(
        top.findings | findings,
        attachments,
        top.is_list,
        top.is_bulk,
        top.is_automatic,
        walk.incomplete or walk.examiner.incomplete or (Incomplete.TOO_MUCH_WORK if budget.exhausted else None),
    )


@dataclass(slots=True)
class _Walk:
    """Goes through the parts of a message, and of messages in it, in order."""

    data: bytes
    examiner: Examiner
    plain: Part | None = None
    html: Part | None = None
    findings: set[Finding] = field(default_factory=set)
    incomplete: Incomplete | None = None

    def whole(self, root: Part) -> None:
        todo: list[tuple[Part, str, int]] = [(root, "", 1)]
        count = 0
        while todo:
            part, prefix, depth = todo.pop()
            count += 1
            if count >= PARTS_MAX or depth >= DEPTH_MAX:
                self.findings.add(Finding.TOO_MANY_PARTS)
                self.incomplete = Incomplete.TOO_MANY if count >= PARTS_MAX else Incomplete.TOO_DEEP
            if not is_encoding(part.encoding):
                self.findings.add(Finding.UNKNOWN_ENCODING)
            if part.kind is Kind.MULTIPART:
                if not part.children:
                    self.findings.add(Finding.BOUNDARY_MISSING)
                todo.extend((child, prefix, depth + 1) for child in reversed(part.children))
            elif part.kind is Kind.MESSAGE:
                path = self.examiner.part(self.data, part, prefix)
                if part.embedded is not None:
                    todo.append((part.embedded, path, depth + 1))
            else:
                self._leaf(part, prefix)

    def _leaf(self, part: Part, prefix: str) -> None:
        if part.media_type == b"message":
            if part.subtype == b"partial":
                self.findings.add(Finding.PARTIAL)
            elif part.subtype == b"external-body":
                self.findings.add(Finding.EXTERNAL_BODY)
        if self.examiner.leaf(self.data, part, prefix):
            return
        if part.encoding not in HIDING and self.data.find(b"\0", part.body_start, part.end) >= 0:
            self.findings.add(Finding.BINARY_TEXT)
        if not prefix:
            if part.subtype == b"html":
                self.html = self.html or part
            else:
                self.plain = self.plain or part
