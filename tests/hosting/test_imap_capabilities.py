"""The table of capabilities: each row has its proof, and is told when it says so.

Standards: RFC 9051 §6.1.1, RFC 5161, RFC 2971.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest
from imap_play import CoreClient, play
from imap_town import PASSWORD, MailTown, new_mail_town

from hosting import cli
from hosting.imap.capability_table import TABLE, Circumstances, Row
from hosting.imap.hiding import hidden_from
from hosting.imap.limits import Limits
from hosting.imap.session import Session

HERE = Path(__file__).parent
SIGN_IN = f'x LOGIN alice@example.test "{PASSWORD}"\r\n'.encode()
MICROSOFT = {"Microsoft Office 365": "ESEARCH imap4rev2", "Other": "IDLE"}


@pytest.fixture
def town(tmp_path: Path) -> Iterator[MailTown]:
    with new_mail_town(tmp_path, Limits(hidden=MICROSOFT)) as made:
        yield made


@lru_cache
def proofs_in(file: str) -> dict[str, str]:
    """By name what each says of itself: functions their docstrings, dialogues their names, the file ("") its text."""
    source = (HERE / file).read_text(encoding="utf-8")
    found = {"": source}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            found[node.name] = f"{node.name.replace('_', ' ').upper()} {ast.get_docstring(node) or ''}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.setdefault(node.value, node.value)
    return found


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.word)
def test_every_row_has_its_proof(row: Row) -> None:
    """Each is there, and one of them names the RFC."""
    said = ""
    for proof in row.proofs:
        file, _, name = proof.partition("::")
        assert (HERE / file).is_file(), f"{row.word}: there is no {file}"
        assert name in proofs_in(file), f"{row.word}: {name!r} is not in {file}"
        said += proofs_in(file)[name]
    assert row.rfc in said, f"{row.word}: no proof names {row.rfc}"


def test_rows_hold_together() -> None:
    words = [row.word.upper() for row in TABLE]
    assert len(set(words)) == len(words)
    for row in TABLE:
        assert row.rfc and row.sections.startswith("§"), row.word
        for setting in filter(None, (row.switch, row.unless, row.value)):
            assert hasattr(Limits(), setting), row.word
        for mode in row.enables:
            assert mode in Session.__slots__, f"{row.word}: a session has no {mode}"
        assert not row.switch or not getattr(Limits(), row.switch), f"{row.word} is off by default"


def words(line: bytes) -> set[str]:
    return set(line.decode().partition("CAPABILITY ")[2].partition("]")[0].split())


def test_what_is_told_when(town: MailTown) -> None:
    plain = words(CoreClient(town.services, secure=False).out)
    assert {"STARTTLS", "LOGINDISABLED", "IMAP4rev2"} <= plain
    assert not {"AUTH=PLAIN", "IDLE"} & plain
    one = CoreClient(town.services)
    secure = words(one.out)
    assert {"AUTH=PLAIN", "SASL-IR"} <= secure
    assert not {"STARTTLS", "LOGINDISABLED", "IDLE"} & secure
    one.receive(0)
    one.send(SIGN_IN)
    signed_in = words(one.out)
    assert {"IDLE", "QRESYNC", "LITERAL+", f"APPENDLIMIT={town.limits.message}"} <= signed_in
    assert not {"AUTH=PLAIN", "LITERAL-", "UIDONLY", "UTF8=ACCEPT"} & signed_in


def test_switches_decide() -> None:
    on = Limits(**{row.switch: True for row in TABLE if row.switch})  # type: ignore[arg-type]
    offered = {row.word for row in TABLE if row.is_offered(on)}
    assert {row.word for row in TABLE if row.switch} <= offered
    assert "LITERAL+" not in offered  # RFC 7888 §5: one of the two
    everything = Circumstances(True, True, True, frozenset())
    assert all(row.when.words for row in TABLE) and any(row.when.holds(everything) for row in TABLE)


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("Microsoft Office 365", {"ESEARCH", "IMAP4REV2"}),
        ("microsoft office 365 beta", {"ESEARCH", "IMAP4REV2"}),
        ("Microsoft", set()),
        ("", set()),
        ("Other", {"IDLE"}),
    ],
)
def test_hiding_goes_by_how_a_name_begins(name: str, hidden: set[str]) -> None:
    assert hidden_from(name, MICROSOFT) == hidden


def test_hiding_after_id(town: MailTown) -> None:
    """RFC 2971 §3: what changed is told at once; what is hidden cannot be enabled either, and works all the same."""
    one = CoreClient(town.services)
    one.receive(0)
    one.send(b'a ID ("name" "Microsoft Office 365" "version" "15.20")\r\n')
    identified, told, done = one.receive(0)
    assert identified.startswith("* ID ") and done == "a OK Pleased to meet you."
    assert "IMAP4rev1" in told and "IMAP4rev2" not in told
    one.send(SIGN_IN)
    assert not {"ESEARCH", "IMAP4rev2"} & words(one.out) and "IDLE" in words(one.out)
    one.receive(0)
    play(
        one,
        """
        C: b ENABLE IMAP4rev2 CONDSTORE X-NONE
        S: * ENABLED CONDSTORE
        S: b OK …
        C: c EXAMINE INBOX
        S: * FLAGS …
        S: * OK [PERMANENTFLAGS …
        S: * 0 EXISTS
        S: * 0 RECENT
        S: * OK …
        S: * OK …
        S: * OK …
        S: * OK …
        S: c OK …
        C: d SEARCH RETURN (COUNT) ALL
        S: * ESEARCH (TAG "d") COUNT 0
        S: d OK …
        C: e ID ("name" "Microsoft Office 365")
        S: * ID …
        S: e OK …
        C: f ID NIL
        S: * ID …
        S: * CAPABILITY IMAP4rev1 IMAP4rev2 …ESEARCH…
        S: f OK …
        """,
    )


def test_the_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With what the configuration makes of it; no installation is needed."""
    (tmp_path / "cleanmail.toml").write_text("[imap]\nliteral_minus = true\nhidden = {Other = 'idle appendlimit'}\n")
    assert cli.run(["--data", str(tmp_path), "imap", "capabilities", "--json"]) == 0
    rows = {row["word"]: row for row in json.loads(capsys.readouterr().out)}
    assert len(rows) == len(TABLE)
    assert rows["IDLE"] == {
        "word": "IDLE",
        "rfc": "RFC 2177",
        "sections": "§3",
        "told": "after sign-in",
        "proofs": [f"tests/hosting/{proof}" for row in TABLE if row.word == "IDLE" for proof in row.proofs],
        "offered": True,
        "switch": "",
        "enable": False,
        "hidden_from": ["Other"],
    }
    assert rows["LITERAL-"]["offered"] and not rows["LITERAL+"]["offered"]
    assert rows[f"APPENDLIMIT={Limits().message}"]["hidden_from"] == ["Other"]
    assert cli.run(["--data", str(tmp_path), "imap", "capabilities"]) == 0
    printed = capsys.readouterr()
    assert "QRESYNC" in printed.out and "off (in its place: [imap] literal_minus)" in printed.out
    assert "Not told to programs that call themselves Other" in printed.err
    assert "tests/hosting/" not in printed.out  # their names are long: a narrow terminal would fold them
    assert cli.run(["--data", str(tmp_path), "imap", "capabilities", "--tests"]) == 0
    lines = capsys.readouterr().out.splitlines()
    at = lines.index("IDLE  RFC 2177 §3  after sign-in")
    assert lines[at + 1] == f"  {rows['IDLE']['proofs'][0]}"
