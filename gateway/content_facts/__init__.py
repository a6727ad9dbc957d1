"""What a message's header, text and attachments show by themselves, without asking anybody.

Pure and bounded: no I/O, no clock; what costs more than `ContentLimits` allows is left and said so. Nothing here
raises, whatever the message is.
"""

from gateway.content_facts.attachment import Attachment, Detected, Incomplete, Trait
from gateway.content_facts.examination import content_facts
from gateway.content_facts.facts import ContentFacts, ContentLimits
from gateway.content_facts.findings import Finding
from gateway.content_facts.forbidden import FORBIDDEN, GROUPS, ForbiddenTypes, groups
from gateway.content_facts.hello import HelloFinding, hello_findings

__all__ = [
    "FORBIDDEN",
    "GROUPS",
    "Attachment",
    "ContentFacts",
    "ContentLimits",
    "Detected",
    "Finding",
    "ForbiddenTypes",
    "HelloFinding",
    "Incomplete",
    "Trait",
    "content_facts",
    "groups",
    "hello_findings",
]
