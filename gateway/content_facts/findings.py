"""What can be remarkable about a message's header, structure and text; each with a sentence for people.

A finding is a fact, no verdict: most honest mail has none, some has one or two. The choice follows the rules that
SpamAssassin and Rspamd weigh most. Names are kept for ever: traces and counts use them.
"""

from __future__ import annotations

from enum import StrEnum


class Finding(StrEnum):
    sentence: str

    def __new__(cls, name: str, sentence: str) -> Finding:
        finding = str.__new__(cls, name)
        finding._value_ = name
        finding.sentence = sentence
        return finding

    # the author
    NO_FROM = "no-from", "It names no author."
    SEVERAL_FROM = "several-from", "It has more than one From field, so programs show different authors."
    FROM_UNREADABLE = "from-unreadable", "Its From field holds no address."
    SEVERAL_AUTHORS = "several-authors", "It names several authors but no sender (RFC 5322 §3.6.2)."
    FROM_NAME_IS_OTHER_ADDRESS = (
        "from-name-is-other-address",
        "The author's name looks like an address, but the message is from another one.",
    )
    FROM_NAME_HIDDEN = "from-name-hidden", "The author's name has invisible characters in it."
    REPLY_TO_OTHER_DOMAIN = "reply-to-other-domain", "Answers would go to another domain than the author's."
    # time and identity
    NO_DATE = "no-date", "It has no date."
    DATE_UNREADABLE = "date-unreadable", "Its date cannot be read."
    DATE_IN_FUTURE = "date-in-future", "It is dated more than a day in the future."
    DATE_IN_PAST = "date-in-past", "It is dated more than two weeks in the past."
    NO_MESSAGE_ID = "no-message-id", "It has no Message-ID."
    MESSAGE_ID_MALFORMED = "message-id-malformed", "Its Message-ID is malformed."
    # recipients and subject
    NO_RECIPIENTS = "no-recipients", "Its header names no recipients."
    NO_SUBJECT = "no-subject", "It has no subject."
    SUBJECT_SHOUTS = "subject-shouts", "Its subject is all in capitals."
    SUBJECT_HIDDEN = "subject-hidden", "Its subject has invisible characters in it."
    SUBJECT_ENCODED_NEEDLESSLY = "subject-encoded-needlessly", "Its subject is encoded though nothing in it needs that."
    REPLY_WITHOUT_REFERENCE = (
        "reply-without-reference",
        "Its subject is that of an answer, but it answers no message.",
    )
    # the form of the header
    DUPLICATE_FIELD = "duplicate-field", "A field that may stand once in a header stands there several times."
    EIGHT_BIT_HEADER = "eight-bit-header", "Its header has characters that were not announced (RFC 6532)."
    CONTROLS_IN_HEADER = "controls-in-header", "Its header has control characters in it."
    MALFORMED_FIELD = "malformed-field", "Its header has lines that are no fields."
    LONG_LINE_IN_HEADER = "long-line-in-header", "Its header has a line of more than 998 octets."
    NO_MIME_VERSION = "no-mime-version", "It has MIME parts but does not say so."
    # structure
    EMPTY_BODY = "empty-body", "It has neither text nor attachments."
    BOUNDARY_MISSING = "boundary-missing", "Its parts are not where it says that they are."
    TOO_MANY_PARTS = "too-many-parts", "It has more parts, or deeper ones, than any program makes."
    PARTIAL = "partial", "It is a piece of a message that is put together at the recipient's (message/partial)."
    EXTERNAL_BODY = "external-body", "Its content is elsewhere (message/external-body)."
    UNKNOWN_ENCODING = "unknown-encoding", "A part has a transfer encoding that nobody knows."
    BINARY_TEXT = "binary-text", "A text in it is no text."
    # the text
    HTML_ONLY = "html-only", "It has HTML but no plain text."
    HTML_ONLY_IMAGES = "html-only-images", "It shows pictures from elsewhere and hardly any text."
    HTML_FORM = "html-form", "It asks to fill in a form."
    HTML_SCRIPT = "html-script", "Its HTML has scripts in it."
    LINK_SHOWS_OTHER_HOST = "link-shows-other-host", "A link shows another address than it leads to."
    LINK_TO_ADDRESS = "link-to-address", "A link leads to a number instead of a name."
    LINK_WITH_CREDENTIALS = "link-with-credentials", "A link has something before an @ to look like another address."
    TEXT_DIFFERS_FROM_HTML = "text-differs-from-html", "Its plain text is empty, its HTML is not."
    # attachments
    ATTACHED_NAME_DECEIVES = "attached-name-deceives", "An attachment's name is made to look like another one."


def sentences(findings: frozenset[Finding]) -> list[str]:
    """For people, in the order of the list above."""
    return [finding.sentence for finding in Finding if finding in findings]
