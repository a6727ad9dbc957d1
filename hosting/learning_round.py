"""The jobs role learns from what the owner of an account said of messages: those that wait in the account's database.

An opinion is forgotten there when what it taught is durable in the tenant's database. A crash in between repeats it,
and it is learned once all the same (`gateway.learning.learn`). Blocking: it runs in the thread of the jobs role, after
the account was indexed. A message that is gone teaches nothing.

Raises: NotFound, Gone, Unavailable and others of the account and its tenant; what was not learned waits.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.classifier.model import Models
from gateway.learning.experience import subjects_of
from gateway.learning.learn import LOOKED_AT, Outcome, Said, learn_all, learns, ordinary_mail, renew_aggregate
from gateway.learning.ordinary import Ordinary
from gateway.policy.rules import Rules
from gateway.quarantine.digest import is_digest
from storage.errors import Corrupt, Gone
from storage.installation import Installation
from storage.mail.account import Account
from storage.mail.opinions import SPAM_KEYWORDS, Waiting
from storage.values import AccountId, TenantId

log = logging.getLogger("learning")

AT_ONCE = 50  # messages that are learned in one commit


class LearningRound:
    def __init__(self, installation: Installation, models: Models, rules: Rules) -> None:
        """`rules`: the installation's."""
        self._installation = installation
        self._models = models
        self._rules = rules

    def learn(
        self, tenant_id: TenantId, account_id: AccountId, stopping: Callable[[], bool] = lambda: False
    ) -> dict[Outcome, int]:
        """All opinions of one account, until `stopping`: how many had which outcome."""
        outcomes: dict[Outcome, int] = {}
        tenant = self._installation.tenant(tenant_id)
        renew_aggregate(tenant)
        with self._installation.account(tenant_id, account_id) as account:
            ordinary: Ordinary | None = None
            while not stopping():
                waiting = account.opinions.waiting(AT_ONCE)
                if not waiting:
                    break
                # Once: of a move of thousands it would be read anew for each batch.
                if ordinary is None and learns(tenant, account_id, self._rules):
                    ordinary = ordinary_mail(tenant, account)
                for outcome in self._learn(account, waiting, ordinary):
                    outcomes[outcome] = outcomes.get(outcome, 0) + 1
                account.opinions.settle(waiting)
        if outcomes:
            counted = ", ".join(f"{count} {outcome.value}" for outcome, count in outcomes.items())
            log.info("account %d of tenant %d was learned from: %s", account_id, tenant_id, counted)
        return outcomes

    def _learn(self, account: Account, waiting: list[Waiting], ordinary: Ordinary | None) -> list[Outcome]:
        """`ordinary`: None if nothing is to be learned."""
        if ordinary is None:
            return [Outcome.OFF] * len(waiting)
        tenant = self._installation.tenant(account.tenant_id)
        junk = account.opinions.junk_names()
        said = [each for each in (_said(account, one, junk) for one in waiting) if each is not None]
        learned = learn_all(tenant, self._models, account.account_id, said, ordinary, rules=self._rules)
        return [each.outcome for each in learned]


def _said(account: Account, waiting: Waiting, junk: set[str]) -> Said | None:
    """None: the message is gone, or cannot be read, which others find and tell."""
    try:
        meta, data = account.messages.read_original(waiting.message_id, LOOKED_AT)
    except (Gone, Corrupt):
        return None
    if is_digest(data):  # made here: what people do with a list of withheld mail says nothing of mail
        return None
    # The first place that it was put into: by the filter, or by whoever appended it.
    filed = meta.mailbox in junk or any(name.casefold() in SPAM_KEYWORDS for name in meta.keywords)
    return Said(data, waiting.opinion.value, filed, subjects_of(meta.prefix))
