r"""Who claims messages as \Recent first has them (RFC 3501 §2.3.2), and what is not known counts as told to nobody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from storage import recent_claims
from storage.recent_claims import RecentClaims
from storage.values import MailboxId

MINE = (b"k" * 32, MailboxId(3), 1000)  # an account's key, a mailbox, its UIDVALIDITY


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "run").mkdir()
    yield tmp_path


def test_what_one_process_claimed_no_other_has(data: Path) -> None:
    with closing(RecentClaims(data)) as one, closing(RecentClaims(data)) as other:
        assert one.claim(*MINE, 5) == 0
        assert other.claim(*MINE, 0) == 5  # it only asks
        assert other.claim(*MINE, 8) == 5
        assert (one.claim(*MINE, 6), one.claim(*MINE, 9)) == (8, 8)
        for another in ((b"l" * 32, *MINE[1:]), (MINE[0], MailboxId(4), MINE[2]), (*MINE[:2], 1001)):
            assert other.claim(*another, 0) == 0


def test_without_the_accounts_key_nobody_finds_what_it_was_told(data: Path) -> None:
    """Ids could be tried; a key that was destroyed cannot."""
    places = set()
    for number in range(16):
        with closing(RecentClaims(data)) as claims:
            claims.claim(bytes([number]) * 32, *MINE[1:], 5)
        file = data / "run" / "recent"
        places.add(file.read_bytes().lstrip(b"\0"))
        file.unlink()
    assert len(places) == 16


def test_mailboxes_that_share_a_place(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent_claims, "PLACES", 1)
    with closing(RecentClaims(data)) as claims:
        assert claims.claim(*MINE, 5) == 0
        assert claims.claim(MINE[0], MailboxId(4), MINE[2], 9) == 0
        assert claims.claim(*MINE, 6) == 0


@pytest.mark.parametrize("trouble", ["no folder", "no place", "a torn file"])
def test_trouble_is_not_knowing(data: Path, trouble: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if trouble == "no folder":
        (data / "run").rmdir()
    elif trouble == "a torn file":
        monkeypatch.setattr(recent_claims, "PLACES", 1)
        (data / "run" / "recent").write_bytes(b"torn")
    else:
        (data / "run" / "recent").symlink_to("/dev/full")
    with closing(RecentClaims(data)) as claims:
        assert claims.claim(*MINE, 5) == 0
        assert claims.claim(*MINE, 0) == (5 if trouble == "a torn file" else 0)
