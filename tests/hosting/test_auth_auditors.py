"""Who may open transcripts: a role that can nothing else, and behind it a person who is named; everybody else not."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from directory_premises import DirectoryPremises

from hosting.auth import persons
from hosting.auth.grants import GRANTS, Role
from hosting.auth.messages import error_of
from hosting.auth.persons import check_auditor, person_of
from hosting.auth.requests import Caller, Holders, Requests
from hosting.config import parse
from hosting.roles.privileges import acting_as_owner
from storage.errors import InvalidInput, NotPermitted
from storage.keys.sealing import public_key

ME = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def premises(tmp_path: Path) -> Iterator[DirectoryPremises]:
    premises = DirectoryPremises(tmp_path)
    yield premises
    premises.close()


def asked(premises: DirectoryPremises, role: Role, auditors: tuple[str, ...], **fields: object) -> dict[str, object]:
    requests = Requests(None, premises.keys, Holders(), auditors=auditors)  # type: ignore[arg-type]
    return requests.answer(
        Caller(os.getpid(), role), {"op": "auditor_key", "purpose": "audit record 3", **fields}
    ).result()


@pytest.mark.parametrize("role", list(Role))
def test_only_the_auditors_role_is_given_the_key(premises: DirectoryPremises, role: Role) -> None:
    reply = asked(premises, role, (ME,))
    assert ("ok" in reply) is (role is Role.AUDITOR)


@pytest.mark.parametrize("auditors", [(), ("somebody-else",), (str(os.getuid()) + "0",)])
def test_only_a_person_who_is_named_is_given_the_key(premises: DirectoryPremises, auditors: tuple[str, ...]) -> None:
    assert isinstance(error_of(asked(premises, Role.AUDITOR, auditors)), NotPermitted)


@pytest.mark.parametrize("purpose", ["", "an address: ann@acme.test", "x" * 65, None])
def test_a_purpose_is_stated(premises: DirectoryPremises, purpose: object) -> None:
    assert isinstance(error_of(asked(premises, Role.AUDITOR, (ME,), purpose=purpose)), InvalidInput)


def test_the_lease_is_logged(premises: DirectoryPremises, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert "ok" in asked(premises, Role.AUDITOR, (ME,))
    assert f"lease auditor person={os.getuid()} purpose=audit record 3 role=auditor" in caplog.text


def test_an_auditor_may_nothing_else(premises: DirectoryPremises) -> None:
    requests = Requests(None, premises.keys, Holders(), auditors=(ME,))  # type: ignore[arg-type]
    caller = Caller(os.getpid(), Role.AUDITOR)
    for fields in (
        *({"op": "service_key", "name": name} for name in ("control", "queue", "audit", "directory", "logs")),
        {"op": "tenant_key", "tenant": 1, "purpose": "x"},
        {"op": "account_key", "tenant": 1, "account": 1, "purpose": "x"},
        {"op": "create_tenant_key", "tenant": 1},
        {"op": "create_account_key", "tenant": 1, "account": 1},
        {"op": "destroy_account_key", "tenant": 1, "account": 1},
        {"op": "verify", "protocol": "imap"},
    ):
        assert isinstance(error_of(requests.answer(caller, fields).result()), NotPermitted), fields


def test_every_role_that_speaks_smtp_may_write_what_it_cannot_read(premises: DirectoryPremises) -> None:
    for role in (Role.SMTP, Role.QUEUE):
        assert "transcripts" in GRANTS[role].services and not GRANTS[role].transcripts
    assert premises.keys.service_key("transcripts") == public_key(premises.keys.auditor_key("x"))


class TestPersons:
    def test_who_runs_this(self) -> None:
        assert person_of() == person_of(os.getpid())
        assert check_auditor("self", {person_of().name}) == person_of()

    def test_another_process_can_be_asked_about(self) -> None:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        try:
            assert person_of(child.pid) == person_of()
        finally:
            child.communicate(b"\n")
        with pytest.raises(NotPermitted):
            person_of(child.pid)

    @pytest.mark.parametrize(
        ("login_uid", "real", "who"),
        [
            (None, "0\t999\t0\t999", 0),  # no audit in the kernel: who started it, whatever it acts as
            ("4294967295", "0\t999\t0\t999", 0),
            ("1000", "0\t0\t0\t0", 1000),  # root by sudo is still who signed in
            ("0", "999\t999\t999\t999", 0),
        ],
    )
    def test_the_login_counts_before_the_user(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, login_uid: str | None, real: str, who: int
    ) -> None:
        (tmp_path / "7").mkdir()
        if login_uid is not None:
            (tmp_path / "7" / "loginuid").write_text(login_uid)
        (tmp_path / "7" / "status").write_text(f"Name:\tUid: 5\nUid:\t{real}\nGid:\t1\t1\t1\t1\n")
        monkeypatch.setattr(persons, "PROC", tmp_path)
        assert person_of(7).uid == who
        with pytest.raises(NotPermitted):
            person_of(8)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to be somebody else")
def test_root_acts_as_the_owner_and_is_still_known(tmp_path: Path) -> None:
    owner = pwd.getpwnam("nobody")
    os.chown(tmp_path, owner.pw_uid, owner.pw_gid)
    login = person_of()
    with acting_as_owner(tmp_path):
        assert (os.geteuid(), os.getegid()) == (owner.pw_uid, owner.pw_gid)
        assert person_of() == login  # the auth role, which runs as the owner, sees who asks
    assert (os.geteuid(), os.getegid()) == (0, 0)
    with acting_as_owner(tmp_path / "missing"):
        assert os.geteuid() == 0


def test_the_servers_own_user_cannot_be_named() -> None:
    assert parse('[logs]\nauditors = ["bob"]').logs.auditors == ("bob",)
    with pytest.raises(InvalidInput, match="no auditors"):
        parse('[server]\nuser = "cleanmail"\n[logs]\nauditors = ["cleanmail"]')
