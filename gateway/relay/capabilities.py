"""What a server offers, from its answer to EHLO. Never fails: what cannot be read counts as not offered.

Standards: RFC 5321 §4.1.1.1, RFC 1870 (SIZE), RFC 2920 (PIPELINING), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8),
RFC 3461 (DSN), RFC 3207 (STARTTLS), RFC 9422 (LIMITS).
"""

from __future__ import annotations

from dataclasses import dataclass

from aiosmtplib.esmtp import parse_esmtp_extensions


@dataclass(frozen=True, slots=True)
class Capabilities:
    """A limit of 0 is none that was told."""

    size: int | None = None  # None: no SIZE; 0: no fixed limit (RFC 1870 §4)
    pipelining: bool = False
    eight_bit: bool = False
    smtputf8: bool = False
    dsn: bool = False
    starttls: bool = False
    mail_max: int = 0  # transactions in one connection
    rcpt_max: int = 0  # recipients of one transaction
    rcpt_domain_max: int = 0  # domains of the recipients of one transaction

    @classmethod
    def read(cls, message: str) -> Capabilities:
        """From the text of the reply to EHLO, its lines separated by LF."""
        offered, _ = parse_esmtp_extensions(message)
        limits = dict(word.upper().partition("=")[::2] for word in offered.get("limits", "").split())
        return cls(
            size=_number(offered["size"]) if "size" in offered else None,
            pipelining="pipelining" in offered,
            eight_bit="8bitmime" in offered,
            smtputf8="smtputf8" in offered,
            dsn="dsn" in offered,
            starttls="starttls" in offered,
            mail_max=_number(limits.get("MAILMAX", "")),
            rcpt_max=_number(limits.get("RCPTMAX", "")),
            rcpt_domain_max=_number(limits.get("RCPTDOMAINMAX", "")),
        )


def _number(text: str) -> int:
    text = text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 20 else 0
