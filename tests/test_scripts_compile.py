"""scripts/compile: binaries of other sources are found and removed."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "compile"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the script above sources, with binaries as if they were built of them."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "build").mkdir()
    script = Path(shutil.copy(SCRIPT, tmp_path / "scripts"))
    for pattern in runpy.run_path(str(SCRIPT))["MODULES"]:
        path = tmp_path / pattern.replace("**", "somewhere").replace("*", "module")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    names = runpy.run_path(str(script))
    for source in names["sources"]():
        (tmp_path / source).with_suffix(names["SUFFIX"]).write_text("")
    (tmp_path / f"{names['GROUP']}__mypyc{names['SUFFIX']}").write_text("")
    names["write_stamp"](names["state"]())
    return tmp_path


def run(tree: Path, option: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, tree / "scripts" / "compile", option], capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


def test_binaries_of_these_sources(tree: Path) -> None:
    assert run(tree, "--check") == (0, "Python runs 6 compiled modules, built of these sources.\n")


def test_a_source_that_was_changed_makes_them_stale_until_they_are_removed(tree: Path) -> None:
    (tree / "storage/values.py").write_text("changed = True\n")
    assert run(tree, "--check") == (1, "Binaries are STALE, not of what is here now: storage/values.py.\n")
    assert run(tree, "--remove") == (0, "7 binaries removed.\n")
    assert run(tree, "--check") == (0, "Python runs the sources: nothing is compiled.\n")


def test_a_module_that_moved_left_its_binary_behind(tree: Path) -> None:
    (tree / "hosting/imap/somewhere/thread.py").rename(tree / "hosting/imap/thread.py")
    code, said = run(tree, "--check")
    assert (code, "hosting/imap/thread.py" in said) == (1, True)


def test_binaries_that_nobody_knows_are_stale(tree: Path) -> None:
    (tree / "build/compiled.json").unlink()
    assert run(tree, "--check")[0] == 1
