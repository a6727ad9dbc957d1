"""Looks up the TXT record by which the owner of a domain proves that a tenant may use it.

The record stands at `_cleanmail.<domain>` and holds the token of `Control.add_domain`. The resolver is the system's
unless name servers are given. Raises Unavailable, with a sentence an operator can act on, if DNS gave no answer at all;
a domain without the record is an answer.

Standards: RFC 1035 §3.3.14 (TXT: several character strings are one text), RFC 8552 (underscored names).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import dns.exception
import dns.rdatatype
import dns.resolver
from dns.rdtypes.ANY.TXT import TXT

from storage.errors import Unavailable
from storage.values import Domain


class TxtLookup(Protocol):
    """The texts published for the verification of a domain; empty if there are none. Raises Unavailable."""

    def __call__(self, domain: Domain) -> Collection[str]: ...


class DnsTxt:
    """A TxtLookup that asks DNS."""

    def __init__(self, nameservers: Sequence[str] = (), *, port: int = 53, timeout: float = 5.0) -> None:
        self._nameservers = tuple(nameservers)
        self._port = port
        self._timeout = timeout

    def __call__(self, domain: Domain) -> Collection[str]:
        name = f"_cleanmail.{domain}"
        try:
            answer = self._resolver().resolve(f"{name}.", dns.rdatatype.TXT, lifetime=self._timeout, search=False)
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return frozenset()
        except dns.resolver.LifetimeTimeout:
            raise Unavailable(f"DNS gave no answer about {name}; try again later.") from None
        except dns.resolver.NoNameservers:
            raise Unavailable(f"No name server could answer about {name}; check the domain's DNS.") from None
        except (dns.exception.DNSException, OSError) as error:
            raise Unavailable(f"The TXT record of {name} could not be looked up ({type(error).__name__}).") from None
        return frozenset(
            b"".join(record.strings).decode("utf-8", "replace").strip() for record in answer if isinstance(record, TXT)
        )

    def _resolver(self) -> dns.resolver.Resolver:
        resolver = dns.resolver.Resolver(configure=not self._nameservers)
        if self._nameservers:
            resolver.nameservers = list(self._nameservers)
        resolver.port = self._port
        return resolver
