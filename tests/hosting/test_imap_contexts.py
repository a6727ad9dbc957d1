"""Searches that are kept up to date: RFC 5267, with the multi-session view, QRESYNC and what a client may not do."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from imap_play import CoreClient, play
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from hosting.imap.searching import contexts
from storage.mail.messages import NewMessage

SUBJECTS = ("delta", "alpha", "charlie", "bravo", "echo", "foxtrot")


@pytest.fixture
def town(tmp_path: Path) -> Iterator[MailTown]:
    with new_mail_town(tmp_path) as made:
        deliver(made, *SUBJECTS)
        yield made


def deliver(town: MailTown, *subjects: str) -> None:
    """What somebody else brings."""
    with town.account() as account:
        inbox = account.mailboxes.find("INBOX")
        account.messages.append_many(inbox.id, [NewMessage(mail(subject)) for subject in subjects])


def client(town: MailTown, before: str = "") -> CoreClient:
    made = CoreClient(town.services)
    made.send(f'x LOGIN alice@example.test "{PASSWORD}"\r\n{before}y SELECT INBOX\r\n'.encode())
    assert made.receive(0)[-1].startswith("y OK")
    return made


def ask(one: CoreClient, command: str) -> list[str]:
    one.send(command.encode() + b"\r\n")
    return one.receive(0)


def test_rfc_5267_4_3_additions_and_removals(town: MailTown) -> None:
    """§4.3.3, §4.3.4: by number and by UID, what leaves before its EXPUNGE, what arrives after its EXISTS."""
    one = client(town)
    play(
        one,
        """
        C: a SEARCH RETURN (UPDATE ALL) SEEN
        S: * ESEARCH (TAG "a")
        S: a OK …
        C: b UID SEARCH RETURN (UPDATE COUNT) NOT SEEN
        S: * ESEARCH (TAG "b") UID COUNT 6
        S: b OK …
        C: c STORE 1:2,5 +FLAGS.SILENT (\\Seen)
        S: * ESEARCH (TAG "a") ADDTO (0 1:2,5)
        S: * ESEARCH (TAG "b") UID REMOVEFROM (0 1:2,5)
        S: c OK …
        C: d STORE 1 -FLAGS.SILENT (\\Seen)
        S: * ESEARCH (TAG "a") REMOVEFROM (0 1)
        S: * ESEARCH (TAG "b") UID ADDTO (0 1)
        S: d OK …
        C: e STORE 2,4 +FLAGS.SILENT (\\Deleted)
        S: e OK …
        C: f EXPUNGE
        S: * ESEARCH (TAG "a") REMOVEFROM (0 2)
        S: * ESEARCH (TAG "b") UID REMOVEFROM (0 4)
        S: * 2 EXPUNGE
        S: * 3 EXPUNGE
        S: f OK …
        """,
    )
    deliver(town, "golf")
    play(
        one,
        """
        C: g NOOP
        S: * 5 EXISTS
        S: * 2 RECENT
        S: * ESEARCH (TAG "b") UID ADDTO (0 7)
        S: g OK …
        C: h CANCELUPDATE "a"
        S: h OK …
        C: i STORE 5 +FLAGS.SILENT (\\Seen)
        S: * ESEARCH (TAG "b") UID REMOVEFROM (0 7)
        S: i OK …
        C: j CANCELUPDATE "b"
        S: j OK …
        C: k STORE 5 -FLAGS.SILENT (\\Seen)
        S: k OK …
        """.replace("S: * 2 RECENT", "S: * …"),
    )


def test_rfc_5267_4_3_1_refusals(town: MailTown, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tag in use is BAD; one context too many is answered, but not updated; what is not there is not cancelled."""
    monkeypatch.setattr(contexts, "CONTEXTS", 2)
    one = client(town)
    play(
        one,
        """
        C: a SEARCH RETURN (UPDATE) SEEN
        S: * ESEARCH (TAG "a")
        S: a OK …
        C: a SORT RETURN (UPDATE) (DATE) UTF-8 SEEN
        S: a BAD …
        C: b SORT RETURN (UPDATE COUNT) (SUBJECT) UTF-8 ALL
        S: * ESEARCH (TAG "b") COUNT 6
        S: b OK …
        C: c SEARCH RETURN (UPDATE COUNT) ALL
        S: * ESEARCH (TAG "c") COUNT 6
        S: * NO [NOUPDATE "c"] …
        S: c OK …
        C: d CANCELUPDATE "c"
        S: d BAD …
        C: e CANCELUPDATE "a" "zz"
        S: e BAD …
        C: f CANCELUPDATE
        S: f BAD …
        C: g CANCELUPDATE "a" "b"
        S: g OK …
        C: h SEARCH RETURN (UPDATE COUNT) ALL
        S: * ESEARCH (TAG "h") COUNT 6
        S: h OK …
        C: i SORT RETURN (UPDATE COUNT) (RELEVANCY) UTF-8 FUZZY SUBJECT alpha
        S: * ESEARCH (TAG "i") COUNT 1
        S: * NO [NOUPDATE "i"] …
        S: i OK …
        """,
    )
    monkeypatch.setattr(contexts, "RESULTS", 10)
    assert ask(one, "j SEARCH RETURN (UPDATE COUNT) ALL")[1].startswith('* NO [NOUPDATE "j"]')


def test_rfc_5267_4_3_updates_end_with_the_mailbox(town: MailTown) -> None:
    one = client(town)
    ask(one, "a SEARCH RETURN (UPDATE) SEEN")
    ask(one, "b UNSELECT")
    ask(one, "c SELECT INBOX")
    assert ask(one, "d STORE 1 +FLAGS.SILENT (\\Seen)") == ["d OK Stored."]
    assert ask(one, "e CANCELUPDATE a")[0].startswith("e BAD")
    assert ask(one, "f UNSELECT")[0].startswith("f OK")
    assert ask(one, 'g CANCELUPDATE "a"')[0].startswith("g BAD")


def test_rfc_5267_context_sort_positions(town: MailTown) -> None:
    """CONTEXT=SORT: new results are told with the place where they belong, those that leave with the one they had."""
    one = client(town)
    assert ask(one, "a UID SORT RETURN (UPDATE ALL) (SUBJECT) UTF-8 UNDELETED")[0] == (
        '* ESEARCH (TAG "a") UID ALL 2,4,3,1,5:6'
    )
    deliver(town, "bravado", "aaa", "zulu")
    assert ask(one, "b NOOP")[-2] == '* ESEARCH (TAG "a") UID ADDTO (2 7 1 8 9 9)'
    assert ask(one, "c UID STORE 8,1 +FLAGS.SILENT (\\Deleted)")[0] == '* ESEARCH (TAG "a") UID REMOVEFROM (6 1 1 8)'
    told = ask(one, "d EXPUNGE")
    assert told == ["* 1 EXPUNGE", "* 7 EXPUNGE", told[-1]]
    assert ask(one, "e UID SORT (SUBJECT) UTF-8 ALL")[0] == "* SORT 2 7 4 3 5 6 9"


def test_numbers_mean_what_they_meant(town: MailTown) -> None:
    """RFC 5267 §4.3: message numbers are those of the time of the search; "*" of a UID range has no end."""
    one = client(town)
    two = client(town)
    ask(one, "a UID SEARCH RETURN (UPDATE) 2:3 SEEN")
    ask(one, "b UID SEARCH RETURN (UPDATE) UID 6:* UNFLAGGED")
    ask(two, "c STORE 1 +FLAGS (\\Deleted)")
    ask(two, "d EXPUNGE")
    ask(one, "e NOOP")
    assert ask(one, "f STORE 1:5 +FLAGS.SILENT (\\Seen)")[0] == '* ESEARCH (TAG "a") UID ADDTO (0 2:3)'
    deliver(town, "new")
    assert ask(one, "g NOOP")[-2] == '* ESEARCH (TAG "b") UID ADDTO (0 7)'


def test_what_others_do_is_told(town: MailTown) -> None:
    """Flags at the next answer, expunges where they may be told (RFC 9051 §7.5.1), new mail at once."""
    one, two = client(town), client(town)
    ask(one, "a SEARCH RETURN (UPDATE) OR FLAGGED SUBJECT bravo")
    ask(two, "b STORE 1,4 +FLAGS (\\Flagged)")
    ask(two, "c STORE 4 +FLAGS (\\Deleted)")
    ask(two, "d EXPUNGE")
    assert ask(one, "e FETCH 2 (UID)")[-2:] == ['* ESEARCH (TAG "a") ADDTO (0 1)', "e OK Fetched."]
    told = ask(one, "f NOOP")
    assert told[:2] == ['* ESEARCH (TAG "a") REMOVEFROM (0 4)', "* 4 EXPUNGE"]
    deliver(town, "Bravo!")
    told = ask(one, "g STORE 2 +FLAGS.SILENT (\\Seen)")
    assert told[0] == "* 6 EXISTS"
    assert '* ESEARCH (TAG "a") ADDTO (0 6)' in told


def test_in_idle(town: MailTown) -> None:
    one = client(town)
    ask(one, 'a SEARCH RETURN (UPDATE) SUBJECT "needle"')
    ask(one, "b IDLE")
    deliver(town, "a needle", "hay")
    one.look()
    assert one.receive(0)[-1] == '* ESEARCH (TAG "a") ADDTO (0 7)'
    deliver(town, *["needle and hay"] * 40)
    one.look()
    assert one.receive(0)[-1] == '* ESEARCH (TAG "a") ADDTO (0 9:48)'
    assert ask(one, "DONE") == ["b OK Idle ended."]


@pytest.mark.parametrize("before", ["", "q ENABLE QRESYNC\r\n", "q ENABLE IMAP4rev2\r\n"])
def test_a_client_that_applies_the_updates_has_what_a_new_search_finds(town: MailTown, before: str) -> None:
    """Seeded changes by two sessions; four contexts, applied as RFC 5267 §4.3.3 and §4.3.4 say."""
    dice = random.Random(before)
    one, two = client(town, before), client(town)
    programs = {
        "s1": ("UID SEARCH RETURN (UPDATE ALL)", "OR FLAGGED SUBJECT a"),
        "s2": ("UID SEARCH RETURN (UPDATE ALL)", "SEEN KEYWORD work"),
        "s3": ("UID SORT RETURN (UPDATE ALL) (REVERSE SUBJECT) UTF-8", "UNFLAGGED"),
        "s4": ("UID SORT RETURN (UPDATE ALL) (SIZE SUBJECT) UTF-8", "NOT KEYWORD work"),
    }
    state: dict[str, list[int]] = {}
    for tag, (command, key) in programs.items():
        state[tag] = _results(ask(one, f"{tag} {command} {key}"))

    def take(lines: list[str]) -> None:
        for line in lines:
            match = re.match(r'\* ESEARCH \(TAG "(s\d)"\) UID (.*)', line)
            if match:
                _apply(state[match[1]], match[2])

    for step in range(60):
        who = dice.choice((one, two))
        match dice.randrange(6):
            case 0:
                deliver(town, *[dice.choice(SUBJECTS) + str(step) for _ in range(dice.randrange(1, 30))])
            case 1:
                take(_only(one, who, ask(who, f"t{step} STORE * +FLAGS.SILENT (\\Deleted)")))
                take(_only(one, who, ask(who, f"u{step} EXPUNGE")))
            case _:
                uids = sorted(dice.sample(range(1, 80), 8))
                sign, flag = dice.choice("+-"), dice.choice(("\\Seen", "\\Flagged", "work"))
                take(_only(one, who, ask(who, f"t{step} UID STORE {','.join(map(str, uids))} {sign}FLAGS ({flag})")))
        take(ask(one, f"n{step} NOOP"))
        if step % 5 == 4:
            for number, (tag, (command, key)) in enumerate(programs.items()):
                again = _results(ask(one, f"r{step}x{number} {command.replace('UPDATE ', '')} {key}"))
                assert state[tag] == again, (step, tag)


def _only(one: CoreClient, who: CoreClient, lines: list[str]) -> list[str]:
    return lines if who is one else []


def _expanded(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        low, _, high = part.partition(":")
        found += range(int(low), int(high or low) + 1)
    return found


def _results(lines: list[str]) -> list[int]:
    match = re.search(r" ALL ([\d:,]+)", lines[0])
    return _expanded(match[1]) if match else []


def _apply(results: list[int], items: str) -> None:
    for item, pairs in re.findall(r"(ADDTO|REMOVEFROM) \(([^)]*)\)", items):
        words = pairs.split()
        for place, names in zip(words[::2], words[1::2], strict=True):
            at = int(place)
            for uid in _expanded(names):
                if item == "ADDTO":
                    results.insert(at - 1 if at else len(results), uid)
                    at += bool(at)
                elif at:
                    assert results.pop(at - 1) == uid
                else:
                    results.remove(uid)
            if not at:
                results.sort()


def test_notify_says_whether_new_mail_is_told(town: MailTown) -> None:
    """RFC 5465 §3.1 goes before: who asked for nothing hears of no new messages, of his searches he does."""
    one, two = client(town), client(town)
    ask(one, "a SEARCH RETURN (UPDATE) FLAGGED")
    assert ask(one, "b NOTIFY NONE")[-1].startswith("b OK")
    deliver(town, "new")
    ask(two, "c STORE 2 +FLAGS.SILENT (\\Flagged)")
    told = ask(one, "d NOOP")
    assert '* ESEARCH (TAG "a") ADDTO (0 2)' in told and not any("EXISTS" in line for line in told)


def test_a_search_of_saved_results_that_saves_is_kept_with_those_that_were_there(town: MailTown) -> None:
    """RFC 5267 §4.3, RFC 5182 §2.1: "$" is what it was when the search began."""
    one, other = client(town), client(town)
    ask(other, "a STORE 2 +FLAGS (\\Seen)")
    ask(one, "a SEARCH RETURN (SAVE) 1:3")
    assert ask(one, "b SEARCH RETURN (SAVE UPDATE ALL) $ UNSEEN")[0] == '* ESEARCH (TAG "b") ALL 1,3'
    ask(other, "b STORE 2 -FLAGS (\\Seen)")
    assert '* ESEARCH (TAG "b") ADDTO (0 2)' in ask(one, "c NOOP")
    ask(one, "d SEARCH RETURN (SAVE) 1:3")
    ask(one, "e ESEARCH IN (selected) RETURN (SAVE UPDATE) $ FLAGGED")
    ask(other, "c STORE 2 +FLAGS (\\Flagged)")
    assert [line.rpartition(" ADDTO ")[2] for line in ask(one, "f NOOP") if '"e"' in line] == ["(0 2)"]


@pytest.mark.parametrize("command", ["SEARCH", "SORT"])
def test_rfc_5182_2_1_bad_leaves_what_is_saved_and_no_does_not(town: MailTown, command: str) -> None:
    one = client(town)
    order = " (DATE) UTF-8" if command == "SORT" else ""
    ask(one, "a SEARCH RETURN (SAVE) 1:3")
    ask(one, "b SEARCH RETURN (UPDATE) ALL")
    assert ask(one, f"b {command} RETURN (SAVE UPDATE){order} 4")[-1].startswith("b BAD")
    assert ask(one, "c SEARCH RETURN (COUNT) $")[0] == '* ESEARCH (TAG "c") COUNT 3'
    assert ask(one, f"d {command} RETURN (SAVE){order} FILTER nowhere")[-1].startswith("d NO [UNDEFINED-FILTER")
    assert ask(one, "e SEARCH RETURN (COUNT) $")[0] == '* ESEARCH (TAG "e") COUNT 0'


@pytest.mark.parametrize("command", ["COMPRESS DEFLATE", "CREATE New", "SEARCH ALL"])
def test_a_command_is_answered_once_though_the_mailbox_was_deleted_meanwhile(town: MailTown, command: str) -> None:
    """What is done is done: the next command that looks at the mailbox learns that it is gone."""
    with town.account() as account:
        account.mailboxes.create("Box")
    one = client(town)
    ask(one, "a SELECT Box")
    ask(one, "b SEARCH RETURN (UPDATE) ALL")
    with town.account() as account:
        account.mailboxes.delete("Box")
    assert [line[:4] for line in ask(one, f"c {command}") if line != "* SEARCH"] == ["c OK"]
    assert ask(one, "d NOOP")[0].startswith("d NO [NONEXISTENT]")
