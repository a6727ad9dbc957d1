"""The web role: calendars, contacts and files over DAV, and what clients find by HTTP; on the asyncio reactor."""

from __future__ import annotations

from gateway.smtp.shared_limits import SharedLimits
from gateway.smtp.tls import ServerCertificate
from hosting.composition import Parts
from hosting.dav.assembly import make_handler
from hosting.dav.calendars import extension as calendars
from hosting.dav.contacts import extension as contacts
from hosting.dav.services import DavServices
from hosting.dav.sharing import subscribed
from hosting.dav.sharing.extension import Sharing
from hosting.dav.sharing.shares import DirectoryShares
from hosting.discovery import routes as discovery
from hosting.ending import LettingGo
from hosting.roles.certificates import follow_files
from hosting.roles.housekeeping import every_second
from hosting.roles.service import RoleService
from hosting.scheduling.assembly import make_scheduling
from hosting.scheduling.outbox import Outbox
from hosting.tls_names import Names
from hosting.web import public
from hosting.web.listener import Listening
from hosting.web.places import Places
from hosting.web.service import WebService, WebSettings, take_http


def make_service(parts: Parts) -> RoleService:
    config = parts.config
    assert parts.authenticator is not None
    names = Names(
        config.certificates(parts.data),
        lambda certificate, key: take_http(ServerCertificate(certificate, key).context),
    )
    scheduling = make_scheduling(parts.installation, config, parts.metrics)
    shares = DirectoryShares(parts.installation)
    services = DavServices(parts.installation, parts.clock, shares=shares, scheduler=scheduling.scheduler)
    outbox = Outbox(scheduling.people)
    dav = make_handler(
        services,
        [calendars.register, contacts.register, outbox.register, Sharing(shares).register, subscribed.register],
    )
    service = WebService(
        config,
        parts.installation,
        parts.authenticator,
        parts.clock,
        WebSettings(
            Places(config.server.name, config.listen.https, config.listen.plain_text_sign_in),
            config.web,
            config.proxies,
            config.server.stop_within,
        ),
        dav.handle,
        [
            *(Listening(sock, True) for sock in parts.listeners("https")),
            *(Listening(sock, False) for sock in parts.listeners("http")),
        ],
        ServerCertificate(config.certificate(parts.data), config.certificate_key(parts.data)),
        names,
        parts.subscribe(mailboxes=False),
        SharedLimits.open(parts.data / "run", parts.clock),
    )

    service.add_routes(public.routes(service.parts))
    service.add_routes(discovery.routes(service.parts, parts.data))

    def show() -> None:
        parts.metrics.connections.labels("web").set(service.connections)
        parts.metrics.count_up_to("web", service.counters.totals())

    following = follow_files(parts, [service.reload], [names.refresh])
    running = [service, LettingGo(parts), every_second(parts, show), following]
    return RoleService(running, reload=[service.reload, names.refresh])
