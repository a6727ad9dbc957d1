"""scripts/provision_csv.py: a tenant with accounts from a CSV file, twice."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import pytest

from hosting import cli

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "scripts"))

import provision_csv  # noqa: E402

LINES = """address,name,quota,password
ada@acme.test,Ada,5G,
ben@acme.test,Ben,,correct horse battery
no address,,,
eve@other.test,,much,
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    (folder / "cleanmail.toml").write_text("[auth.argon2]\ntime_cost = 1\nmemory_kib = 64\nlanes = 1\n")
    assert cli.run(["--data", str(folder), "init"]) == 0
    return folder


def provision(data: Path, text: str) -> tuple[int, dict[str, tuple[str, str]]]:
    target = io.StringIO()
    failed = provision_csv.run(data, "acme", "ACME Ltd", io.StringIO(text), target, verified=True)
    rows = list(csv.DictReader(io.StringIO(target.getvalue())))
    return failed, {row["address"]: (row["result"], row["password"]) for row in rows}


def test_accounts_are_made_once_and_bad_lines_are_told(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    failed, made = provision(data, LINES)
    assert failed == 2
    assert made["ada@acme.test"][0] == "created" and len(made["ada@acme.test"][1]) >= 20
    assert made["ben@acme.test"] == ("created", "")
    said = capsys.readouterr().err
    assert "line 4: 'no address' is not an e-mail address." in said and "line 5: 'much' is no size" in said

    again, known = provision(data, LINES)
    assert again == 2
    assert known["ada@acme.test"] == known["ben@acme.test"] == ("exists", "")


def test_a_file_without_addresses_is_refused(data: Path) -> None:
    with pytest.raises(provision_csv.InvalidInput, match="names the columns"):
        provision(data, "mail,name\nx@acme.test,X\n")
