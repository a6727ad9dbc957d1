"""scripts/environment.sh: an environment of somebody else is not touched, and one sentence says what to do."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NOBODY = 65534


@pytest.fixture
def checkout() -> Iterator[Path]:
    """With an environment whose Python cannot be run; other users may look at it, unlike at tmp_path."""
    folder = Path(tempfile.mkdtemp(prefix="cleanmail-checkout-"))
    try:
        folder.chmod(0o755)
        (folder / "scripts").mkdir()
        for name in ("scripts/environment.sh", "pyproject.toml"):
            shutil.copy(ROOT / name, folder / name)
        for name in ("bin", "lib/a", "lib/b"):
            (folder / ".venv" / name).mkdir(parents=True)
        (folder / ".venv/bin/python").symlink_to("/nonexistent/python")
        _set_modes(folder, 0o755)  # whatever the umask is
        yield folder
    finally:
        _set_modes(folder, 0o755)
        shutil.rmtree(folder)


def _set_modes(folder: Path, mode: int) -> None:
    for path in (folder, *(each for each in folder.rglob("*") if each.is_dir())):
        path.chmod(mode)


def prepare(checkout: Path) -> subprocess.CompletedProcess[str]:
    """As somebody who may not write there."""
    if os.getuid() != 0:
        _set_modes(checkout, 0o555)
    command = f"set -euo pipefail; source {checkout}/scripts/environment.sh; prepare_environment {checkout} .venv ."
    return subprocess.run(
        ["bash", "-c", command],
        cwd="/",
        env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **({"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}),
    )


def test_the_environment_of_somebody_else_stays_and_one_sentence_tells(checkout: Path) -> None:
    done = prepare(checkout)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{checkout}/.venv cannot be used or made anew by ")
    assert line.endswith("remove it as that user, or work in a checkout of your own.")
    assert sorted(path.name for path in (checkout / ".venv").rglob("*")) == ["a", "b", "bin", "lib", "python"]


def test_in_the_checkout_of_somebody_else_none_is_made(checkout: Path) -> None:
    shutil.rmtree(checkout / ".venv")
    done = prepare(checkout)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{checkout}/.venv cannot be made by ")
    assert not (checkout / ".venv").exists()


def test_an_environment_that_is_a_link_to_that_of_another_checkout_stays(checkout: Path) -> None:
    (checkout / ".venv").rename(checkout / "elsewhere")
    (checkout / ".venv").symlink_to("elsewhere")
    done = prepare(checkout)
    assert done.returncode != 0
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{checkout}/.venv is a link to elsewhere, ")
    assert (checkout / ".venv").is_symlink()
