"""The imap role: IMAP on the inherited sockets, on the epoll reactor."""

from __future__ import annotations

from array import array

from hosting.auth.client import AuthClient
from hosting.auth.mailbox_rights import RemoteRights
from hosting.composition import Parts
from hosting.ending import LettingGo
from hosting.imap.counters import Counters
from hosting.imap.shell.service import ImapService, Listener
from hosting.roles import touched
from hosting.roles.certificates import follow_files
from hosting.roles.housekeeping import every_second
from hosting.roles.service import RoleService
from hosting.tls import ReloadableContext, named_contexts
from storage.database.prepared import compile_all
from storage.mail import packing

# What the first commands of a client go through: signing in, SELECT, FETCH.
FIRST_USED = (
    "contextlib",
    "hosting.imap.catching_up",
    "hosting.imap.commands",
    "hosting.imap.decoder",
    "hosting.imap.effects",
    "hosting.imap.encode",
    "hosting.imap.fetching",
    "hosting.imap.grammar",
    "hosting.imap.mailboxes.selecting",
    "hosting.imap.place",
    "hosting.imap.places",
    "hosting.imap.positions",
    "hosting.imap.recents",
    "hosting.imap.replies",
    "hosting.imap.rules",
    "hosting.imap.selected",
    "hosting.imap.session",
    "hosting.imap.sharing.rights",
    "hosting.imap.shell",
    "hosting.imap.signin",
    "hosting.roles.epoll",
    "storage.database",
    "storage.mail.account",
    "storage.mail.columns",
    "storage.mail.kept",
    "storage.mail.mailboxes",
    "storage.mail.packing",
    "storage.mail.snapshots",
    "storage.mail.versions",
    "storage.mail.view",
    "storage.mail.view_rows",
    "storage.mail.views",
    "storage.recent_claims",
    "storage.values",
    "storage.zstd",
    "twisted._threads",
)
_NUMBERS = 20_000  # more than a piece of a snapshot has


def make_service(parts: Parts) -> RoleService:
    config = parts.config
    names = named_contexts(config.certificates(parts.data))
    context = ReloadableContext(config.certificate(parts.data), config.certificate_key(parts.data), names)
    listeners = [Listener(sock, False) for sock in parts.listeners("imap")]
    listeners += [Listener(sock, True) for sock in parts.listeners("imaps")]
    assert parts.authenticator is not None
    counters = Counters()
    parts.installation.recent.limit = config.imap.recent_messages
    service = ImapService(
        parts.reactor,
        listeners,
        parts.installation,
        parts.authenticator,
        parts.clock,
        config.imap,
        counters,
        tls_context=context,
        plain_allowed=config.listen.plain_text_sign_in,
        proxies=config.proxies,
        subscriber=parts.subscribe(only_watched=True),
        mailbox_rights=RemoteRights(parts.keys.ask) if isinstance(parts.keys, AuthClient) else None,
    )

    def show() -> None:
        parts.metrics.connections.labels("imap").set(counters.connections)
        parts.metrics.idle.set(counters.idle)
        growing = ("accepted", "refused", "commands", "failures")
        parts.metrics.count_up_to("imap", {kind: getattr(counters, kind) for kind in growing})

    following = follow_files(parts, [context.reload], [names.refresh])
    services = [service, LettingGo(parts), every_second(parts, show), following]
    compile_all()  # or whoever signs in first, selects first … waits for it
    numbers = array("I", range(_NUMBERS))
    packing.unpack(packing.pack([numbers]), numbers.typecode)  # … or for zstd's memory in the event loop's thread
    touched.touch(FIRST_USED)  # … or for what this process has in common with others
    return RoleService(services, reload=[context.reload, names.refresh])
