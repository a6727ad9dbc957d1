"""The keys of a tenant's quarantine: header and body of a message lie under two that both come from the tenant's.

Neither gives the other, nor the tenant's: whoever reviews headers gets the header key alone and can open no body. Both
end with the tenant's key.
"""

from __future__ import annotations

from storage.keys.sealing import Key, derive

_QUARANTINE = "quarantine"


def header_key(tenant: Key) -> Key:
    """What opens header objects, and nothing else."""
    return _derived(tenant, "header")


def body_key(tenant: Key) -> Key:
    return _derived(tenant, "body")


def fingerprint_key(tenant: Key) -> bytes:
    """For keyed hashes by which a message that is sent again is known."""
    return derive(tenant.secret, _QUARANTINE, "fingerprint")


def _derived(tenant: Key, part: str) -> Key:
    return Key(tenant.id, derive(tenant.secret, _QUARANTINE, part))
