"""The smtp role: submission, on the asyncio reactor. (The MX will listen here too.)"""

from __future__ import annotations

from gateway.smtp.session import BoundSocket
from gateway.smtp.tls import ServerCertificate
from hosting.composition import Parts
from hosting.roles.housekeeping import every_second
from hosting.roles.service import RoleService
from hosting.submission.service import SubmissionService, SubmissionSettings
from storage.directory.resolve import Resolver


def make_service(parts: Parts) -> RoleService:
    config = parts.config
    certificate = ServerCertificate(config.certificate(parts.data), config.certificate_key(parts.data))
    sockets = [BoundSocket(sock, False) for sock in parts.listeners("submission")]
    sockets += [BoundSocket(sock, True) for sock in parts.listeners("submissions")]
    assert parts.authenticator is not None
    submission = SubmissionService(
        parts.installation,
        parts.authenticator,
        Resolver(parts.installation, config.postmaster),
        parts.clock,
        SubmissionSettings(
            hostname=config.server.name,
            limits=config.submission,
            plain_text_sign_in=config.listen.plain_text_sign_in,
            proxies=config.proxies,
            stop_within=config.server.stop_within,
        ),
        sockets,
        certificate,
        parts.subscribe(mailboxes=False),
    )

    def show() -> None:
        parts.metrics.connections.labels("submission").set(submission.connections)
        messages = submission.counters.messages
        parts.metrics.count_up_to("submission", {f"message_{result}": count for result, count in messages.items()})

    return RoleService([submission, every_second(parts, show)], reload=[submission.reload])
