"""scripts/books on a small corpus: what the whole server accepted is all accounted for, and in the right form."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import books
import pytest
from books_traffic import corpus


def written(folder: Path) -> Path:
    """Messages as archives have them: LF, an mbox line, a Return-Path; one too long a line, one with a lone CR."""
    folder.mkdir()
    for number in range(60):
        body = "x" * 3000 if number == 9 else "a lone\rCR" if number == 12 else f".\n..\nFrom {number}\n"
        text = f"From x@y Mon\nReturn-Path: <x@y.test>\nSubject: {number}\n\n{body}\nGrüße\n"
        (folder / f"{number:03}").write_text(text, newline="")
    return folder


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("smtp-sink"), reason="smtp-sink (package postfix) is not installed")
def test_the_books_balance(tmp_path: Path) -> None:
    messages = corpus(written(tmp_path / "corpus"), None)
    with tempfile.TemporaryDirectory(prefix="cleanmail-books-") as folder:
        Path(folder).chmod(0o755)  # for the sink, which runs as nobody
        with books.town(Path(folder)) as town:
            found = books.balance(town, messages, 4)
    assert found.wrong == []
    assert {name: count for name, (count, _) in found.counts.items()} == {
        "accepted": 71,
        "delivered": 29,
        "forwarded": 36,
        "queued": 3,
        "bounced": 3,
        "not bounced": 0,
    }
    assert found.notes["refused for a lone CR"] == 1
    assert found.notes["folded for the next hop, text the same"] == 1
