"""The SMTP fuzzer, briefly."""

from __future__ import annotations

from scripts.fuzz.smtp import fuzz


def test_fuzz() -> None:
    assert fuzz(7, rounds=80) == 80
