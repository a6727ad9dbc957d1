"""How this installation connects to other mail servers: one set of rules for the queue, for call-outs and for policies.

Standards: RFC 5321 §5.1 and §6.3 (loops).
"""

from __future__ import annotations

from gateway.dns.answers import Dns
from gateway.networks import Reachable, networks
from gateway.relay.next_hops import NextHops, make_next_hops
from gateway.tls_policy.policy import TlsPolicies
from hosting.composition import Parts
from hosting.config import Config


def reachable(config: Config) -> Reachable:
    """Public addresses and the configured networks; never the ports where this installation takes mail."""
    own = [(address, port) for address in config.listen.addresses for port in own_ports(config)]
    return Reachable(networks(config.relay.private_networks), own)


def own_ports(config: Config) -> frozenset[int]:
    """Where this installation takes mail."""
    listen = config.listen
    return frozenset({listen.mx, listen.submission, listen.submissions} - {0})


def next_hops(parts: Parts, dns: Dns, policies: TlsPolicies | None = None) -> NextHops:
    """For one process. `policies`: what domains demand of TLS with their servers; None: nothing."""
    config = parts.config
    return make_next_hops(
        config.relay,
        config.server.name,
        dns,
        reachable(config),
        parts.clock,
        own_names=config.mail.exchangers,
        transcripts=parts.installation.transcripts,
        policies=policies,
    )
