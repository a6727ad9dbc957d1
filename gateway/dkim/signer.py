"""Signs what leaves with the keys of the domain that wrote it.

Whose name may be signed is decided when the message leaves, from its entry in the queue (`author`): what a user
submitted, if From's domain is one of his tenant's; what we wrote ourselves, if From's domain is here at all. Mail from
outside that is only passed on (aliases, routes) is not signed: its author signed it, and From may be a lie.

`sign` may be called from any thread. Which keys sign is read for every message, which costs little beside a signature;
only their decoded form is remembered.
Raises: Unavailable and others that are temporary, if the keys cannot be read now. Such a message has to wait: unsigned,
it would be refused by everybody who asks for DMARC.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from gateway.dkim.author import author_domain
from gateway.dkim.keys import SigningKey, load
from gateway.dkim.signature import sign
from storage.directory.dkim_keys import DkimPrivateKey
from storage.directory.rows import DomainState
from storage.errors import Gone, NotFound
from storage.installation import Installation
from storage.queue.entries import Entry, NewEntry, Origin
from storage.values import Domain

KEYS_MAX = 2000  # that are remembered


class TenantSigner:
    """A `gateway.relay.outcome.Signer` with the keys of all tenants."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._lock = threading.Lock()
        self._loaded: OrderedDict[DkimPrivateKey, SigningKey] = OrderedDict()

    def author(self, entry: Entry | NewEntry, content: bytes) -> Domain | None:
        """The domain that this message may be signed for; None: it leaves as it is."""
        if entry.origin is Origin.MX:
            return None
        domain = author_domain(content)
        row = self._installation.control.find_domain(domain) if domain is not None else None
        if row is None or row.state is not DomainState.VERIFIED:
            return None
        if entry.origin is Origin.SUBMISSION and row.tenant_id != entry.tenant_id:
            return None
        return domain

    def sign(self, content: bytes, author: Domain | None) -> bytes:
        """The DKIM-Signature fields to put before `content`; empty if this domain signs nothing."""
        if author is None:
            return b""
        keys = [self._load(stored) for stored in self._stored(author)]
        return sign(content, keys, self._installation.clock.now())

    def _stored(self, domain: Domain) -> tuple[DkimPrivateKey, ...]:
        row = self._installation.control.find_domain(domain)
        if row is None or row.state is not DomainState.VERIFIED:
            return ()
        try:
            return self._installation.tenant(row.tenant_id).dkim_keys.signing(domain)
        except (Gone, NotFound):  # the tenant's contract ended meanwhile
            return ()

    def _load(self, stored: DkimPrivateKey) -> SigningKey:
        with self._lock:
            key = self._loaded.get(stored)
            if key is not None:
                self._loaded.move_to_end(stored)
                return key
        key = load(stored)
        with self._lock:
            self._loaded[stored] = key
            while len(self._loaded) > KEYS_MAX:
                self._loaded.popitem(last=False)
        return key
