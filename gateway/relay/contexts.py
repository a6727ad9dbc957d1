"""The TLS contexts of outgoing connections: one that checks nothing, one that demands a certificate for the host's
name.

Opportunistic TLS takes what it gets (RFC 7435): refusing an old certificate would mean plain text. Nothing older
than TLS 1.2 is spoken in either.

Raises: InvalidInput for a file of authorities that cannot be read.
Standards: RFC 8996, RFC 9325, RFC 7817 §3 (names in certificates of mail servers).
"""

from __future__ import annotations

import ssl

from gateway.tls_policy.results import TlsOutcome
from storage.errors import InvalidInput

# OpenSSL's X509_V_ERR_* by TLS-RPT's words for them (RFC 8460 §4.3.2.1).
_EXPIRED = frozenset((9, 10, 11, 12, 14))
_MISMATCH = frozenset((62, 64))
_NOT_TRUSTED = frozenset((2, 18, 19, 20, 21, 27, 28))


class TlsContexts:
    def __init__(self, ca_file: str = "") -> None:
        self.unverified = _new_context()
        self.unverified.check_hostname = False
        self.unverified.verify_mode = ssl.CERT_NONE
        self.unverified.set_ciphers("DEFAULT:@SECLEVEL=1:!aNULL:!eNULL")
        self.verified = _new_context()
        try:
            if ca_file:
                self.verified.load_verify_locations(cafile=ca_file)
            else:
                self.verified.load_default_certs(ssl.Purpose.SERVER_AUTH)
        except (OSError, ssl.SSLError):
            raise InvalidInput(f"{ca_file} is no file of certificates.") from None


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    return context


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
