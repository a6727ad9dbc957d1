"""Whether a domain's MTA-STS policy can be had, as any server on the internet would ask for it."""

from __future__ import annotations

from gateway.dns.resolver import Resolver
from gateway.dns_records.policy import PolicyAnswer
from hosting.config import Config
from storage.values import Domain


async def ask(dns: Resolver, config: Config, domain: Domain) -> PolicyAnswer:
    """Raises nothing; ends within the time limits of DNS and of the fetch."""
    host = f"mta-sts.{domain}"
    addresses = await dns.addresses(host)
    if addresses.failed:
        return PolicyAnswer(False, f"DNS gave no answer about {host}")
    if not addresses:
        return PolicyAnswer(False, f"there is no host {host}")
    return PolicyAnswer(False, f"https://{host}/.well-known/mta-sts.txt does not answer")
