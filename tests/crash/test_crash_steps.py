"""A writer is killed at each of its steps; whatever was acknowledged is there once, and nothing is half there.

The operations run on real storage in forks of a process without connections (`crash_child.py`), which die at their 1st,
2nd, 3rd … fsync, rename, link, unlink, write or COMMIT until one gets through. After each death this process opens the
accounts anew, as a server does that was started again, looks at what is there, sweeps, and checks.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import crash_town
import pytest
from crash_town import ADDRESSES, AWAY, FAR, WHOSE, mail
from pending import deliver_pending
from whole_server import environment

from storage.check import check_account
from storage.files.durable import EXIT_FSYNC_FAILED
from storage.installation import Installation
from storage.mail.account import Account
from storage.sweep import sweep_account
from storage.values import UID_MAX, TenantId, UidSet

ALICE = "alice@one.test"
STEPS_MAX = 300  # a bound for the test, not for the server


class Writer:
    """The fork server and what its forks say."""

    def __init__(self, data: Path) -> None:
        command = [sys.executable, str(Path(__file__).with_name("crash_child.py")), str(data)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment())

    def begin(self, operation: str, stop: int, **request: Any) -> None:
        self._say({"operation": operation, "stop": stop, **request})

    def run(self, operation: str, stop: int, **request: Any) -> tuple[bool, dict[str, Any] | None]:
        """Whether it got through, and what it acknowledged before it ended."""
        self.begin(operation, stop, **request)
        return self.end()

    def end(self) -> tuple[bool, dict[str, Any] | None]:
        acknowledged: dict[str, Any] | None = None
        while True:
            words = self.hear()
            acknowledged = words.get("acknowledged", acknowledged)
            if "ended" in words:
                assert words["ended"] in (0, -signal.SIGKILL, EXIT_FSYNC_FAILED)
                return words["ended"] == 0, acknowledged

    def until_end(self) -> dict[str, Any]:
        """All that it said, together."""
        said: dict[str, Any] = {}
        while "ended" not in said:
            said |= self.hear()
        return said

    def go_on(self) -> None:
        self._say({})

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the fork server ended"
        words: dict[str, Any] = json.loads(line)
        return words

    def _say(self, words: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words).encode() + b"\n")
        self._process.stdin.flush()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@dataclass
class Seen:
    """What was ever seen of one mailbox: numbers that must not come again with another meaning."""

    uidvalidity: int
    uidnext: int = 0
    highest: int = 0
    tokens: dict[int, str] = field(default_factory=dict)  # of each UID there ever was
    modseqs: dict[int, int] = field(default_factory=dict)


class Witness:
    """Opens the accounts after a death, and remembers."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self._seen: dict[tuple[str, int], Seen] = {}
        self.uids: dict[tuple[str, str], dict[str, list[int]]] = {}  # account and mailbox: the UIDs of each token

    def look(self, *, whole: bool = False) -> dict[str, Counter[tuple[str, str]]]:
        """By account, how often each (mailbox, token) is there. Everything that must always hold is asserted.

        A message's octets are read when it is first seen at its UID, and again if `whole`.
        """
        with crash_town.opened(self.data, later=True) as installation:
            deliver_pending(installation)  # as the queue role does when it starts, and each minute
            for tenant_id in (TenantId(1), TenantId(2)):
                installation.queue.sweep(tenant_id, installation.incarnation.is_alive)
            return {address: self._account(installation, address, whole) for address in ADDRESSES}

    def _account(self, installation: Installation, address: str, whole: bool) -> Counter[tuple[str, str]]:
        found: Counter[tuple[str, str]] = Counter()
        with installation.account(*WHOSE[address]) as account:
            sweep_account(account, installation.incarnation)
            installation.background.settle()
            for mailbox in account.mailboxes.list():
                self._mailbox(account, address, mailbox, found, whole)
            assert list(account.maildir.names("tmp")) == []
            assert list(account.maildir.names("new")) == []
            findings = list(check_account(account, installation.incarnation, contents=whole))
            assert findings == []
        return found

    def _mailbox(
        self, account: Account, address: str, mailbox: Any, found: Counter[tuple[str, str]], whole: bool
    ) -> None:
        view = account.views.load(mailbox.id)
        uids, modseqs = list(view.uids), list(view.modseqs)
        rows = account.messages.fetch_rows(mailbox.id, 1, UID_MAX, ("uid", "message_id", "size"))
        assert [row[0] for row in rows] == uids
        assert (mailbox.messages, mailbox.bytes) == (len(rows), sum(row[2] for row in rows))
        seen = self._seen.setdefault((address, mailbox.id), Seen(mailbox.uidvalidity))
        assert mailbox.uidvalidity == seen.uidvalidity
        tokens: dict[str, list[int]] = {}
        for (uid, message_id, _), modseq in zip(rows, modseqs, strict=True):
            token = "" if whole else seen.tokens.get(uid, "")
            if not token:
                octets = account.messages.read_message(message_id)
                token = octets.partition(b"Subject: ")[2].partition(b"\r\n")[0].decode()
                assert octets.endswith(mail(token, 200_000 if token.startswith("large") else 3000))
            tokens.setdefault(token, []).append(uid)
            found[mailbox.name, token] += 1
            assert seen.tokens.setdefault(uid, token) == token, "a UID was issued twice"
            if seen.modseqs.get(uid) != modseq:
                assert modseq > seen.highest, "a modseq was issued twice"
                seen.modseqs[uid] = modseq
        new = [uid for uid in uids if uid >= seen.uidnext]
        assert all(uid in seen.tokens for uid in new) and mailbox.uidnext > max(uids, default=0)
        assert mailbox.uidnext >= seen.uidnext and mailbox.highest_modseq >= max(modseqs, default=0)
        assert mailbox.highest_modseq >= seen.highest
        seen.uidnext, seen.highest = mailbox.uidnext, mailbox.highest_modseq
        self.uids[address, mailbox.name] = tokens

    def queued(self) -> Counter[str]:
        """How often each token waits in the queue for the recipient elsewhere."""
        waiting: Counter[str] = Counter()
        with crash_town.opened(self.data) as installation:
            for summary in installation.queue.entries():
                entry = installation.queue.show(summary.queue_id)
                octets = installation.queue.content(entry)
                assert [str(recipient.address) for recipient in entry.recipients if not recipient.state.settled] == [
                    FAR
                ]
                waiting[octets.partition(b"Subject: ")[2].partition(b"\r\n")[0].decode()] += 1
            for tenant_id in (1, 2):
                files = list((self.data / "tenants" / str(tenant_id) / "spool").rglob("*"))
                entries = installation.queue.entries(tenant=TenantId(tenant_id))
                assert sum(file.is_file() for file in files) == len(entries)
        return waiting

    def fill(self, tokens: list[str]) -> None:
        """Messages in alice's INBOX, not by the writer under test."""
        with crash_town.opened(self.data) as installation, installation.account(*WHOSE[ALICE]) as account:
            for token in tokens:
                account.messages.append(account.mailboxes.find("INBOX").id, mail(token))


@dataclass
class Town:
    writer: Writer
    witness: Witness


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    data = tmp_path_factory.mktemp("crash")
    crash_town.make(data)
    writer = Writer(data)
    try:
        yield Town(writer, Witness(data))
    finally:
        writer.close()


def deaths(town: Town) -> Iterator[int]:
    """Steps from the first on; whoever iterates leaves when the operation got through."""
    yield from range(1, STEPS_MAX)
    raise AssertionError("the operation never got through")


@pytest.mark.parametrize("size", [3000, 200_000], ids=["small", "large"])
def test_append_is_there_once_or_not_at_all(town: Town, size: int) -> None:
    for stop in deaths(town):
        token = f"{'large' if size > 3000 else 'small'}-append-{stop}"
        through, acknowledged = town.writer.run("append", stop, token=token, size=size)
        count = town.witness.look()[ALICE]["INBOX", token]
        if acknowledged is not None:
            assert town.witness.uids[ALICE, "INBOX"][token] == [acknowledged["uid"]]
        else:
            assert count <= 1
        if through:
            assert acknowledged is not None and stop > 8
            return


def test_an_append_of_several_is_there_whole_or_not_at_all(town: Town) -> None:
    for stop in deaths(town):
        tokens = [f"some-{stop}-{number}" for number in range(3)]
        through, acknowledged = town.writer.run("append_some", stop, tokens=tokens)
        found = town.witness.look()[ALICE]
        copies = [found["INBOX", token] for token in tokens]
        assert copies in ([[1, 1, 1]] if acknowledged else [[0, 0, 0], [1, 1, 1]])
        if through:
            assert acknowledged is not None and stop > 16
            return


def test_one_of_the_old_and_the_new_is_there_when_a_message_is_replaced(town: Town) -> None:
    standing = "replaced-0"
    town.witness.fill([standing])
    town.witness.look()
    for stop in deaths(town):
        new = f"replaced-{stop}"
        uid = town.witness.uids[ALICE, "INBOX"][standing][0]
        through, acknowledged = town.writer.run("replace", stop, uid=uid, token=new)
        found = town.witness.look()[ALICE]
        copies = found["INBOX", standing], found["INBOX", new]
        assert copies == (0, 1) if acknowledged else copies in ((1, 0), (0, 1))
        standing = new if found["INBOX", new] else standing
        if through:
            assert acknowledged is not None and stop > 8
            return


def test_submission_to_one_mailbox_is_there_once_when_it_was_acknowledged(town: Town) -> None:
    for stop in deaths(town):
        token = f"one-{stop}"
        through, acknowledged = town.writer.run("deliver", stop, token=token, recipients=["bob@one.test"])
        found = town.witness.look()
        assert found["bob@one.test"]["INBOX", token] in ((1,) if acknowledged else (0, 1))
        assert not town.witness.queued()[token]
        if through:
            assert stop > 8
            return


def test_submission_to_many_is_for_all_or_for_nobody_and_never_twice(town: Town) -> None:
    recipients = ["bob@one.test", "alice@one.test", "mallory@two.test", FAR]
    for stop in deaths(town):
        token = f"many-{stop}"
        through, acknowledged = town.writer.run("deliver", stop, token=token, recipients=recipients)
        found = town.witness.look()
        copies = [found[address]["INBOX", token] for address in ADDRESSES] + [town.witness.queued()[token]]
        assert copies in ([[1, 1, 1, 1]] if acknowledged else [[0, 0, 0, 0], [1, 1, 1, 1]])
        if through:
            assert stop > 20
            return


def test_mail_from_elsewhere_is_there_once_when_it_was_acknowledged(town: Town) -> None:
    for stop in deaths(town):
        token = f"mx-one-{stop}"
        through, acknowledged = town.writer.run("accept", stop, token=token, recipients=["bob@one.test"])
        found = town.witness.look()
        assert found["bob@one.test"]["INBOX", token] in ((1,) if acknowledged else (0, 1))
        assert not town.witness.queued()[token]
        if through:
            assert stop > 8
            return


def test_mail_from_elsewhere_to_many_is_for_all_or_for_nobody_and_never_twice(town: Town) -> None:
    recipients = ["bob@one.test", AWAY, "alice+tag@one.test", "mallory@two.test", "alice@one.test"]
    for stop in deaths(town):
        token = f"mx-many-{stop}"
        through, acknowledged = town.writer.run("accept", stop, token=token, recipients=recipients)
        found = town.witness.look()
        copies = [found[address]["INBOX", token] for address in ADDRESSES] + [town.witness.queued()[token]]
        assert copies in ([[1, 1, 1, 1]] if acknowledged else [[0, 0, 0, 0], [1, 1, 1, 1]])
        if through:
            assert stop > 20
            return


def test_move_is_in_one_mailbox_or_the_other(town: Town) -> None:
    tokens = ["move-1", "move-2", "move-3"]
    town.witness.fill(tokens)
    town.witness.look()
    source, target = "INBOX", "Archive"
    for stop in deaths(town):
        uids = [town.witness.uids[ALICE, source][token][0] for token in tokens]
        request = {"source": source, "target": target, "uids": uids}
        through, acknowledged = town.writer.run("move", stop, **request)
        found = town.witness.look()[ALICE]
        there = [found[target, token] for token in tokens]
        assert [found[source, token] + found[target, token] for token in tokens] == [1, 1, 1]
        assert len(set(there)) == 1 and (acknowledged is None or there == [1, 1, 1])
        if acknowledged is not None:
            moved = dict(acknowledged["pairs"])
            assert [town.witness.uids[ALICE, target][token][0] for token in tokens] == [moved[uid] for uid in uids]
        if through:
            return
        if there == [1, 1, 1]:
            source, target = target, source


def test_expunge_removes_for_good_and_nothing_else(town: Town) -> None:
    for stop in deaths(town):
        tokens = [f"expunge-{stop}-{n}" for n in range(3)]
        town.witness.fill([*tokens, f"stays-{stop}"])
        town.witness.look()
        uids = [town.witness.uids[ALICE, "INBOX"][token][0] for token in tokens]
        through, acknowledged = town.writer.run("expunge", stop, source="INBOX", uids=uids)
        found = town.witness.look()[ALICE]
        left = {found["INBOX", token] for token in tokens}
        assert found["INBOX", f"stays-{stop}"] == 1
        assert left == {0} if acknowledged is not None else left in ({0}, {1})
        if through:
            assert stop > 4
            return


def test_a_sweep_that_is_killed_is_finished_by_the_next(town: Town) -> None:
    before = town.witness.look()[ALICE]
    for stop in deaths(town):
        for died in (1, 3, 5, 6, 7, 8):  # at different steps, so that there is rubbish of every kind
            town.writer.run("append", died, token=f"rubbish-{stop}-{died}", size=3000)
        through, _ = town.writer.run("sweep", stop)
        found = town.witness.look()[ALICE]
        assert before - found == Counter()
        if through:
            assert stop > 2
            return


@pytest.mark.parametrize("operation", ["append", "deliver"])
def test_the_sweep_leaves_a_living_writers_files_alone(town: Town, operation: str) -> None:
    """The writer halts at each of its steps while another process sweeps; then it goes on and succeeds."""
    for stop in deaths(town):
        token = f"halted-{operation}-{stop}"
        town.writer.begin(operation, stop, at="halt", token=token, size=3000, recipients=["alice@one.test", FAR])
        words = town.writer.hear()
        if "halted" not in words:
            assert stop > 8
            town.writer.end()
            return
        with crash_town.opened(town.witness.data) as installation:
            installation.queue.sweep(TenantId(1), installation.incarnation.is_alive)
            with installation.account(*WHOSE[ALICE]) as account:
                sweep_account(account, installation.incarnation)
        town.writer.go_on()
        through, acknowledged = town.writer.end()
        assert through and acknowledged is not None
        assert town.witness.look()[ALICE]["INBOX", token] == 1
        assert town.witness.queued()[token] == (operation == "deliver")


def test_a_disk_that_is_full_for_one_step_refuses_for_now_and_keeps_nothing(town: Town) -> None:
    """ENOSPC at each call: what was refused is not there, so whoever sends it again has it once."""
    for operation, recipients in (
        ("append", []),
        ("deliver", [ALICE]),
        ("deliver", [ALICE, "bob@one.test", FAR]),
        ("accept", [ALICE]),
        ("accept", [ALICE, "mallory@two.test", AWAY]),
    ):
        refusals = 0
        for stop in deaths(town):
            token = f"full-{operation}-{len(recipients)}-{stop}"
            request = {"token": token, "size": 3000, "recipients": recipients}
            town.writer.begin(operation, stop, at="full", **request)
            said = town.writer.until_end()
            found = town.witness.look()
            count = found[ALICE]["INBOX", token]
            if "acknowledged" in said:
                assert count == 1
            elif "refused" in said:
                assert count == 0 and said["temporary"]
                refusals += 1
            else:  # a directory could not be fsynced: the process must not go on
                assert said["ended"] == EXIT_FSYNC_FAILED and count <= 1
            assert town.witness.queued()[token] == (len(recipients) > 1 and count)
            if said.get("steps", stop) < stop:
                break
        assert refusals > 2


def test_what_is_left_at_the_end_is_whole(town: Town) -> None:
    """All deaths of this module went over the same accounts: nothing is swept that should not be, UIDs go on."""
    found = town.witness.look(whole=True)
    assert all(count == 1 for address in ADDRESSES for count in found[address].values())
    with crash_town.opened(town.witness.data) as installation, installation.account(*WHOSE[ALICE]) as account:
        inbox = account.mailboxes.find("INBOX")
        done = account.messages.append(inbox.id, mail("last"))
        assert done.uid == inbox.uidnext and done.modseq > inbox.highest_modseq
        account.messages.expunge(inbox.id, UidSet.of([done.uid]), only_deleted=False)
