"""The TLS contexts of outgoing connections: they check nothing, or demand a certificate for the host's name.

Opportunistic TLS takes what it gets (RFC 7435): refusing an old certificate would mean plain text. Its sessions are
resumed, which saves both sides most of a handshake; where certificates decide, every connection shows them anew.
Nothing older than TLS 1.2 is spoken.

Raises: InvalidInput for a file of authorities that cannot be read.
Standards: RFC 8996, RFC 9325, RFC 8446 §2.2 (resumption), RFC 7817 §3 (names in certificates of mail servers).
"""

from __future__ import annotations

import ssl
from collections import OrderedDict
from typing import cast

from gateway.tls_policy.results import TlsOutcome
from storage.errors import InvalidInput

SESSIONS_MAX = 1000  # servers whose TLS sessions are remembered

# OpenSSL's X509_V_ERR_* by TLS-RPT's words for them (RFC 8460 §4.3.1).
_EXPIRED = frozenset((9, 10, 11, 12, 14))
_MISMATCH = frozenset((62, 64))
_NOT_TRUSTED = frozenset((2, 18, 19, 20, 21, 27, 28))


class _Resuming(ssl.SSLContext):
    """Begins a connection with the session that the last one to the same name ended with.

    asyncio makes the TLS object itself, through `wrap_bio`, and takes no session.
    """

    sessions: OrderedDict[str, ssl.SSLSession]

    def wrap_bio(  # type: ignore[override] # the session is left to us
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | None = None,
    ) -> ssl.SSLObject:
        known = self.sessions.get(server_hostname or "")
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, known)


class TlsContexts:
    """`unverified` and `resuming` take any certificate, `verified` one of an authority for the server's name."""

    def __init__(self, ca_file: str = "") -> None:
        self.unverified = _taking_anything(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        self.resuming = cast(_Resuming, _taking_anything(_Resuming(ssl.PROTOCOL_TLS_CLIENT)))
        self.resuming.sessions = OrderedDict()
        self.verified = _modern(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
        try:
            if ca_file:
                self.verified.load_verify_locations(cafile=ca_file)
            else:
                self.verified.load_default_certs(ssl.Purpose.SERVER_AUTH)
        except (OSError, ssl.SSLError):
            raise InvalidInput(f"{ca_file} is no file of certificates.") from None

    def remember(self, connection: ssl.SSLObject | None) -> None:
        """At the end of a connection: the server's ticket comes after the handshake (RFC 8446 §4.6.1)."""
        if connection is None or connection.context is not self.resuming:
            return
        sessions, name, session = self.resuming.sessions, connection.server_hostname or "", connection.session
        if session is None or not session.has_ticket:
            return
        sessions[name] = session
        sessions.move_to_end(name)
        if len(sessions) > SESSIONS_MAX:
            sessions.popitem(last=False)


def _modern(context: ssl.SSLContext) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


def _taking_anything(context: ssl.SSLContext) -> ssl.SSLContext:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=1:!aNULL:!eNULL")
    return _modern(context)


def outcome_of(error: Exception) -> TlsOutcome:
    """How TLS-RPT calls a handshake that failed (RFC 8460 §4.3.1)."""
    if isinstance(error, ssl.SSLCertVerificationError):
        if error.verify_code in _EXPIRED:
            return TlsOutcome.CERTIFICATE_EXPIRED
        if error.verify_code in _MISMATCH:
            return TlsOutcome.CERTIFICATE_HOST_MISMATCH
        if error.verify_code in _NOT_TRUSTED:
            return TlsOutcome.CERTIFICATE_NOT_TRUSTED
    return TlsOutcome.VALIDATION_FAILURE
