"""The smtp role: MX and submission, on the asyncio reactor. They share limits, resolver, transcripts and traces."""

from __future__ import annotations

import ssl

from gateway.acceptance.targets import Suspended
from gateway.dns.resolver import Resolver as DnsResolver
from gateway.mx.own_servers import OwnServers
from gateway.smtp.session import BoundSocket
from gateway.smtp.shared_limits import SharedLimits
from gateway.smtp.tls import ServerCertificate
from hosting.composition import Parts
from hosting.ending import LettingGo
from hosting.mx.service import MxService, MxServiceSettings
from hosting.outgoing import next_hops
from hosting.roles.certificates import follow_files
from hosting.roles.housekeeping import every_second
from hosting.roles.service import RoleService
from hosting.smtp_service import own_domain
from hosting.submission.service import SubmissionService, SubmissionSettings
from hosting.tls_names import Names, choose_by_name, smtp_names
from storage.directory.resolve import Resolver


def make_service(parts: Parts) -> RoleService:
    config = parts.config
    shared = SharedLimits.open(parts.data / "run", parts.clock)
    resolver = Resolver(parts.installation, config.postmaster, own_domain(config.server.name))
    names = smtp_names(config.certificates(parts.data))
    submission = _submission(parts, resolver, shared, names)
    mx = _mx(parts, resolver, shared, names)

    def show() -> None:
        parts.metrics.connections.labels("submission").set(submission.connections)
        messages = submission.counters.messages
        parts.metrics.count_up_to("submission", {f"message_{result}": count for result, count in messages.items()})
        parts.metrics.count_up_to("submission", {"account_frozen": submission.gate.frozen})
        parts.metrics.connections.labels("mx").set(mx.connections)
        for name, service in (("mx", mx), ("submission", submission)):
            parts.metrics.count_up_to(name, {"connection_refused": service.turned_away})
        for what, counts in (("message", mx.counters.messages), ("recipient", mx.counters.recipients)):
            parts.metrics.count_up_to("mx", {f"{what}_{result}": count for result, count in counts.items()})
        verdicts = mx.verdicts.actions
        parts.metrics.count_up_to("mx", {f"verdict_{action}": count for action, count in verdicts.items()})
        parts.metrics.count_up_to("mx", mx.scans)

    following = follow_files(parts, [mx.reload, submission.reload], [names.refresh])
    services = [mx, submission, LettingGo(parts), every_second(parts, show), following]
    return RoleService(services, reload=[mx.reload, submission.reload, names.refresh])


def _mx(parts: Parts, resolver: Resolver, shared: SharedLimits, names: Names[ssl.SSLContext]) -> MxService:
    config = parts.config
    dns = DnsResolver(config.dns, parts.clock)
    return MxService(
        parts.installation,
        resolver,
        dns,
        OwnServers(next_hops(parts, dns), parts.clock),
        shared,
        MxServiceSettings(
            config.server.name,
            config.mx,
            config.filter,
            config.proxies,
            config.relay.retry_time,
            config.server.stop_within,
        ),
        [BoundSocket(sock, False) for sock in parts.listeners("mx")],
        _certificate(parts, names),
    )


def _submission(
    parts: Parts, resolver: Resolver, shared: SharedLimits, names: Names[ssl.SSLContext]
) -> SubmissionService:
    config = parts.config
    sockets = [BoundSocket(sock, False) for sock in parts.listeners("submission")]
    sockets += [BoundSocket(sock, True) for sock in parts.listeners("submissions")]
    assert parts.authenticator is not None
    return SubmissionService(
        parts.installation,
        parts.authenticator,
        resolver,
        parts.clock,
        SubmissionSettings(
            hostname=config.server.name,
            limits=config.submission,
            plain_text_sign_in=config.listen.plain_text_sign_in,
            proxies=config.proxies,
            suspended=Suspended(config.mx.suspended),
            retry_time=config.relay.retry_time,
            sending=config.sending,
            stop_within=config.server.stop_within,
        ),
        sockets,
        _certificate(parts, names),
        parts.subscribe(mailboxes=False),
        shared,
    )


def _certificate(parts: Parts, names: Names[ssl.SSLContext]) -> ServerCertificate:
    certificate = ServerCertificate(parts.config.certificate(parts.data), parts.config.certificate_key(parts.data))
    choose_by_name(certificate.context, names)
    return certificate
