"""The IMAP fuzzer, briefly."""

from __future__ import annotations

from scripts.fuzz.imap import fuzz


def test_fuzz() -> None:
    assert fuzz(3, rounds=150) == 150
