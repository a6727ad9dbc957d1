"""scripts/judged on a small corpus: everything is counted once, by what it truly is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import judged
import pytest

WORDS = {"ham": "the minutes of the meeting are attached to the ticket", "spam": "you have won cheap pills, buy now"}
BEGIN = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)


def written(folder: Path) -> Path:
    """Messages as archives have them, wanted and spam in turns; one forbidden attachment, one with a lone CR."""
    for number in range(60):
        label = "spam" if number % 3 == 2 else "ham"
        time = BEGIN + timedelta(hours=number)
        body = f"{WORDS[label]} {number}\n" * 5
        kind = ""
        if number == 30:
            kind = 'Content-Type: application/octet-stream; name="setup.exe"\n'
        if number == 33:
            body = "a lone\rCR"
        text = (
            f"From x@y.test {time:%a %b %d %H:%M:%S %Y}\n"
            f"From: {label}{number % 4}@{label}.test\nTo: alice@example.test\nSubject: {WORDS[label]}\n"
            f"Date: {format_datetime(time)}\nMessage-ID: <{number}@{label}.test>\n{kind}\n{body}"
        )
        (folder / label).mkdir(parents=True, exist_ok=True)
        (folder / label / f"{number:03}").write_text(text, newline="")
    return folder


@pytest.mark.slow
def test_each_message_is_counted_where_it_is(tmp_path: Path) -> None:
    messages = judged.corpus(written(tmp_path / "corpus"))
    assert [each.arrived for each in messages] == [int((BEGIN + timedelta(hours=n)).timestamp()) for n in range(60)]
    assert [each.is_spam for each in messages[:6]] == [False, False, True] * 2
    found = judged.judge(tmp_path / "server", messages, every=10)
    assert found.refused_form == 1
    wanted, spam = found.places[False], found.places[True]
    assert (wanted.total(), spam.total()) == (39, 20)
    assert wanted["quarantined"] == 1  # the program
    assert [verdict["reason"] for _, _, verdict in found.astray] == ["forbidden-attachment"]
    assert wanted["junk"] == spam["junk"] == 0  # a model that has learned so little only tags
    assert spam["tagged"] >= 10 > wanted["tagged"]
    assert "wanted mail that reached no INBOX: 2.564 %" in judged.table(found)
