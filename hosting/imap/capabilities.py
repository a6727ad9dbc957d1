"""Which capabilities are told when.

Standards: RFC 9051 §6.1.1, and one RFC beside each extension; `reference/clients.md` for what is not offered and why
(UIDONLY breaks clients that enable whatever they see; COMPRESS would be the client's choice to pay for).
"""

from __future__ import annotations

from typing import Final

_ALWAYS: Final = (
    "IMAP4rev1",  # RFC 3501
    "IMAP4rev2",  # RFC 9051
    "LITERAL+",  # RFC 7888
    "SASL-IR",  # RFC 4959
    "ID",  # RFC 2971
    "ENABLE",  # RFC 5161
)

_SIGNED_IN: Final = (
    "NAMESPACE",  # RFC 2342
    "CHILDREN",  # RFC 3348
    "UNSELECT",  # RFC 3691
    "UIDPLUS",  # RFC 4315
    "IDLE",  # RFC 2177
    "MOVE",  # RFC 6851
    "CONDSTORE",  # RFC 7162
    "QRESYNC",
    "ESEARCH",  # RFC 4731
    "SEARCHRES",  # RFC 5182
    "WITHIN",  # RFC 5032
    "SORT",  # RFC 5256
    "THREAD=ORDEREDSUBJECT",
    "THREAD=REFERENCES",
    "LIST-EXTENDED",  # RFC 5258
    "LIST-STATUS",  # RFC 5819
    "SPECIAL-USE",  # RFC 6154
    "CREATE-SPECIAL-USE",
    "STATUS=SIZE",  # RFC 8438
    "QUOTA",  # RFC 9208
    "QUOTA=RES-STORAGE",
    "QUOTA=RES-MESSAGE",
    "OBJECTID",  # RFC 8474
    "BINARY",  # RFC 3516
)


def before_sign_in(*, secure: bool, plain_allowed: bool, tls_offered: bool) -> bytes:
    """Without TLS no password is taken, unless the operator allowed it (RFC 9051 §6.2.3)."""
    words = list(_ALWAYS)
    if not secure and tls_offered:
        words.append("STARTTLS")
    words += ["AUTH=PLAIN", "AUTH=LOGIN"] if secure or plain_allowed else ["LOGINDISABLED"]
    return " ".join(words).encode("ascii")


def after_sign_in(message_limit: int) -> bytes:
    return " ".join((*_ALWAYS, *_SIGNED_IN, f"APPENDLIMIT={message_limit}")).encode("ascii")
