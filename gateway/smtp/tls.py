"""The server's certificate as asyncio uses it: one TLS context for all listeners, reloadable while they listen.

`reload` tries the new files on a context of their own first, so a wrong pair changes nothing. Connections that are open
keep what they have negotiated.

Standards: RFC 8996 (nothing older than TLS 1.2), RFC 9325 (recommendations), RFC 3207 (STARTTLS).
"""

from __future__ import annotations

import ssl
from pathlib import Path

from storage.errors import InvalidInput


class ServerCertificate:
    """A certificate chain and its key in PEM files, and the context that presents them."""

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain = chain
        self._key = key
        self.context = self._load(_new_context())

    def reload(self) -> None:
        """Takes the files as they are now. Raises InvalidInput, and nothing changes, if they are no valid pair."""
        self._load(_new_context())
        self._load(self.context)

    def _load(self, context: ssl.SSLContext) -> ssl.SSLContext:
        try:
            context.load_cert_chain(self._chain, self._key)
        except (OSError, ssl.SSLError):
            raise InvalidInput("The certificate and its key cannot be read, or do not belong together.") from None
        return context


def _new_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL")
    return context
