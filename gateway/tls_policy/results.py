"""The words of TLS reports for what was demanded and how it went, and who counts them.

Standards: RFC 8460 §4.2 (policy types), §4.3 (result types).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Protocol

from storage.values import Domain


class PolicyType(StrEnum):
    TLSA = "tlsa"
    STS = "sts"
    NONE = "no-policy-found"


class TlsOutcome(StrEnum):
    SUCCESS = ""
    # §4.3.1
    STARTTLS_NOT_SUPPORTED = "starttls-not-supported"
    CERTIFICATE_HOST_MISMATCH = "certificate-host-mismatch"
    CERTIFICATE_EXPIRED = "certificate-expired"
    CERTIFICATE_NOT_TRUSTED = "certificate-not-trusted"
    VALIDATION_FAILURE = "validation-failure"
    # §4.3.2
    TLSA_INVALID = "tlsa-invalid"
    DNSSEC_INVALID = "dnssec-invalid"
    DANE_REQUIRED = "dane-required"
    STS_POLICY_FETCH_ERROR = "sts-policy-fetch-error"
    STS_POLICY_INVALID = "sts-policy-invalid"
    STS_WEBPKI_INVALID = "sts-webpki-invalid"


class TlsReporter(Protocol):
    """Counts sessions; never waits (`storage.queue.tls_results.TlsResults`)."""

    def count(self, day: int, domain: Domain, policy_type: str, mx_host: str, result_type: str) -> None: ...
