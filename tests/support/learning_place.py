"""One tenant with two accounts that teach its filter: real databases, no shared model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from directory_premises import Town, new_town

from gateway.classifier.correction import Contribution, Vector, contribution, empty, unpack
from gateway.classifier.features import features_of
from gateway.classifier.model import Models
from gateway.learning.corrections import Correction, Corrections
from gateway.learning.learn import Learned, Said, learn_all
from gateway.learning.ordinary import Ordinary
from gateway.policy.rules import DEFAULT, Rules
from storage.directory.rows import State
from storage.directory.tenant import Tenant
from storage.filter.reputation import Subject
from storage.values import AccountId


def letter(subject: str, body: str = "Dear friend, here is what we talked about.") -> bytes:
    return f"From: someone@far.test\r\nSubject: {subject}\r\n\r\n{body}\r\n".encode()


class LearningPlace:
    def __init__(self, town: Town) -> None:
        self.town = town
        self.tenant_id = town.tenant("one", "one.test")
        self.ann, self.bob = (town.account(self.tenant_id, f"{name}@one.test").account_id for name in ("ann", "bob"))
        self.models = Models(town.premises.data / "no model", town.premises.clock)
        self.corrections = Corrections()
        self.ordinary = Ordinary(())  # of each account here

    @property
    def tenant(self) -> Tenant:
        return self.town.premises.tenant(self.tenant_id)

    def say(
        self,
        account_id: AccountId,
        message: bytes,
        spam: bool | None,
        *,
        filed: bool | None = None,
        subjects: tuple[Subject, ...] = (),
        rules: Rules = DEFAULT,
    ) -> Learned:
        said = Said(message, spam, filed, subjects)
        return learn_all(self.tenant, self.models, account_id, [said], self.ordinary, rules=rules)[0]

    def look(self, account_id: AccountId | None) -> Correction:
        return self.corrections.look(self.tenant, account_id)

    def score(self, account_id: AccountId | None, message: bytes) -> float:
        return self.look(account_id).score(0.0, features_of(message)).total

    def taught(self, account_id: AccountId) -> Vector:
        rows = self.tenant.corrections.rows(account_id)
        return unpack(rows.taught) if rows.taught else empty()

    def own(self, account_id: AccountId) -> Vector:
        rows = self.tenant.corrections.rows(account_id)
        return unpack(rows.own) if rows.own else empty()

    def aggregate(self) -> Contribution:
        rows = self.tenant.corrections.rows(None)
        return unpack(rows.aggregate) if rows.aggregate else empty()

    def the_books_balance(self) -> bool:
        """The tenant's aggregate is the sum of what its accounts contribute."""
        total = empty()
        for _, octets in self.tenant.corrections.every_account()[1]:
            total = total + contribution(unpack(octets))
        return bool(np.array_equal(total, self.aggregate()))

    def end(self, account_id: AccountId) -> None:
        self.tenant.change_state(account_id, State.ENDED)
        self.tenant.remove_account(account_id)


@contextmanager
def new_learning_place(data: Path) -> Iterator[LearningPlace]:
    with new_town(data) as town:
        yield LearningPlace(town)
