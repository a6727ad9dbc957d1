r"""From a MOVE over IMAP to a score: opinions that people express, what the jobs role learns of them, and who is known.

Standards: RFC 6851 (MOVE), RFC 9051 §6.4.6, §6.4.7, RFC 6154 (\Junk).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from account_ending import end_account
from imap_play import CoreClient
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from gateway.classifier.correction import BOUND
from gateway.classifier.features import features_of
from gateway.classifier.model import Models
from gateway.learning.corrections import Corrections
from gateway.learning.learn import Outcome
from gateway.mx.header import Client, authentication_results, received
from gateway.policy.rules import DEFAULT
from hosting.learning_round import AT_ONCE, LearningRound
from storage.delivery import Delivery, deliver
from storage.directory.tenant import Tenant
from storage.filter.reputation import Counts
from storage.filter.rules import of_account
from storage.values import AccountId, Domain, TenantId, UidSet

ALICE, BOB = "alice@example.test", "bob@example.test"
OFFER = mail("Cheap pills", sender="Shop <offers@shop.example>", body="Buy our cheap pills today, no prescription.\r\n")
SIMILAR = mail("Cheap pills now", sender="Shop <o@shop.example>", body="Buy cheap pills today, no prescription.\r\n")
NOTE = mail("Minutes", sender="Carl <carl@far.example>", body="Here are the minutes of Tuesday's meeting.\r\n")


class LearningTown:
    def __init__(self, town: MailTown) -> None:
        self.town = town
        self.installation = town.installation
        models = Models(town.data / "no model", town.clock)
        self.round = LearningRound(self.installation, models, DEFAULT)
        self.corrections = Corrections()
        self._delivered = 0

    def ids(self, address: str = ALICE) -> tuple[TenantId, AccountId]:
        return self.town.accounts[address]

    @property
    def tenant(self) -> Tenant:
        return self.installation.tenant(self.ids()[0])

    def deliver(self, message: bytes, *, as_spam: bool = False, results: tuple[str, ...] = ()) -> None:
        """As the MX does it."""
        tenant_id, account_id = self.ids()
        target = Delivery(account_id, "Junk", keywords=("$Junk",)) if as_spam else Delivery(account_id)
        self._delivered += 1
        number = f"q{self._delivered}"
        client = Client("192.0.2.7", "mx.shop.example", "mx.shop.example", "ESMTPS")
        prefix = received(client, "mx.here.test", number, 0, None) + authentication_results("mx.here.test", *results)
        [outcome] = deliver(self.installation, tenant_id, [target], message, prefix, number)
        assert outcome.delivered

    def imap(self, *commands: str) -> None:
        """What alice does."""
        client = CoreClient(self.town.services)
        for number, command in enumerate((f'LOGIN {ALICE} "{PASSWORD}"', *commands)):
            client.send(f"t{number} {command}\r\n".encode())
            answer = client.receive(1)[-1]
            assert answer.startswith(f"t{number} OK "), answer
        client.close()

    def learn(self, address: str = ALICE) -> dict[Outcome, int]:
        return self.round.learn(*self.ids(address))

    def score(self, message: bytes, address: str = ALICE) -> float:
        correction = self.corrections.look(self.tenant, self.ids(address)[1])
        return correction.score(0.0, features_of(message)).total


@pytest.fixture
def town(tmp_path: Path) -> Iterator[LearningTown]:
    with new_mail_town(tmp_path) as mail_town:
        yield LearningTown(mail_town)


INTO_JUNK = ("SELECT INBOX", "UID MOVE 1:* Junk")
OUT_OF_JUNK = ("SELECT Junk", "UID MOVE 1:* INBOX")


def test_what_is_moved_into_junk_is_learned_and_what_is_moved_back_is_not(town: LearningTown) -> None:
    town.deliver(OFFER)
    assert town.learn() == {}
    town.imap(*INTO_JUNK)
    assert town.learn() == {Outcome.TAUGHT: 1}
    assert town.score(SIMILAR) > 1.0
    assert town.score(NOTE) < town.score(SIMILAR)
    assert 0.0 < town.score(SIMILAR, BOB) <= BOUND
    assert town.learn() == {}
    town.imap(*OUT_OF_JUNK)
    assert town.learn() == {Outcome.TAKEN_BACK: 1}
    assert town.score(SIMILAR) == town.score(SIMILAR, BOB) == 0.0


def test_what_all_mail_to_somebody_has_in_common_is_not_learned(town: LearningTown) -> None:
    """Only spam is ever pointed out; mail that was read and left where it was is not drawn along."""
    for number in range(20):
        town.deliver(mail(f"Minutes {number}", sender="Carl <carl@far.example>", body="Here are the minutes.\r\n"))
    town.imap("SELECT INBOX", "UID STORE 1:* +FLAGS (\\Seen)")
    for number in range(10):
        town.deliver(mail(f"Cheap pills {number}", sender="Shop <o@shop.example>", body=f"Buy {number} pills now.\r\n"))
    town.imap("SELECT INBOX", "UID MOVE 21:* Junk")
    assert town.learn() == {Outcome.TAUGHT: 10}
    assert town.score(SIMILAR) > 1.0
    assert town.score(NOTE) < 0.6


def test_what_is_marked_where_it_lies_is_not_ordinary(town: LearningTown) -> None:
    """Programs that mark spam and leave it in the inbox, where its owner has read it."""
    town.deliver(OFFER)
    town.imap("SELECT INBOX", "UID STORE 1 +FLAGS (\\Seen $Junk)")
    assert town.learn() == {Outcome.TAUGHT: 1}
    assert town.score(SIMILAR) > 1.0


def test_moved_there_and_back_before_anybody_looked(town: LearningTown) -> None:
    town.deliver(OFFER)
    town.imap(*INTO_JUNK, *OUT_OF_JUNK)
    assert town.learn() == {Outcome.NOTHING: 1}
    assert town.score(SIMILAR) == 0.0


def test_what_the_filter_filed_itself_teaches_nothing_until_somebody_takes_it_out(town: LearningTown) -> None:
    town.deliver(NOTE, as_spam=True)
    assert town.learn() == {}
    town.imap("SELECT Junk", "UID STORE 1 +FLAGS (Junk)")  # a mail program agrees
    assert town.learn() == {Outcome.NOTHING: 1}
    town.imap(*OUT_OF_JUNK)
    assert town.learn() == {Outcome.TAUGHT: 1}
    assert town.score(NOTE) < -1.0


def test_a_mail_program_that_marks_all_it_gets_teaches_nothing(town: LearningTown) -> None:
    for message in (OFFER, SIMILAR, NOTE):
        town.deliver(message)
    town.imap("SELECT INBOX", "UID STORE 1:* +FLAGS (NonJunk)")
    assert town.learn() == {Outcome.NOTHING: 3}
    town.imap("SELECT INBOX", "UID STORE 1 +FLAGS (Junk)", "UID STORE 1 -FLAGS (NonJunk)", "UID MOVE 1 Junk")
    assert town.learn() == {Outcome.TAUGHT: 1}
    # "Not junk" in Thunderbird: both keywords, and the way back, with a look of the jobs role in between.
    town.imap("SELECT Junk", "UID STORE 1 +FLAGS (NonJunk)", "UID STORE 1 -FLAGS (Junk)")
    assert town.learn() == {Outcome.TAKEN_BACK: 1}
    town.imap(*OUT_OF_JUNK)
    assert town.learn() == {Outcome.NOTHING: 1}
    assert town.score(SIMILAR) == 0.0


def test_a_mark_in_junk_that_is_taken_away_again(town: LearningTown) -> None:
    town.deliver(NOTE, as_spam=True)
    town.imap("SELECT Junk", "UID STORE 1 -FLAGS ($Junk)", "UID STORE 1 +FLAGS (NonJunk)")
    assert town.learn() == {Outcome.TAUGHT: 1}
    town.imap("SELECT Junk", "UID STORE 1 -FLAGS (NonJunk)")
    assert town.learn() == {Outcome.TAKEN_BACK: 1}
    assert town.score(NOTE) == 0.0


def test_thrown_away_spam_stays_spam(town: LearningTown) -> None:
    town.deliver(OFFER)
    town.imap(*INTO_JUNK)
    town.learn()
    town.imap("SELECT Junk", "UID MOVE 1 Trash")
    assert town.learn() == {}
    assert town.score(SIMILAR) > 1.0
    town.imap("SELECT Trash", "UID STORE 1 +FLAGS (\\Deleted)", "UID EXPUNGE 1")
    assert town.score(SIMILAR) > 1.0


def test_what_was_appended_was_filed_by_who_appended_it(town: LearningTown) -> None:
    with town.town.account() as account:
        for name in ("INBOX", "Junk"):
            account.messages.append(account.mailboxes.find(name).id, OFFER if name == "Junk" else NOTE)
    town.imap("SELECT INBOX", "UID MOVE 1 Junk", "SELECT Junk", "UID MOVE 1:2 Archive")
    assert town.learn() == {Outcome.NOTHING: 1, Outcome.TAUGHT: 1}
    assert town.score(OFFER) < -1.0


def test_a_message_that_is_gone_teaches_nothing(town: LearningTown) -> None:
    town.deliver(OFFER)
    town.imap(*INTO_JUNK, "SELECT Junk", "UID STORE 1 +FLAGS (\\Deleted)", "EXPUNGE")
    town.installation.background.settle()
    assert town.learn() == {}
    with town.town.account() as account:
        assert account.opinions.waiting(10) == []


def test_who_does_not_want_it_teaches_nothing(town: LearningTown) -> None:
    town.tenant.filter_rules.set_rule(of_account(town.ids()[1]), "learn", "off")
    town.deliver(OFFER)
    town.imap(*INTO_JUNK)
    assert town.learn() == {Outcome.OFF: 1}
    assert town.learn() == {}
    assert town.score(SIMILAR) == 0.0


def test_many_are_learned_in_batches_until_the_role_stops(town: LearningTown) -> None:
    with town.town.account() as account:
        inbox, junk = (account.mailboxes.find(name).id for name in ("INBOX", "Junk"))
        for number in range(AT_ONCE + 10):
            account.messages.append(inbox, mail(f"Offer {number}"))
        account.messages.move(inbox, UidSet(((1, 1000),)), junk)
    looks = iter((False, True))
    assert town.round.learn(*town.ids(), lambda: next(looks)) == {Outcome.TAUGHT: AT_ONCE}
    assert town.learn() == {Outcome.TAUGHT: 10}


def test_what_is_said_twice_is_learned_once(town: LearningTown) -> None:
    town.deliver(OFFER)
    town.imap(*INTO_JUNK)
    town.learn()
    own = town.tenant.corrections.rows(town.ids()[1]).own
    town.imap("SELECT Junk", "UID STORE 1 +FLAGS ($Junk)")
    assert town.learn() == {Outcome.NOTHING: 1}
    assert town.tenant.corrections.rows(town.ids()[1]).own == own


def test_people_speak_for_and_against_the_sender_that_proved_itself(town: LearningTown) -> None:
    town.deliver(OFFER, results=("dkim=pass header.d=shop.example header.s=s", "spf=fail smtp.mailfrom=victim.example"))
    town.imap(*INTO_JUNK)
    town.learn()
    town.tenant.reputation.flush()
    against = Counts(0.0, 1.0)
    assert town.tenant.reputation.look(Domain("shop.example"), "192.0.2.99") == (against, against)
    assert town.tenant.reputation.look(Domain("victim.example"), "")[0] == Counts()


def test_nothing_is_left_of_an_account(town: LearningTown) -> None:
    town.deliver(OFFER)
    town.imap(*INTO_JUNK)
    town.learn()
    tenant_id, account_id = town.ids()
    assert town.score(OFFER, BOB) > 0.0
    end_account(town.town.installation, tenant_id, account_id)
    assert town.score(OFFER, BOB) == 0.0
    town.learn(BOB)
    assert not town.tenant.corrections.is_outdated()
    assert town.score(OFFER, BOB) == 0.0
    assert town.tenant.corrections.every_account()[1] == []


def test_another_tenant_learns_nothing(town: LearningTown) -> None:
    town.deliver(OFFER)
    town.imap(*INTO_JUNK)
    town.learn()
    tenant_id, account_id = town.ids("mallory@other.test")
    correction = town.corrections.look(town.installation.tenant(tenant_id), account_id)
    assert correction.score(0.0, features_of(OFFER)).total == 0.0
    assert not np.any(correction.aggregate)
