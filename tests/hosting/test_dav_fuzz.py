"""The fuzzer of everything below /dav/, briefly."""

from __future__ import annotations

from pathlib import Path

from scripts.fuzz.dav import run


def test_the_fuzzer_for_a_while(tmp_path: Path) -> None:
    statuses = run(tmp_path, 6, count=1500)
    assert statuses[201] > 5 and statuses[204] > 20 and statuses[207] > 100
