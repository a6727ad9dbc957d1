"""DANE for SMTP: whether a server's certificates are those that its TLSA records name. Pure.

Records count only if DNSSEC vouches for them; whoever asked DNS has seen to that. Usages 0 and 1 are not for SMTP
(RFC 7672 §3.1.3). A server certificate named by usage 3 may be expired and bear any name: the record is what binds it
(§3.1.1). One that is vouched for by a named authority (usage 2) must be valid and for the server's name; a name that
stands in the subject alone is not looked at.

Standards: RFC 6698, RFC 7671 §5 and §9 (agility of digests), RFC 7672 §3.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from gateway.dns.answers import TlsaRecord
from gateway.tls_policy.certificates import NotDer, public_key
from gateway.tls_policy.results import TlsOutcome

TRUST_ANCHOR, END_ENTITY = 2, 3  # RFC 7218: DANE-TA, DANE-EE
FULL, SHA256, SHA512 = 0, 1, 2
RECORDS = 50  # that are looked at
CERTIFICATES = 20

_DIGEST_OCTETS = {SHA256: 32, SHA512: 64}


@dataclass(frozen=True, slots=True)
class DanePolicy:
    records: tuple[TlsaRecord, ...]

    @classmethod
    def of(cls, records: Iterable[TlsaRecord]) -> DanePolicy | None:
        """From what DNS has; None if none of it can be used (then TLS is a must, and nothing authenticates it)."""
        usable = [record for record in records if _is_usable(record)][:RECORDS]
        chosen = tuple(record for record in usable if record.matching_type in _strongest(record, usable))
        return cls(chosen) if chosen else None

    def check(self, chain: Sequence[bytes], names: Sequence[str], now: float) -> TlsOutcome:
        """`chain` as the server sent it, in DER; `names`: one of them has to be in a certificate under an authority."""
        if not chain:
            return TlsOutcome.TLSA_INVALID
        if any(record.usage == END_ENTITY and _matches(record, chain[0]) for record in self.records):
            return TlsOutcome.SUCCESS
        outcome = TlsOutcome.TLSA_INVALID
        moment = datetime.fromtimestamp(now, UTC)
        for position, anchor in self._anchors(chain[:CERTIFICATES]):
            outcome = _verify(chain[0], chain[1:position], anchor, names, moment)
            if outcome is TlsOutcome.SUCCESS:
                break
        return outcome

    def _anchors(self, chain: Sequence[bytes]) -> Iterable[tuple[int, bytes]]:
        """Certificates that the records name as authorities, and up to where in the chain others lead to them."""
        for record in self.records:
            if record.usage != TRUST_ANCHOR:
                continue
            found = False
            for position, certificate in enumerate(chain[1:], 1):
                if _matches(record, certificate):
                    found = True
                    yield position, certificate
            if not found and (record.selector, record.matching_type) == (0, FULL):
                yield len(chain), record.data  # the record itself brings the certificate


def _is_usable(record: TlsaRecord) -> bool:
    if record.usage not in (TRUST_ANCHOR, END_ENTITY) or record.selector not in (0, 1):
        return False
    if record.matching_type == FULL:
        return len(record.data) > 0
    return len(record.data) == _DIGEST_OCTETS.get(record.matching_type)


def _strongest(record: TlsaRecord, records: Sequence[TlsaRecord]) -> set[int]:
    """RFC 7671 §9: of several digests for the same thing only the strongest counts."""
    same = [other for other in records if (other.usage, other.selector) == (record.usage, record.selector)]
    return {FULL, max(other.matching_type for other in same)}


def _matches(record: TlsaRecord, certificate: bytes) -> bool:
    try:
        selected = public_key(certificate) if record.selector else certificate
    except NotDer:
        return False
    if record.matching_type == FULL:
        return selected == record.data
    digest = hashlib.sha256 if record.matching_type == SHA256 else hashlib.sha512
    return digest(selected).digest() == record.data


def _verify(leaf: bytes, between: Sequence[bytes], anchor: bytes, names: Sequence[str], moment: datetime) -> TlsOutcome:
    try:
        certificate = x509.load_der_x509_certificate(leaf)
        intermediates = [x509.load_der_x509_certificate(one) for one in between]
        store = Store([x509.load_der_x509_certificate(anchor)])
        own_names = _names(certificate)
    except ValueError:
        return TlsOutcome.VALIDATION_FAILURE
    if not certificate.not_valid_before_utc <= moment <= certificate.not_valid_after_utc:
        return TlsOutcome.CERTIFICATE_EXPIRED
    builder = PolicyBuilder().store(store).time(moment).extension_policies(ca_policy=_AUTHORITY, ee_policy=_SERVER)
    for name in (*names, *own_names):
        try:
            builder.build_server_verifier(x509.DNSName(name)).verify(certificate, intermediates)
        except (VerificationError, ValueError):
            continue
        return TlsOutcome.SUCCESS if name in names else TlsOutcome.CERTIFICATE_HOST_MISMATCH
    return TlsOutcome.CERTIFICATE_NOT_TRUSTED


def _may_issue(_policy: Policy, _certificate: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("no authority")


def _may_sign(_policy: Policy, _certificate: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("no key for certificates")


# Small private authorities do without much of what the web asks of certificates. An authority must be one, and the
# certificate of a server must bear a name (RFC 5280 §4.2.1.3, §4.2.1.6 and §4.2.1.9).
_AUTHORITY = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _may_issue)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _may_sign)
)
_SERVER = ExtensionPolicy.permit_all().require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)


def _names(certificate: x509.Certificate) -> list[str]:
    """Of the server's certificate: one of them verifies if nothing but the name is wrong."""
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    names = extension.value.get_values_for_type(x509.DNSName)
    return [name.replace("*", "any", 1) for name in names[:1]]
