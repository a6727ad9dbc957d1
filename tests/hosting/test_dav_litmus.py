"""litmus, the suite of WebDAV (Debian package), plays all its parts with the DAV layer over real accounts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from dav_town import ALICE, new_dav_town, serving

LITMUS = shutil.which("litmus")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with new_dav_town(tmp_path_factory.mktemp("litmus")) as town, serving(town) as url:
        yield f"{url}/dav/files/{ALICE}/"


@pytest.mark.skipif(LITMUS is None, reason="litmus is not installed (apt-get install litmus)")
@pytest.mark.parametrize("part", ["basic", "copymove", "props", "locks", "http"])
def test_litmus(part: str, url: str, tmp_path: Path) -> None:
    assert LITMUS is not None
    done = subprocess.run(
        [LITMUS, url, "alice", "secret"],
        env={**os.environ, "TESTS": part},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    summary = re.search(r"summary for `(\w+)': of (\d+) tests run: (\d+) passed, (\d+) failed", done.stdout)
    assert summary is not None, done.stdout + done.stderr
    assert (summary[1], summary[4]) == (part, "0"), done.stdout
    assert "WARNING" not in done.stdout, done.stdout
