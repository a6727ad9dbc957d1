"""How processes of ours are executed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from storage import program


@pytest.mark.parametrize("here", [False, True])
def test_modules_are_looked_for_in_the_current_directory_by_who_was_started_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, here: bool
) -> None:
    """It may be anybody's, and root may run `cleanmail` there."""
    monkeypatch.chdir(tmp_path)
    if here:
        monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "of_somebody.py").write_text("print('somebody')")
    done = subprocess.run(program.command("of_somebody"), capture_output=True, text=True, check=False)
    assert done.stdout == ("somebody\n" if here else "")
