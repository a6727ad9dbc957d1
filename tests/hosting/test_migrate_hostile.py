"""A source server that lies, breaks off and talks nonsense: a clear outcome, no crash, and what can be had is here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from accounts import AccountPlace
from other_server import CUT, Box, Kept, Lie, OtherServer, held, letters

from hosting.migration import client
from hosting.migration.account import migrate
from hosting.migration.report import Progress, Report
from hosting.migration.run import Orders
from hosting.migration.source import Login, Source
from storage.errors import AuthenticationFailed, InvalidInput, Unavailable
from storage.mail.quota import Limits

LOGIN = Login("ada", lambda: "secret")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[AccountPlace]:
    place = AccountPlace(tmp_path / "data")
    yield place
    place.close()


def pull(place: AccountPlace, server: OtherServer, **orders: Any) -> Report:
    source = Source("127.0.0.1", server.port, tls=False)
    waited: list[float] = []
    report = migrate(place.account, source, LOGIN, Orders(**orders), run=place.data / "run", wait=waited.append)
    assert len(waited) < 100
    return report


def octets(kept: list[Kept]) -> list[bytes]:
    return [each.octets for each in kept]


def bodies(command: bytes) -> bool:
    return b"BODY.PEEK[]" in command


# Breaking off


@pytest.mark.parametrize("answers", [*range(1, 28, 2), *range(28, 34)])
def test_a_connection_that_is_cut_after_so_many_answers(place: AccountPlace, answers: int) -> None:
    kept = letters(9)
    with OtherServer({b"INBOX": Box(7, kept)}) as server:
        server.drop_after = answers
        try:
            report = pull(place, server)
        except Unavailable:  # nobody was ever signed in
            assert server.connections == 1
        else:
            if report.is_complete:
                assert held(place.account) == octets(kept)
            else:
                assert report.stopped or report.total("missing")
        first = len(held(place.account))
        server.drop_after = 0
        assert pull(place, server).is_complete
        assert sorted(held(place.account)) == sorted(octets(kept))
    assert answers < 28 or first == 9  # before the first body come 26 other answers


def test_what_came_before_the_break_is_not_asked_for_again(place: AccountPlace) -> None:
    with OtherServer({b"INBOX": Box(7, letters(30))}) as server:
        given: list[bytes] = []

        def lie(command: bytes, answers: list[bytes]) -> list[bytes]:
            if not bodies(command):
                return answers
            given.extend(answers[:7])
            return [*answers[:7], b"* BYE too much\r\n", CUT] if len(answers) > 8 else answers

        server.lie = lie
        report = pull(place, server)
    assert report.is_complete and report.connections >= 4
    assert len(held(place.account)) == 30


def test_a_message_that_breaks_every_connection_is_skipped_and_all_others_come(place: AccountPlace) -> None:
    kept = letters(12)

    def lie(command: bytes, answers: list[bytes]) -> list[bytes]:
        if not bodies(command):
            return answers
        cut = next((number for number, each in enumerate(answers) if b" (UID 5 " in each), None)
        return answers if cut is None else [*answers[:cut], answers[cut][:40], CUT]

    with OtherServer({b"INBOX": Box(7, kept), b"Work": Box(8, letters(3))}) as server:
        server.lie = lie
        report = pull(place, server)
        assert not report.is_complete and not report.stopped
        [inbox, work] = report.folders
        assert (inbox.there, inbox.here, inbox.missing, work.here) == (12, 11, 1, 3)
        assert list(inbox.skipped) == ["the connection broke whenever it was asked for"]
        server.lie = lambda command, answers: answers
        assert pull(place, server).is_complete
    assert sorted(held(place.account)) == sorted(octets(kept))


# Lying


def _other_uids(command: bytes, answers: list[bytes]) -> list[bytes]:
    return [each.replace(b"UID 3 ", b"UID 4000 ") for each in answers] if bodies(command) else answers


def _nil(command: bytes, answers: list[bytes]) -> list[bytes]:
    return [b"* 3 FETCH (UID 3 BODY[] NIL)\r\n" if b"UID 3 " in each else each for each in answers]


def _twice(command: bytes, answers: list[bytes]) -> list[bytes]:
    return [*answers[:-1], *answers[:-1], b"* 1 FETCH (FLAGS (\\Deleted))\r\n", b"* 77 EXISTS\r\n", answers[-1]]


def _nonsense(command: bytes, answers: list[bytes]) -> list[bytes]:
    if not bodies(command):
        return answers
    return [b"* 1 FETCH (((((\r\n", b"* 2 FETCH ENVELOPE\r\n", b"* 1 FETCH (UID x BODY[] {3}\r\nabc)\r\n", *answers]


def _deep(command: bytes, answers: list[bytes]) -> list[bytes]:
    return [b"* 1 FETCH " + b"(" * 100_000 + b"\r\n", *answers] if bodies(command) else answers


def _reordered(command: bytes, answers: list[bytes]) -> list[bytes]:
    return [*reversed(answers[:-1]), answers[-1]]


def _quoted(command: bytes, answers: list[bytes]) -> list[bytes]:
    return [b'* 3 FETCH (UID 3 BODY[] "7")\r\n' if b"UID 3 BODY[]" in each else each for each in answers]


def _huge_literal(command: bytes, answers: list[bytes]) -> list[bytes]:
    huge = b"* 3 FETCH (UID 3 BODY[] {99999999999}\r\nabc"
    return [huge if b"UID 3 BODY[]" in each else each for each in answers]  # it goes on as if nothing were wrong


def _endless(command: bytes, answers: list[bytes]) -> list[bytes]:
    return [b"* 3 FETCH (FLAGS (a" + b"a" * 70_000 + b"))\r\n"] * 100 if b"UID 3 BODY" in b"".join(answers) else answers


def _wrong_size(command: bytes, answers: list[bytes]) -> list[bytes]:
    return [each.replace(b"RFC822.SIZE ", b"RFC822.SIZE 4") for each in answers]


@pytest.mark.parametrize(
    ("lie", "complete"),
    [(_other_uids, False), (_nil, False), (_twice, True), (_nonsense, True), (_deep, True), (_reordered, True),
     (_huge_literal, False), (_endless, False), (_wrong_size, True), (_quoted, True)],
)  # fmt: skip
def test_a_server_that_lies_about_its_messages(place: AccountPlace, lie: Lie, complete: bool) -> None:
    kept = letters(8)
    with OtherServer({b"INBOX": Box(7, kept)}) as server:
        server.lie = lie
        report = pull(place, server)
        expected = [each for each in octets(kept) if complete or b"token-3" not in each]
        if lie is _quoted:
            expected[2] = b"7"
        assert sorted(held(place.account)) == sorted(expected)
        assert report.is_complete == complete and not report.stopped
        assert sum(report.folders[0].skipped.values()) == (0 if complete else 1)
        server.lie = lambda command, answers: answers
        assert pull(place, server).is_complete
    assert len(held(place.account)) == 8


def test_uidvalidity_that_changes_amid(place: AccountPlace) -> None:
    kept = letters(20)
    box = Box(7, kept)
    with OtherServer({b"INBOX": box}) as server:

        def lie(command: bytes, answers: list[bytes]) -> list[bytes]:
            if bodies(command) and box.uidvalidity == 7:
                box.uidvalidity = 8
                box.messages = [Kept(each.uid + 100, each.octets, each.flags) for each in reversed(kept)]
                return [*answers[:5], b"* BYE rebuilt\r\n", CUT]
            return answers

        server.lie = lie
        report = pull(place, server)
        assert report.is_complete
        assert report.total("present") == 5 and sorted(held(place.account)) == sorted(octets(kept))
        # Told in the middle of a connection, without a word more.
        box.messages.append(Kept(500, b"Subject: new\r\n\r\n"))
        told: list[bytes] = []

        def tell(command: bytes, answers: list[bytes]) -> list[bytes]:
            if bodies(command) and not told:
                told.append(b"* OK [UIDVALIDITY 9] again\r\n")
                return [*told, *answers]
            return answers

        server.lie = tell
        assert pull(place, server).is_complete
    assert len(held(place.account)) == 21


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b'* LIST () "/" "x%d"\r\n' * 1, ""),
        (b"* LIST (((\r\n", ""),
        (b'* LIST () NIL {4}\r\na\r\nb\r\n', "cannot be asked for"),
        (b'* LIST () "/" NIL\r\n* LIST () "/" 12\r\n', ""),
    ],
)  # fmt: skip
def test_names_that_are_none(place: AccountPlace, answer: bytes, said: str) -> None:
    boxes = {b"INBOX": Box(7, letters(2)), b"12": Box(9), b"x%d": Box(9)}
    with OtherServer(boxes) as server:
        server.lie = lambda command, answers: [answer, *answers] if command.startswith(b"LIST") else answers
        report = pull(place, server)
    assert next(each for each in report.folders if each.folder == "INBOX").here == 2
    assert report.is_complete == (not said)
    assert said in "".join(each.failed for each in report.folders)


def test_names_in_whatever_octets(place: AccountPlace) -> None:
    names = {
        "Entwürfe/größer".encode(): "Entwürfe/größer",
        b"caf\xe9": "café",
        b"&AOQ-": "ä",
        b"&bad": "&bad",
        b"..": "__",
        b"a/../b": "a/__/b",
        b'q"\\q': 'q"\\q',
        b"x*y": "x_y",
        b"x%y": "x_y (2)",
    }
    with OtherServer(
        {name.replace(b"\\", b"\\\\").replace(b'"', b'\\"'): Box(7, letters(1)) for name in names}
    ) as server:
        server.boxes |= {name: Box(7, letters(1)) for name in names}
        for name in list(server.boxes):
            if name not in names:
                del server.boxes[name]
        server.lie = lambda command, answers: (
            [each.replace(b'q"\\q', b'q\\"\\\\q') for each in answers] if command.startswith(b"LIST") else answers
        )
        report = pull(place, server)
    assert report.is_complete, report.values()
    assert {each.mailbox for each in report.folders} == set(names.values())
    assert all(len(held(place.account, name)) == 1 for name in names.values())


def test_a_list_without_an_end(place: AccountPlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FOLDERS_MAX", 100)
    monkeypatch.setattr(client, "_LIST_MAX", 200_000)
    with OtherServer({b"INBOX": Box(7, letters(2))}) as server:
        many = b"".join(b'* LIST () "/" "f%d"\r\n' % number for number in range(101))
        server.lie = lambda command, answers: [many, *answers] if command.startswith(b"LIST") else answers
        report = pull(place, server)
        assert "more than 100 folders" in report.stopped and report.folders == []
        for endless in (b'* LIST () "/" "' + b"f" * 500_000, b'* LIST () "/" "f"\r\n' * 20_000):
            server.lie = lambda command, answers, line=endless: (
                [line, *answers] if command.startswith(b"LIST") else answers
            )  # fmt: skip
            assert "Run it again later to go on." in pull(place, server).stopped


def test_a_server_that_never_lets_anybody_in(place: AccountPlace) -> None:
    with OtherServer({b"INBOX": Box(7)}) as server:
        server.lie = lambda command, answers: [b"* BYE later\r\n", CUT] if command.startswith(b"AUTH") else answers
        with pytest.raises(Unavailable, match=rf"127.0.0.1:{server.port} cannot be used: It ended the connection."):
            pull(place, server)
        assert server.connections == 1
        for answer in (b"NO [AUTHENTICATIONFAILED] ada secret is wrong", b"NO no"):
            server.lie = lambda command, answers, answer=answer: (
                [answers[-1].split(b" ")[0] + b" " + answer + b"\r\n"] if command.startswith(b"AUTH") else answers
            )  # fmt: skip
            with pytest.raises(AuthenticationFailed) as refused:
                pull(place, server)
            assert "secret" not in refused.value.public


def test_a_wait_for_the_next_connection_is_told_before_it(place: AccountPlace) -> None:
    told: list[Progress] = []
    waited: list[float] = []

    def wait(seconds: float) -> None:
        assert told[-1].waits == seconds
        waited.append(seconds)
        if len(waited) == 2:
            server.lie = lambda command, answers: answers

    with OtherServer({b"INBOX": Box(7, letters(2))}) as server:
        server.lie = lambda command, answers: [CUT] if command.startswith(b"EXAMINE") else answers
        source = Source("127.0.0.1", server.port, tls=False)
        report = migrate(place.account, source, LOGIN, Orders(), run=place.data / "run", tell=told.append, wait=wait)
    assert report.is_complete and waited == [1.0, 2.0]
    assert [f"after {seconds} seconds" in note for seconds, note in zip((1, 2), report.notes, strict=True)] == [
        True
    ] * 2


def test_a_server_that_does_not_encrypt_gets_no_password() -> None:
    with pytest.raises(InvalidInput, match="on this machine"):
        Source("192.0.2.1", 993, verify=False)


# What stops


def test_a_full_mailbox_stops_it_and_more_room_lets_it_go_on(place: AccountPlace) -> None:
    kept = letters(10, 1000)
    with OtherServer({b"INBOX": Box(7, kept), b"Work": Box(8, letters(2))}) as server:
        place.account.limits = Limits(4500, 0)
        report = pull(place, server)
        assert "Raise the quota" in report.stopped and not report.is_complete
        assert len(held(place.account)) == 4
        assert [each.failed for each in report.folders] == ["the move stopped before it was through"] * 2
        place.account.limits = Limits(0, 0)
        report = pull(place, server)
    assert report.is_complete and (report.total("pulled"), report.folders[0].here) == (8, 10)
    assert held(place.account) == octets(kept)
