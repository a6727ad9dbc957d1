"""What a tenant's administrator is given of an installation: a directory and keys that know his tenant alone.

What a command does with them cannot lead to another tenant's data, whatever it is asked for by: a number, a short name,
an address, or a list of everything.

Raises: NotPermitted (another tenant's key).
"""

from __future__ import annotations

from typing import Any, cast

from storage.errors import NotPermitted
from storage.installation import Installation
from storage.keys.signing import SigningPurpose
from storage.keys.source import KeySource
from storage.values import TenantId

# What is of no tenant, and commands need: the keys of the directory, of the audit records, of records of access.
_OF_NOBODY = frozenset({"service_key", "verifying_key"})


class KeysOfOne:
    """A KeySource for one tenant's data."""

    def __init__(self, keys: KeySource, tenant_id: TenantId) -> None:
        self._keys = keys
        self._tenant_id = tenant_id

    def sign(self, purpose: SigningPurpose, message: bytes) -> bytes:
        """What he takes along, and nothing else: reports on persons."""
        if purpose != "manifest":
            raise NotPermitted("This is signed for the provider's people only.")
        return self._keys.sign(purpose, message)

    def __getattr__(self, name: str) -> Any:
        asked = getattr(self._keys, name)
        if name in _OF_NOBODY:
            return asked

        def checked(*given: Any, **named: Any) -> Any:
            whose = given[0] if given else named.get("tenant")
            if whose != self._tenant_id or isinstance(whose, bool):
                raise NotPermitted("This belongs to another tenant.")
            return asked(*given, **named)

        return checked


def narrow(installation: Installation, tenant_id: TenantId) -> None:
    """From now on there is no other tenant in it."""
    installation.keys = cast(KeySource, KeysOfOne(installation.keys, tenant_id))
    installation.control.show_only(tenant_id)
