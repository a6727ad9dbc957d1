"""Issues a certificate: signs it, makes what people file of it, and keeps both. Durable when it returns.

Repeated after a crash with the same certificate it gives the same document: signatures and pages are deterministic.

Raises: Conflict (another certificate has its number), Unavailable, StorageFull.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from storage.certificates.certificate import Certificate
from storage.certificates.signing import Signer, issue
from storage.certificates.store import Certificates


def issue_and_keep(certificate: Certificate, keys: Signer, data: Path) -> bytes:
    """The signed document."""
    document = issue(certificate, keys)
    Certificates(data).keep(document, pages(document))
    return document


def pages(document: bytes) -> bytes:
    """The PDF of a signed document; what makes it is loaded now."""
    made: bytes = import_module("storage.certificates.pdf").render(document)
    return made


def pages_match(pdf: bytes, document: bytes) -> bool:
    """Whether the PDF's pages are those that this program makes of the document, to the octet."""
    return pages(document) == pdf
