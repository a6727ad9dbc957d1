"""Signs what leaves with the keys of the domain that wrote it.

Whose name may be signed is decided when the message leaves, from its entry in the queue (`author`): what a user
submitted, if From's domain is one of his tenant's; what we wrote ourselves, if From's domain is here at all. Mail from
outside that is only passed on (aliases, routes) is not signed: its author signed it, and From may be a lie.

`sign` may be called from any thread. Keys are read again every `FRESH` seconds, so a change takes effect that late: a
key that retired stays published for days, one that begins was seen before.
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

FRESH = 10.0  # seconds
DOMAINS_MAX = 1000  # whose keys are remembered


class TenantSigner:
    """A `gateway.relay.outcome.Signer` with the keys of all tenants."""

    def __init__(self, installation: Installation) -> None:
        self._installation = installation
        self._lock = threading.Lock()
        # The keys of a domain, and until when they count.
        self._known: OrderedDict[Domain, tuple[float, dict[DkimPrivateKey, SigningKey]]] = OrderedDict()

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
        return sign(content, list(self._keys(author).values()), self._installation.clock.now())

    def _keys(self, domain: Domain) -> dict[DkimPrivateKey, SigningKey]:
        now = self._installation.clock.monotonic()
        with self._lock:
            known = self._known.get(domain)
            if known is not None and now < known[0]:
                return known[1]
        loaded = known[1] if known is not None else {}
        keys = {stored: loaded.get(stored) or load(stored) for stored in self._stored(domain)}
        with self._lock:
            self._known[domain] = (now + FRESH, keys)
            self._known.move_to_end(domain)
            while len(self._known) > DOMAINS_MAX:
                self._known.popitem(last=False)
        return keys

    def _stored(self, domain: Domain) -> tuple[DkimPrivateKey, ...]:
        row = self._installation.control.find_domain(domain)
        if row is None or row.state is not DomainState.VERIFIED:
            return ()
        try:
            return self._installation.tenant(row.tenant_id).dkim_keys.signing(domain)
        except (Gone, NotFound):  # the tenant's contract ended meanwhile
            return ()
