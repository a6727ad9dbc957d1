"""Learns what people say of messages: each account's correction, its share in the tenant's, and the lessons themselves.

Everything that one call learns is in one commit, durable on return: vectors and lessons never disagree, and what is
said twice (a crash came between the commit and the note that it is done) is learned once. A lesson is taken back, to
the bit, by what is said to the contrary: first back to nothing, as if it had not been; who then says it again teaches
it. What agrees with how a message was filed in the first place teaches nothing, so neither the filter nor a mail
program that marks all it gets can make the filter believe itself.

Two that learn for one tenant at the same time both succeed, one after the other.

Raises: NotFound (the account), Unavailable (others kept learning), Corrupt, StorageFull; nothing was learned then.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum

from gateway.classifier.correction import (
    Contribution,
    Vector,
    apply,
    changed_aggregate,
    contribution,
    corrected,
    empty,
    lesson_step,
    pack,
    undo,
    unpack,
)
from gateway.classifier.features import Features, features_of
from gateway.classifier.model import Models
from gateway.learning.ordinary import MOST, Ordinary
from gateway.policy.rules import DEFAULT, Rules, merged
from storage.directory.tenant import Tenant
from storage.errors import Conflict, Corrupt, Gone, Unavailable
from storage.filter.corrections import Lesson
from storage.filter.reputation import VOICE, Subject
from storage.installation import Installation
from storage.mail.account import Account
from storage.values import AccountId, TenantId

LOOKED_AT = 512 * 1024  # octets of a message that features and identity come from
LESSONS_A_DAY = 200  # of one account; taking back is always possible

_TRIES = 20  # against other processes

_log = logging.getLogger("learning")


class Outcome(Enum):
    TAUGHT = "taught"
    TAKEN_BACK = "taken back"
    NOTHING = "nothing"  # it was known, or agrees with how the message was filed
    ENOUGH = "enough"  # the account has taught as much as it may today
    OFF = "off"  # the account's rules say that nothing is learned


@dataclass(frozen=True, slots=True)
class Learned:
    """What became of one opinion; the account's score of the message before and after it."""

    outcome: Outcome
    before: float = 0.0
    after: float = 0.0


@dataclass(frozen=True, slots=True)
class Said:
    """What a person says of a message (spam, not spam; None takes back what was said)."""

    message: bytes = field(repr=False)  # as it was received, without fields that we added; the beginning is enough
    spam: bool | None
    filed: bool | None = None  # where it was put in the first place: as spam, or not; None: somewhere else
    subjects: Sequence[Subject] = ()  # who sent it


def learn(
    installation: Installation,
    models: Models,
    tenant_id: TenantId,
    account_id: AccountId,
    message: bytes,
    spam: bool,
    *,
    subjects: Sequence[Subject] = (),
    rules: Rules = DEFAULT,
) -> Learned:
    """One message, of which the account's owner, or who acts for him, says so. `rules`: the installation's."""
    said = Said(message, spam, None, subjects)
    return _learn_one(installation, models, tenant_id, account_id, said, rules)


def _learn_one(
    installation: Installation,
    models: Models,
    tenant_id: TenantId,
    account_id: AccountId,
    said: Said,
    rules: Rules,
) -> Learned:
    tenant = installation.tenant(tenant_id)
    if not learns(tenant, account_id, rules):
        return Learned(Outcome.OFF)
    with installation.account(tenant_id, account_id) as account:
        ordinary = ordinary_mail(tenant, account)
    return learn_all(tenant, models, account_id, [said], ordinary, rules=rules)[0]


def ordinary_mail(tenant: Tenant, account: Account) -> Ordinary:
    """What people read and left where it was, the newest of it, unless they called it spam."""
    corrections = tenant.corrections
    found: list[Features] = []
    for message_id in account.messages.read_and_kept(MOST):
        with suppress(Gone, Corrupt):
            _, message = account.messages.read_original(message_id, LOOKED_AT)
            lesson = corrections.lesson(account.account_id, corrections.message_hash(message))
            if lesson is None or not lesson.spam:
                found.append(features_of(message))
    return Ordinary(found)


def learn_all(
    tenant: Tenant,
    models: Models,
    account_id: AccountId,
    said: Iterable[Said],
    ordinary: Ordinary,
    *,
    rules: Rules = DEFAULT,
) -> list[Learned]:
    """One outcome for each, in their order. `ordinary`: the account's, see `ordinary_mail`."""
    wanted = list(said)
    if not learns(tenant, account_id, rules):
        return [Learned(Outcome.OFF)] * len(wanted)
    features = [features_of(each.message[:LOOKED_AT]) for each in wanted]
    for _ in range(_TRIES):
        with tenant.corrections.learning:
            session = _Session(tenant, models, account_id, ordinary)
            learned = [session.take(each, its) for each, its in zip(wanted, features, strict=True)]
            try:
                session.write()
            except Conflict:  # another process was faster
                continue
        session.tell_reputation()
        return learned
    raise Unavailable(detail=f"tenant {tenant.tenant_id}: corrections change faster than they can be learned")


def learns(tenant: Tenant, account_id: AccountId, rules: Rules) -> bool:
    """Whether the account's rules let the filter learn from it."""
    domain = tenant.account(account_id).login.domain
    return merged(rules, tenant.filter_rules.look(domain, account_id).layers).learn


def renew_aggregate(tenant: Tenant) -> bool:
    """Make the tenant's aggregate anew of the accounts that are left, if that is to be done. True: it was.

    An account's row that cannot be read is left out and told, so that the others go on learning.
    """
    if not tenant.corrections.is_outdated():
        return False
    revision, vectors = tenant.corrections.every_account()
    try:
        tenant.corrections.renew(revision, pack(_sum(tenant.tenant_id, vectors)))
    except Conflict:  # who learned meanwhile has made it anew
        return False
    return True


class _Session:
    """An account and its tenant as they were found, what is learned one after the other, and what is to be written."""

    def __init__(self, tenant: Tenant, models: Models, account_id: AccountId, ordinary: Ordinary) -> None:
        self._tenant = tenant
        self._ordinary = ordinary
        self._corrections = tenant.corrections
        self._account_id = account_id
        self._model = models.current()
        self._seen = self._corrections.rows(account_id)
        self._taught = unpack(self._seen.taught) if self._seen.taught else empty()
        self._own = unpack(self._seen.own) if self._seen.own else empty()
        self._share = contribution(self._own)
        self._aggregate = self._read_aggregate()
        self._written: dict[bytes, Lesson | None] = {}
        self._in_force = self._seen.lessons
        self._today = self._corrections.learned_today(account_id)
        self._voices: dict[tuple[bytes, bool], int] = {}  # of this account, that count
        self._reputation: list[tuple[Subject, float, float]] = []

    def _read_aggregate(self) -> Contribution:
        if not self._seen.revisions.aggregate:
            return empty()
        with suppress(Corrupt):
            if self._seen.aggregate:
                return unpack(self._seen.aggregate)
        return _sum(self._tenant.tenant_id, self._corrections.every_account()[1])

    def take(self, said: Said, features: Features) -> Learned:
        """One opinion."""
        hash_ = self._corrections.message_hash(said.message[:LOOKED_AT])
        lesson = self._written[hash_] if hash_ in self._written else self._corrections.lesson(self._account_id, hash_)
        in_force = lesson is not None and lesson.step != 0.0
        before = self._score(features)
        if lesson is not None and lesson.spam == said.spam:
            outcome = Outcome.NOTHING
        elif lesson is not None and in_force:
            self._teach(undo(self._taught, features, lesson.step))
            self._in_force -= 1
            self._unsay(said.subjects, lesson)
            self._written[hash_] = None if said.spam is None else Lesson(hash_, said.spam, 0.0)
            outcome = Outcome.TAKEN_BACK
        elif said.spam is None or said.spam == said.filed:
            outcome = Outcome.NOTHING
        elif self._today >= LESSONS_A_DAY:
            outcome = Outcome.ENOUGH
        else:
            step = lesson_step(before, said.spam)
            self._teach(apply(self._taught, features, step))
            self._in_force += 1
            self._today += 1
            spoke = self._say(said.subjects, said.spam)
            self._written[hash_] = Lesson(hash_, said.spam, step, spoke=spoke)
            outcome = Outcome.TAUGHT
        return Learned(outcome, before, self._score(features))

    def _teach(self, taught: Vector) -> None:
        self._taught, self._own = taught, self._ordinary.without(taught)

    def _score(self, features: Features) -> float:
        shared = self._model.score(features) if self._model is not None else 0.0
        # What others taught does not change here: their part is the aggregate without the share that is in it.
        return corrected(shared, features, self._aggregate, self._own, self._share).total

    def _say(self, subjects: Sequence[Subject], spam: bool) -> tuple[bytes, ...]:
        """Counts for or against those of whom the account has not said it lately; their hashes."""
        spoke: list[bytes] = []
        for subject in subjects:
            hash_ = self._tenant.reputation.hash_of(subject)
            if not self._voices_about(hash_, spam):
                self._voices[hash_, spam] = 1
                self._weigh(subject, spam, 1.0)
                spoke.append(hash_)
        return tuple(spoke)

    def _unsay(self, subjects: Sequence[Subject], lesson: Lesson) -> None:
        """What is left of what the lesson said counts no more."""
        for subject in subjects:
            hash_ = self._tenant.reputation.hash_of(subject)
            if hash_ in lesson.spoke:
                self._voices[hash_, lesson.spam] = max(0, self._voices_about(hash_, lesson.spam) - 1)
                left = self._tenant.reputation.left_since(lesson.learned) if lesson.learned else 1.0
                self._weigh(subject, lesson.spam, -left)

    def _voices_about(self, hash_: bytes, spam: bool) -> int:
        known = self._voices.get((hash_, spam))
        if known is None:
            known = self._corrections.voices(self._account_id, hash_, VOICE, spam=spam)
        return known

    def _weigh(self, subject: Subject, spam: bool, count: float) -> None:
        self._reputation.append((subject, 0.0 if spam else count, count if spam else 0.0))

    def write(self) -> None:
        """Raises Conflict if somebody else learned for the account or its tenant meanwhile."""
        if not self._written:
            return
        aggregate = changed_aggregate(self._aggregate, self._share, contribution(self._own))
        self._corrections.replace(
            self._account_id,
            self._seen,
            own=pack(self._own),
            taught=pack(self._taught),
            aggregate=pack(aggregate),
            lessons=self._in_force,
            written=[lesson for lesson in self._written.values() if lesson is not None],
            forgotten=[hash_ for hash_, lesson in self._written.items() if lesson is None],
        )

    def tell_reputation(self) -> None:
        for subject, ham, spam in self._reputation:
            self._tenant.reputation.record([subject], ham=ham, spam=spam)


def _sum(tenant_id: TenantId, vectors: Iterable[tuple[AccountId, bytes]]) -> Contribution:
    """What the accounts contribute, of all whose vectors can be read."""
    aggregate = empty()
    for account_id, octets in vectors:
        try:
            own = unpack(octets)
        except Corrupt:
            _log.error("what account %d of tenant %d taught the filter cannot be read", account_id, tenant_id)
        else:
            aggregate = changed_aggregate(aggregate, empty(), contribution(own))
    return aggregate
