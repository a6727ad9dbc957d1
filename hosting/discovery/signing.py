"""Signs profiles with the server's own certificate, so that devices show whose they are.

A profile that is signed with a certificate that devices do not know is installed like one without a signature, so one
rule does for all certificates. Keys of kinds that CMS cannot use, and files that cannot be read, leave it unsigned.

Standards: RFC 5652 (CMS), as Apple's profiles want it: DER, with the profile inside.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key, pkcs7

log = logging.getLogger("web")

Seen = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class _Loaded:
    seen: Seen
    chain: tuple[x509.Certificate, ...]
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | None


class Signer:
    """Takes files that changed at the next signature. Safe to use from many threads."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self._paths = (certificate, key)
        self._lock = threading.Lock()
        self._loaded: _Loaded | None = None

    def signed(self, octets: bytes) -> bytes:
        """The octets in their signature, or as they are."""
        loaded = self._current()
        if loaded is None or loaded.key is None:
            return octets
        builder = pkcs7.PKCS7SignatureBuilder().set_data(octets).add_signer(loaded.chain[0], loaded.key, SHA256())
        for authority in loaded.chain[1:]:
            builder = builder.add_certificate(authority)
        return builder.sign(Encoding.DER, [pkcs7.PKCS7Options.Binary])

    def _current(self) -> _Loaded | None:
        with self._lock:
            try:
                seen: Seen = tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in self._paths)
                if self._loaded is None or self._loaded.seen != seen:
                    self._loaded = self._load(seen)
            except (OSError, ValueError, TypeError):
                log.error("configuration profiles are not signed: the certificate and its key cannot be read")
                return None
            return self._loaded

    def _load(self, seen: Seen) -> _Loaded:
        certificate, path = self._paths
        chain = tuple(x509.load_pem_x509_certificates(certificate.read_bytes()))
        key = load_pem_private_key(path.read_bytes(), None)
        usable = key if isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)) else None
        if usable is not None and usable.public_key() != chain[0].public_key():
            raise ValueError  # one half is being replaced
        return _Loaded(seen, chain, usable)
