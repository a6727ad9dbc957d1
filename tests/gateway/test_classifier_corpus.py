"""Corpora in all the formats in which people have them, in the order in which their messages arrived."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.classifier.content import OCTETS_MAX
from gateway.classifier.corpus import Corpus, label_of
from storage.errors import InvalidInput

HAM = [b"Date: %d Jan 2024 12:00:00 +0000\nSubject: ham %d\n\nlunch\n" % (day, day) for day in (3, 1, 5)]
SPAM = [b"Date: %d Jan 2024 12:00:00 +0000\nSubject: spam %d\n\npills\n" % (day, day) for day in (2, 4)]
SUBJECTS = ["ham 1", "spam 2", "ham 3", "spam 4", "ham 5"]


def subjects(corpus: Corpus) -> list[str]:
    return [octets.split(b"Subject: ")[1].split(b"\n")[0].decode() for octets, _ in corpus.messages()]


def right(corpus: Corpus) -> bool:
    return all((b"Subject: spam" in octets) is is_spam for octets, is_spam in corpus.messages())


def write_folder(folder: Path, messages: list[bytes], suffix: str = ".eml") -> Path:
    folder.mkdir(parents=True)
    for number, octets in enumerate(messages):
        (folder / f"{number}{suffix}").write_bytes(octets)
    return folder


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, octets in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(octets)
            tar.addfile(member, io.BytesIO(octets))
    return path


def folders(tmp_path: Path) -> Path:
    write_folder(tmp_path / "c" / "easy_ham", HAM)
    write_folder(tmp_path / "c" / "spam_2", SPAM, suffix="")
    (tmp_path / "c" / "README").write_text("no mail")
    return tmp_path / "c"


def maildirs(tmp_path: Path) -> Path:
    for name, messages in (("ham", HAM), ("spam", SPAM)):
        (tmp_path / "c" / name / "new").mkdir(parents=True)
        write_folder(tmp_path / "c" / name / "cur", messages, suffix=":2,S")
    return tmp_path / "c"


def mboxes(tmp_path: Path) -> Path:
    (tmp_path / "c").mkdir()
    for name, messages in (("ham.mbox", HAM), ("spam.mbox", SPAM)):
        (tmp_path / "c" / name).write_bytes(b"".join(b"From \n" + octets + b"\n" for octets in messages))
    return tmp_path / "c"


INDEX = "ham ../data/h0\nHam ../data/h1\nspam ../data/s0\nspam ../data/s1\nham ../data/h2\nham ../data/missing\n"


def trec(tmp_path: Path) -> Path:
    (tmp_path / "c" / "full").mkdir(parents=True)
    (tmp_path / "c" / "full" / "index").write_text(INDEX)
    write_folder(tmp_path / "c" / "data", [])
    for letter, messages in (("h", HAM), ("s", SPAM)):
        for number, octets in enumerate(messages):
            (tmp_path / "c" / "data" / f"{letter}{number}").write_bytes(octets)
    return tmp_path / "c"


def trec_index(tmp_path: Path) -> Path:
    return trec(tmp_path) / "full" / "index"


def tar_with_index(tmp_path: Path) -> Path:
    members = {f"t/data/h{number}": octets for number, octets in enumerate(HAM)}
    members |= {f"t/data/s{number}": octets for number, octets in enumerate(SPAM)}
    return write_tar(tmp_path / "c.tar.gz", {**members, "t/full/index": INDEX.encode()})


def tar_of_folders(tmp_path: Path) -> Path:
    members = {f"t/hard_ham/{number}": octets for number, octets in enumerate(HAM)}
    members |= {f"t/spam/{number}": octets for number, octets in enumerate(SPAM)}
    return write_tar(tmp_path / "c.tar.gz", {**members, "t/spam/cmds": b"mv 1 2\n", "t/other/1": HAM[0]})


@pytest.mark.parametrize(
    "make",
    [folders, maildirs, mboxes, trec, trec_index, tar_with_index, tar_of_folders],
    ids=lambda make: make.__name__,
)
def test_a_corpus_is_read_whatever_its_format(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    told: list[int] = []
    with Corpus(progress=told.append) as corpus:
        corpus.add(make(tmp_path))
        assert (len(corpus), corpus.ham, corpus.spam) == (5, 3, 2)
        assert right(corpus)
        assert subjects(corpus) == SUBJECTS
        assert subjects(corpus) == SUBJECTS  # as often as one likes
        assert corpus.left_out == (0 if make in (folders, maildirs, mboxes) else 1)
    assert told == list(range(1, len(told) + 1))  # all that was read, also what is then left out


def test_archives_get_the_label_that_is_given(tmp_path: Path) -> None:
    with Corpus() as corpus:
        corpus.add_archive(write_folder(tmp_path / "a", HAM), is_spam=False)
        corpus.add_archive(write_folder(tmp_path / "b", SPAM), is_spam=True)
        assert subjects(corpus) == SUBJECTS
        assert right(corpus)


def test_the_line_of_an_mbox_comes_before_received_and_that_before_date(tmp_path: Path) -> None:
    messages = [
        b"Date: 1 Jan 2024 12:00:00 +0000\nSubject: third\n\n",
        b"Received: from a by b; 2 Jan 2020 12:00:00 +0000\nReceived: from c by a; 1 Jan 2030 1:00 +0000\n"
        b"Date: 1 Jan 2038 12:00:00 +0000\nSubject: second\n\n",
        b"From x Thu Jan  3 12:00:00 2019\nReceived: from a by b; 2 Jan 2028 12:00:00 +0000\nSubject: first\n\n",
    ]
    with Corpus() as corpus:
        corpus.add_archive(write_folder(tmp_path / "a", messages), is_spam=False)
        assert subjects(corpus) == ["first", "second", "third"]


def test_undated_messages_of_both_kinds_are_mixed(tmp_path: Path) -> None:
    with Corpus() as corpus:
        for label, word in ((False, b"ham"), (True, b"spam")):
            messages = [b"Subject: %s\n\n" % word] * 4
            corpus.add_archive(write_folder(tmp_path / word.decode(), messages), is_spam=label)
        order = [is_spam for _, is_spam in corpus.messages()]
    assert sorted(order[:4]) == [False, False, True, True]


def test_only_what_counts_of_a_message_is_kept(tmp_path: Path) -> None:
    with Corpus() as corpus:
        corpus.add_archive(write_folder(tmp_path / "a", [HAM[0] + b"x" * OCTETS_MAX]), is_spam=False)
        assert [len(octets) for octets, _ in corpus.messages()] == [OCTETS_MAX]


@pytest.mark.parametrize("octets", [b"", b"just a text\n", b"ham\nspam\n", b"From: a@example.test\n\nham and eggs\n"])
def test_what_is_no_corpus_is_refused(tmp_path: Path, octets: bytes) -> None:
    (tmp_path / "file").write_bytes(octets)
    with Corpus() as corpus, pytest.raises(InvalidInput, match="no corpus"):
        corpus.add(tmp_path / "file")


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "mail", HAM)
    with Corpus() as corpus, pytest.raises(InvalidInput, match="no corpus"):
        corpus.add(tmp_path / "mail")
    with Corpus() as corpus, pytest.raises(InvalidInput, match="There is nothing"):
        corpus.add(tmp_path / "none")


def test_a_damaged_tar_is_refused(tmp_path: Path) -> None:
    path = tar_with_index(tmp_path)
    path.write_bytes(path.read_bytes()[:-40])
    with Corpus() as corpus, pytest.raises(InvalidInput, match="cannot be read"):
        corpus.add(path)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        *((name, True) for name in ("spam", "Spam", "spam_2", "2002-spam.mbox", ".Spam")),
        *((name, False) for name in ("ham", "easy_ham", "easy_ham_2", "HAM.mbox")),
        *((name, None) for name in ("", "data", "hamburg", "shame", "spamassassin-public", "inbox")),
    ],
)
def test_names_that_say_what_is_in_them(name: str, label: bool | None) -> None:
    assert label_of(name) is label
