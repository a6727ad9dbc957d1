"""COMPRESS and UNAUTHENTICATE: what changes below the commands, and for whom they are given.

Compression ends with UNAUTHENTICATE, as RFC 8437 §4.1 wants; so STARTTLS never meets a compressed connection, and no
password is ever compressed.

Standards: RFC 4978 §3, RFC 8437 §3 and §4.1.
"""

from __future__ import annotations

from hosting.imap.effects import Compress as BeginCompression
from hosting.imap.effects import EndCompression, Flow
from hosting.imap.replies import Refused
from hosting.imap.session import Session
from hosting.imap.shell.layer_grammar import Compress, Unauthenticate


def compress(session: Session, tag: bytes, _: Compress) -> Flow[None]:
    if session.compressed:
        raise Refused(b"COMPRESSIONACTIVE", "DEFLATE is active already.")
    yield tag + b" OK DEFLATE is active.\r\n"
    session.compressed = True
    yield BeginCompression()


def unauthenticate(session: Session, tag: bytes, _: Unauthenticate) -> Flow[None]:
    """Never NO: the client may have sent the next sign-in already (RFC 8437 §3)."""
    yield from session.leave()
    session.sign_out()
    yield tag + b" OK Nobody is signed in.\r\n"
    if session.compressed:
        session.compressed = False
        yield EndCompression()
