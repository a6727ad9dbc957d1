"""Sends digests: once a day, to those whose rules ask for it, of what was withheld from them since the last time.

What is to be sent is planned in one commit of the tenant's settings before anything is, and finished by another, so a
run that was killed goes on with the same plan: into a mailbox here the same digest goes once (its delivery id comes
from the plan), and what leaves waits in the queue, on hold, until it is noted that all of it is there. Nothing is sent
to where nothing new is held. Blocking: for worker threads.

Raises: Unavailable and others of storage: the next run goes on.
"""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from gateway.acceptance.keep import Keeping, Message
from gateway.acceptance.targets import MailboxTarget, RoutedTarget, Suspended, Targets, targets
from gateway.dsn.report import Sending
from gateway.policy.rules import Rules, merged
from gateway.quarantine.digest import ITEMS_MAX, Item, digest
from gateway.smtp.address import ForwardPath
from storage.directory.resolve import Resolver
from storage.directory.rows import DomainState
from storage.directory.tenant import Tenant
from storage.errors import CleanmailError, NotFound
from storage.installation import Installation
from storage.keys.sealing import keyed_hash
from storage.quarantine.store import Quarantine
from storage.quarantine.values import HeldRecipient, HeldState, Query, Withheld
from storage.queue.entries import EnvelopeParameters, Origin
from storage.values import AccountId, Domain, EmailAddress, TenantId

log = logging.getLogger("quarantine")

SETTING = "quarantine_digest"  # of a tenant: the last plan
RECIPIENTS, ADMINISTRATORS = "recipients", "administrators"  # of the rule `digest`
_SETTLING = 600  # seconds in which a message that was being accepted gets its row
_DAY = 86_400
_RETRY_TIME = _DAY  # seconds that a digest is tried: the next one follows


@dataclass(frozen=True, slots=True)
class _Plan:
    """What is sent on a day: messages that arrived in [since, until), and the ids of what leaves."""

    day: str
    since: int
    until: int
    done: bool = False
    queued: bool = False  # everything that leaves stands in the queue
    leaving: tuple[str, ...] = ()

    def encode(self) -> str:
        return json.dumps([self.day, self.since, self.until, self.done, self.queued, list(self.leaving)])

    @classmethod
    def decode(cls, text: str) -> _Plan:
        day, since, until, done, queued, leaving = json.loads(text)
        return cls(day, since, until, done, queued, tuple(leaving))

    def id_for(self, whom: str) -> str:
        """An id as a queue id is; of the same plan and reader always the same."""
        octets = (self.until * 1000).to_bytes(6, "big") + keyed_hash(self.day.encode(), whom.encode())[:4]
        return base64.b32hexencode(octets).decode().lower()


@dataclass(slots=True)
class _Digest:
    """Of one reader."""

    queue_id: str
    address: EmailAddress
    to: Targets
    administrators: bool = False
    items: list[Item] = field(default_factory=list)
    total: int = 0

    @property
    def leaves(self) -> bool:
        return bool(self.to.routed or self.to.remote)

    def add(self, item: Item) -> None:
        self.total += 1
        if len(self.items) < ITEMS_MAX:
            self.items.append(item)


class Digests:
    def __init__(
        self,
        installation: Installation,
        quarantine: Quarantine,
        resolver: Resolver,
        rules: Rules,
        hour: int,
        hostname: str,
    ) -> None:
        """`rules`: the installation's; `hour`: of the day (UTC) from which the day's digests are sent."""
        self._installation = installation
        self._quarantine = quarantine
        self._resolver = resolver
        self._rules = rules
        self._hour = hour
        self._hostname = hostname
        self._keeping = Keeping(installation, installation.traces)

    def send_due(self, tenant_id: TenantId) -> int:
        """Sends the day's digests of one tenant, if it is time and they were not sent; how many."""
        tenant = self._installation.tenant(tenant_id)
        plan = self._plan(tenant)
        if plan is None:
            return 0
        digests = [] if plan.queued else self._digests(tenant_id, plan)
        if not plan.queued:
            leaving = {*plan.leaving, *(each.queue_id for each in digests if each.leaves)}
            plan = replace(plan, leaving=tuple(sorted(leaving)))
            tenant.set_setting(SETTING, plan.encode())
            for each in digests:
                self._send(each)
            plan = replace(plan, queued=True)
            tenant.set_setting(SETTING, plan.encode())
        for queue_id in plan.leaving:
            with suppress(NotFound):  # it was let go before, or never came to be
                self._installation.queue.release(queue_id)
        tenant.set_setting(SETTING, replace(plan, done=True, leaving=()).encode())
        return len(digests)

    def _plan(self, tenant: Tenant) -> _Plan | None:
        """What is to be sent now: what an earlier run left, or that of a new day; None: nothing."""
        now = self._installation.clock.now()
        last = self._last_plan(tenant, now)
        if last is not None and not last.done:
            return last
        moment = datetime.fromtimestamp(now, UTC)
        day = moment.date().isoformat()
        if moment.hour < self._hour or (last is not None and last.day >= day) or not self._is_wanted(tenant):
            return None
        until = now - _SETTLING
        return _Plan(day, until - _DAY if last is None else last.until, until)

    def _last_plan(self, tenant: Tenant, now: int) -> _Plan | None:
        text = tenant.setting(SETTING)
        if text is None:
            return None
        try:
            return _Plan.decode(text)
        except (ValueError, TypeError):
            log.error("tenant %d: the plan of its digests cannot be read; the next one is made anew", tenant.tenant_id)
            return _Plan(datetime.fromtimestamp(now, UTC).date().isoformat(), now - _DAY, now - _DAY, done=True)

    def _is_wanted(self, tenant: Tenant) -> bool:
        """Whether anybody's rules ask for one."""
        if self._rules.digest != "off":
            return True
        return any(name == "digest" and text != "off" for _, name, text in tenant.filter_rules.all_rules())

    def _digests(self, tenant_id: TenantId, plan: _Plan) -> list[_Digest]:
        """One for each reader, with what is held for him."""
        digests: dict[str, _Digest] = {}
        choices: dict[tuple[str, AccountId | None], str] = {}
        tenant = self._installation.tenant(tenant_id)
        logins = {row.account_id: row.login for row in tenant.accounts()}
        query = Query(state=HeldState.HELD, since=plan.since, until=plan.until)
        for message in self._quarantine.of(tenant_id).each(query):
            for key, recipients in self._readers(tenant, message, choices):
                if key not in digests:
                    made = self._reader(tenant_id, plan, key, recipients[0], logins)
                    if made is None:
                        continue
                    digests[key] = made
                digests[key].add(_item(message, recipients, administrators=key == ADMINISTRATORS))
        return list(digests.values())

    def _readers(
        self, tenant: Tenant, message: Withheld, choices: dict[tuple[str, AccountId | None], str]
    ) -> Iterator[tuple[str, list[HeldRecipient]]]:
        """Who is told of a message, each with the recipients that concern him."""
        readers: dict[str, list[HeldRecipient]] = {}
        for each in message.recipients:
            if each.state is not HeldState.HELD:
                continue
            whose = (each.address.domain.name, each.account_id)
            if whose not in choices:
                look = tenant.filter_rules.look(each.address.domain, each.account_id)
                choices[whose] = merged(self._rules, look.layers).digest
            if choices[whose] == ADMINISTRATORS:
                readers.setdefault(ADMINISTRATORS, []).append(each)
            elif choices[whose] == RECIPIENTS and each.account_id is not None:
                readers.setdefault(f"account {each.account_id}", []).append(each)
            elif choices[whose] == RECIPIENTS and each.onward.domain is not None:
                readers.setdefault(f"address {each.address.key}", []).append(each)
        yield from readers.items()

    def _reader(
        self,
        tenant_id: TenantId,
        plan: _Plan,
        key: str,
        recipient: HeldRecipient,
        logins: Mapping[AccountId, EmailAddress],
    ) -> _Digest | None:
        """A digest without messages yet; None if its reader is nowhere."""
        queue_id = plan.id_for(f"{key} of tenant {tenant_id}")
        if key == ADMINISTRATORS:
            return self._for_administrators(tenant_id, queue_id)
        if recipient.account_id is not None:
            login = logins.get(recipient.account_id)
            if login is None:
                return None
            to = Targets((MailboxTarget(tenant_id, recipient.account_id, ForwardPath(login)),))
            return _Digest(queue_id, login, to)
        domain = recipient.onward.domain
        assert domain is not None, "only what goes to a tenant's own server has a reader without an account"
        path = ForwardPath(recipient.address)
        routed = RoutedTarget(tenant_id, domain, recipient.onward.to or recipient.address, path)
        return _Digest(queue_id, recipient.address, Targets((), (), (routed,)))

    def _for_administrators(self, tenant_id: TenantId, queue_id: str) -> _Digest | None:
        """To the tenant's postmaster, wherever that leads."""
        domain = self._domain(tenant_id)
        if domain is None:
            return None
        address = EmailAddress("postmaster", domain)
        to = targets([(ForwardPath(address), self._resolver.resolve_here(address))], Suspended.TAKE)
        if not (to.mailboxes or to.remote or to.routed):
            return None
        return _Digest(queue_id, address, to, administrators=True)

    def _domain(self, tenant_id: TenantId) -> Domain | None:
        rows = self._installation.control.domains(tenant_id)
        return next((row.domain for row in rows if row.state is DomainState.VERIFIED), None)

    def _send(self, digest_: _Digest) -> None:
        """To mailboxes here at once; what leaves stands in the queue, on hold. What fails for one is logged."""
        clock = self._installation.clock
        sending = Sending(digest_.queue_id, self._hostname, clock.now(), digest_.address)
        data = digest(sending, digest_.items, digest_.total, administrators=digest_.administrators)
        utf8 = not digest_.address.is_ascii
        message = Message(
            digest_.queue_id,
            Origin.NOTICE,
            None,
            None,
            EnvelopeParameters(smtputf8=utf8, body="7BIT" if data.isascii() else "8BITMIME"),
            data,
            lambda _: b"",
            _RETRY_TIME,
            {"origin": Origin.NOTICE.value},
        )
        for to in _steps(digest_):
            try:
                if to.mailboxes:
                    self._keeping.keep(message, to)
                elif not self._is_queued(digest_.queue_id):
                    self._keeping.keep(replace(message, held=True), to)
            except CleanmailError as error:
                log.warning("a digest was not sent: %s", error.detail or type(error).__name__)

    def _is_queued(self, queue_id: str) -> bool:
        try:
            self._installation.queue.show(queue_id)
        except NotFound:
            return False
        return True


def _steps(digest_: _Digest) -> Iterable[Targets]:
    """Mailboxes one by one: each delivery is unique by itself; then all that leaves."""
    for each in digest_.to.mailboxes:
        yield Targets((each,))
    if digest_.leaves:
        yield replace(digest_.to, mailboxes=())


def _item(message: Withheld, recipients: list[HeldRecipient], *, administrators: bool) -> Item:
    return Item(
        message.quarantine_id,
        message.received,
        message.expires,
        message.author or str(message.sender or ""),
        message.subject,
        recipients[0].sentence,
        tuple(dict.fromkeys(str(each.address) for each in recipients)) if administrators else (),
    )
