"""Certificates by the name that a client asks for (SNI), from a folder; the same for IMAP, SMTP and HTTP.

Below the folder each certificate has a folder of its own, whatever it is called, with certificate.pem and key.pem, or
fullchain.pem and privkey.pem as ACME programs write them. It is for the DNS names that stand in it, wildcards included;
a name that two are for gets the one that ends later. Contexts are made when somebody asks for them and kept.

A pair that cannot be used is told in the log and left out: the certificate of one customer must not stop the others.
What was in use of it stays in use. `refresh` looks at the files and takes what changed; it is called again and again.

Standards: RFC 6066 §3 (SNI), RFC 6125 §6.4 (which names a certificate is for).
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Generic, TypeVar

from cryptography import x509

from gateway.smtp.tls import ServerCertificate
from storage.errors import InvalidInput

log = logging.getLogger("tls")

C = TypeVar("C")

_PAIRS = (("certificate.pem", "key.pem"), ("fullchain.pem", "privkey.pem"))
_MOST = 100_000  # certificates
_NAME_MAX = 255

Seen = tuple[int, int, int]  # what tells one version of a file from the next


@dataclass(frozen=True, slots=True)
class _Pair:
    certificate: Path
    key: Path
    seen: tuple[Seen, Seen]
    names: frozenset[str]
    ends: datetime


class Names(Generic[C]):
    """`find` belongs to the event loop; `refresh` may run in a thread."""

    def __init__(self, directory: Path | None, load: Callable[[Path, Path], C]) -> None:
        """`load` makes a context of a certificate and its key. Raises InvalidInput."""
        self._directory = directory
        self._load = load
        self._pairs: dict[str, _Pair] = {}  # by folder
        self._bad: dict[str, tuple[Seen, Seen]] = {}  # what was told already
        self._by_name: Mapping[str, _Pair] = {}
        self._contexts: dict[Path, tuple[_Pair, C | None]] = {}  # None: could not be loaded
        self._lock = threading.Lock()
        self.refresh()

    def find(self, name: str) -> C | None:
        """The context for a host name as a client sent it; None where no certificate is for it."""
        if not self._by_name or not name or len(name) > _NAME_MAX:
            return None
        host = name.removesuffix(".").lower()  # some send the trailing dot, against RFC 6066 §3
        pair = self._by_name.get(host)
        if pair is None:
            _, _, parent = host.partition(".")
            pair = self._by_name.get(f"*.{parent}")
        return None if pair is None else self._context(pair)

    def refresh(self) -> bool:
        """Takes what changed in the folder; whether anything did."""
        with self._lock:
            found = self._look()
            if found == self._pairs:
                return False
            self._pairs = found
            by_name: dict[str, _Pair] = {}
            for pair in found.values():
                for name in pair.names:
                    other = by_name.get(name)
                    if other is None or other.ends < pair.ends:
                        by_name[name] = pair
            self._by_name = by_name
            used = {pair.certificate for pair in found.values()}
            for gone in [path for path in list(self._contexts) if path not in used]:
                self._contexts.pop(gone, None)
            return True

    def _context(self, pair: _Pair) -> C | None:
        known = self._contexts.get(pair.certificate)
        if known is not None and known[0] == pair:
            return known[1]
        context = known[1] if known is not None else None  # of before, should the new one be none
        try:
            context = self._load(pair.certificate, pair.key)
        except InvalidInput as error:
            log.error("%s", error.public)
        self._contexts[pair.certificate] = (pair, context)
        return context

    def _look(self) -> dict[str, _Pair]:
        found: dict[str, _Pair] = {}
        if self._directory is None:
            return found
        try:
            folders = sorted(os.listdir(self._directory))[:_MOST]
        except FileNotFoundError:
            return found
        except OSError as error:
            log.error("The folder of certificates cannot be read: %s.", error.strerror)
            return self._pairs
        for folder in folders:
            pair = self._look_at(folder, self._directory / folder)
            if pair is not None:
                found[folder] = pair
        return found

    def _look_at(self, folder: str, path: Path) -> _Pair | None:
        before = self._pairs.get(folder)
        for names in _PAIRS:
            certificate, key = (path / name for name in names)
            try:
                seen = (_seen(certificate), _seen(key))
            except OSError:
                continue
            if before is not None and before.seen == seen and before.certificate == certificate:
                return before
            if self._bad.get(folder) == seen:
                return before
            try:
                return _read(certificate, key, seen)
            except InvalidInput as error:
                self._bad[folder] = seen
                log.error("%s", error.public)
                return before
        return None


def smtp_names(directory: Path | None) -> Names[ssl.SSLContext]:
    """The certificates of a folder, as asyncio uses them."""
    return Names(directory, lambda certificate, key: ServerCertificate(certificate, key).context)


def choose_by_name(context: ssl.SSLContext, names: Names[ssl.SSLContext]) -> None:
    """From now on clients of `context` get the certificate of the name that they ask for, where there is one."""

    def chosen(connection: ssl.SSLSocket | ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        named = names.find(name) if name else None
        if named is not None:
            connection.context = named

    context.sni_callback = chosen


def _seen(path: Path) -> Seen:
    state = path.stat()
    return state.st_mtime_ns, state.st_size, state.st_ino


def _read(certificate: Path, key: Path, seen: tuple[Seen, Seen]) -> _Pair:
    """Raises InvalidInput unless they belong together."""
    ServerCertificate(certificate, key)
    try:
        first = x509.load_pem_x509_certificate(certificate.read_bytes())
        alternative = first.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        names = frozenset(name.lower() for name in alternative.get_values_for_type(x509.DNSName))
    except (OSError, ValueError, x509.ExtensionNotFound):
        raise InvalidInput(f"{certificate} holds no certificate for a DNS name.") from None
    return _Pair(certificate, key, seen, names, first.not_valid_after_utc)
