"""The jobs role renews texts of an earlier version behind everything else, and always goes on with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from imap_town import MailTown, mail, new_mail_town
from prometheus_client import CollectorRegistry
from twisted.internet.task import Clock

from hosting.composition import Parts
from hosting.config import Config
from hosting.metrics import Metrics
from hosting.roles.jobs import Rounds
from storage.changes import Change
from storage.mail.search_index import TEXTS
from storage.values import AccountId, MailboxId, ModSeq

PEOPLE = ("alice@example.test", "bob@example.test")


def fill(town: MailTown, address: str, messages: int) -> None:
    with town.account(address) as account:
        inbox = account.mailboxes.find("INBOX")
        for number in range(messages):
            account.messages.append(inbox.id, mail(f"Message {number}"))


def renewed(town: MailTown) -> list[bool]:
    found = []
    for address in PEOPLE:
        with town.account(address) as account:
            found.append(account.index.is_renewed())
    return found


def test_texts_are_renewed_behind_everything_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.mail.search_index.BATCH", 2)
    with new_mail_town(tmp_path) as town:
        metrics = Metrics(CollectorRegistry())
        parts = Parts(
            Clock(), "jobs", 0, town.data, Config(), town.clock, [], town.keys, None, town.installation, metrics
        )
        rounds = Rounds(parts)
        for address in PEOPLE:
            fill(town, address, 5)
        assert renewed(town) == [True, True]  # they are new
        incarnations = town.data / "run" / "incarnations"
        (incarnations / "killed").touch()
        rounds._round(None, sweep=True)
        assert {each.name for each in incarnations.iterdir()} == {town.installation.incarnation.name}
        monkeypatch.setattr("storage.mail.search_index.TEXTS", TEXTS + 1)
        rounds._everybody = rounds._sweep_wanted = False
        owner = town.accounts[PEOPLE[0]][1]
        # There is always new mail, somebody else's; all the same it comes to an end.
        rounds._changed([Change(AccountId(4711), MailboxId(1), ModSeq(1))])
        rounds._round(None, sweep=False)
        assert renewed(town) == [False, False]
        for address in PEOPLE:
            with town.account(address) as account:
                assert account.index.unindexed() == 0
        for _ in range(12):
            rounds._round({owner}, sweep=False)
        assert renewed(town) == [True, True]
