"""scripts/books on a small corpus: what the whole server accepted is all accounted for, and in the right form."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import books
import pytest
from books_traffic import Message, corpus

PROGRAM = (
    "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nLook at this.\n--b\n"
    "Content-Type: application/octet-stream; name=game.exe\n"
    "Content-Disposition: attachment; filename=game.exe\n\nMZ and so on\n--b--\n"
)
SPAM = "\nCheap pills, cheap watches! Buy now, click here.\n"


def written(folder: Path) -> Path:
    """Messages as archives have them: LF, an mbox line, a Return-Path; one too long a line, one with a lone CR; a
    program and spam for a mailbox, for the next hop, and for both.
    """
    folder.mkdir()
    for number in range(60):
        body = "x" * 3000 if number == 9 else "a lone\rCR" if number == 12 else f".\n..\nFrom {number}\n"
        rest = PROGRAM if number in (14, 20, 21) else SPAM if number in (34, 40, 41) else f"\n{body}\nGrüße\n"
        text = f"From x@y Mon\nReturn-Path: <x@y.test>\nSubject: {number}\n{rest}"
        (folder / f"{number:03}").write_text(text, newline="")
    return folder


def lesson() -> list[Message]:
    """Enough for verdicts that count."""
    ham = [f"Subject: {n}\r\n\r\n.\r\n..\r\nFrom {n}\r\n\r\nGrüße\r\n".encode() for n in range(1000)]
    spam = [f"Subject: {n}\r\n{SPAM}".replace("\n", "\r\n").encode() for n in range(1000)]
    return [Message(n, octets, n >= len(ham)) for n, octets in enumerate(ham + spam)]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("smtp-sink"), reason="smtp-sink (package postfix) is not installed")
def test_the_books_balance_with_what_is_withheld_and_without(tmp_path: Path) -> None:
    messages = corpus(written(tmp_path / "corpus"))
    with tempfile.TemporaryDirectory(prefix="cleanmail-books-") as folder:
        Path(folder).chmod(0o755)  # for the sink, which runs as nobody
        with books.town(Path(folder)) as town:
            books.teach(town.server, lesson())
            command = ("filter", "policy", "set", "quarantine_at", "never", "--account", "u0@kept.test")
            to_junk = town.server.cleanmail(*command)
            assert to_junk.returncode == 0, to_junk.stderr
            found = books.balance(town, messages, 4)
            released = books.release(town, found)
    assert found.wrong == released.wrong == []
    assert {name: (count, released.counts[name][0]) for name, (count, _) in found.counts.items()} == {
        "accepted": (71, 71),
        "delivered": (26, 29),
        "forwarded": (32, 36),
        "queued": (3, 3),
        "bounced": (1, 3),
        "not bounced": (0, 0),
        "quarantined": (9, 0),
    }
    assert found.notes["refused for a lone CR"] == 1
    assert found.notes["folded for the next hop, text the same"] == 1
    assert found.notes["of those delivered in Junk"] == 1
    assert (found.notes["for forbidden-attachment"], found.notes["for spam"]) == (5, 5)
