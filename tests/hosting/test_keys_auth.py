"""What the auth role answers about keys beyond leases: signatures, ends of keys, and of processes that hold some."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from key_tree import ACCOUNT, FAR, TENANT, KeyPlace

from hosting.auth.frames import FRAME_MAX, encode
from hosting.auth.grants import Role
from hosting.auth.holders import Holders
from hosting.auth.messages import error_of
from hosting.auth.requests import Caller, Requests
from storage.errors import CleanmailError, Gone, InvalidInput, NotPermitted
from storage.keys import signing
from storage.keys.destruction import Destroyed
from storage.keys.source import LocalKeys

SLEEP = ["sleep", "600"]


class Auth:
    def __init__(self, base: Path) -> None:
        self.place = KeyPlace(base)
        self.keys = LocalKeys(self.place.store)
        for tenant in (TENANT, FAR):
            self.keys.create_tenant_key(tenant)
            self.keys.create_account_key(tenant, ACCOUNT)
        self.remembered = base / "run" / "holders"
        self.holders = Holders(self.remembered)
        self.requests = Requests(None, self.keys, self.holders)  # type: ignore[arg-type]

    def ask(self, role: Role = Role.JOBS, pid: int = -1, **fields: Any) -> dict[str, Any]:
        reply = self.requests.answer(Caller(pid, role), fields).result()
        if "ok" not in reply:
            raise error_of(reply)
        ok: dict[str, Any] = reply["ok"]
        return ok

    def lease(self, pid: int) -> None:
        self.ask(Role.SMTP, pid, op="tenant_key", tenant=TENANT, purpose="test")


@pytest.fixture
def auth(tmp_path: Path) -> Auth:
    return Auth(tmp_path)


@pytest.fixture
def holder() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(SLEEP)
    yield process
    process.kill()
    process.wait(10)


def test_signatures_are_for_jobs_and_administrators_the_public_key_for_everybody(auth: Auth) -> None:
    public = set()
    for role in Role:
        public.add(auth.ask(role, op="verifying_key", purpose="certificate")["key"])
        fields: dict[str, Any] = {"op": "sign", "purpose": "certificate"}
        fields["message"] = base64.b64encode(b"erased").decode()
        if role in (Role.JOBS, Role.ADMIN):
            signature = base64.b64decode(auth.ask(role, **fields)["signature"])
            signing.verify(auth.keys.verifying_key("certificate"), b"erased", signature)
        else:
            with pytest.raises(NotPermitted):
                auth.ask(role, **fields)
    assert public == {base64.b64encode(auth.keys.verifying_key("certificate")).decode()}


@pytest.mark.parametrize(
    "fields",
    [
        {"op": "sign", "purpose": "forgery", "message": ""},
        {"op": "sign", "purpose": "audit", "message": "%"},
        {"op": "verifying_key"},
        {"op": "recycle", "tenant": 1},
        {"op": "kill", "tenant": 1, "pids": [True]},
        {"op": "kill", "tenant": 1, "pids": list(range(10_001))},
    ],
)
def test_what_is_asked_wrongly(auth: Auth, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        auth.ask(**fields)


def test_keys_end_and_are_wrapped_anew_for_jobs_and_administrators_alone(auth: Auth) -> None:
    operations: tuple[dict[str, Any], ...] = (
        {"op": "destroy_tenant_key", "tenant": TENANT},
        {"op": "rotate_keys"},
        {"op": "holders", "tenant": TENANT},
        {"op": "present", "of": "imap"},
        {"op": "recycle", "tenant": TENANT, "pids": []},
        {"op": "kill", "tenant": TENANT, "pids": []},
    )
    for role in set(Role) - {Role.JOBS, Role.ADMIN}:
        for fields in operations:
            with pytest.raises(NotPermitted):
                auth.ask(role, **fields)
    destroyed = Destroyed.from_fields(auth.ask(op="destroy_account_key", tenant=FAR, account=ACCOUNT)["destroyed"])
    assert (destroyed.master_before, destroyed.master_after) == (1, 2)
    first, again = (auth.ask(op="destroy_tenant_key", tenant=TENANT) for _ in range(2))
    assert first == again and len(first["destroyed"]["key_ids"]) == 2
    with pytest.raises(Gone):
        auth.ask(op="tenant_key", tenant=TENANT, purpose="test")
    assert auth.ask(op="rotate_keys") == {"generation": 4}
    assert auth.ask(op="tenant_key", tenant=FAR, purpose="test")["secret"]


def test_the_facts_of_a_tenant_with_many_accounts_fit_into_a_reply_and_are_signed() -> None:
    """Otherwise its ending could never go on."""
    facts = Destroyed(("ab" * 16,) * 100_000, 1, 1, 2, "x", True, "purge", (), None)
    assert len(encode({"ok": {"destroyed": facts.fields()}})) < FRAME_MAX
    document = json.dumps(facts.fields(), indent=1).encode()
    assert len(encode({"op": "sign", "message": base64.b64encode(document).decode()})) < FRAME_MAX


class TestHolders:
    def test_only_who_ever_held_keys_is_told_to_stop(self, auth: Auth, holder: subprocess.Popen[bytes]) -> None:
        other = subprocess.Popen(SLEEP)
        try:
            for pid in (holder.pid, os.getpid()):
                auth.lease(pid)
            assert auth.ask(op="holders", tenant=TENANT) == {"pids": sorted([holder.pid, os.getpid()])}
            assert auth.ask(op="holders", tenant=FAR) == {"pids": []}
            asked = [holder.pid, other.pid, os.getpid(), 1, -1, 0]
            for operation in ("recycle", "kill"):
                assert auth.ask(op=operation, tenant=FAR, pids=asked) == {"pids": []}
            done = auth.ask(op="recycle", tenant=TENANT, pids=asked, pid=os.getpid())
            assert done == {"pids": [holder.pid]}  # nor who asks
            assert holder.wait(10) == -signal.SIGTERM and other.poll() is None
            assert auth.ask(op="holders", tenant=TENANT, ever=True) == {"pids": [os.getpid()]}
        finally:
            other.kill()
            other.wait(10)

    def test_who_is_ready_is_known_by_its_role_while_it_lives(
        self, auth: Auth, holder: subprocess.Popen[bytes]
    ) -> None:
        for pid in (holder.pid, os.getpid(), 0):
            for _ in range(2):
                auth.ask(Role.IMAP, pid, op="ready")
        assert auth.ask(op="present", of="imap") == {"pids": sorted([holder.pid, os.getpid()])}
        assert auth.ask(op="present", of="smtp") == {"pids": []}
        holder.kill()
        holder.wait(10)
        assert auth.ask(op="present", of="imap") == {"pids": [os.getpid()]}

    def test_who_forgot_held_it_once(self, auth: Auth, holder: subprocess.Popen[bytes]) -> None:
        auth.lease(holder.pid)
        auth.ask(Role.SMTP, holder.pid, op="forget", tenant=TENANT)
        assert auth.ask(op="holders", tenant=TENANT) == {"pids": []}
        assert auth.ask(op="holders", tenant=TENANT, ever=True) == {"pids": [holder.pid]}
        assert auth.ask(op="kill", tenant=TENANT, pids=[holder.pid]) == {"pids": [holder.pid]}
        assert holder.wait(10) == -signal.SIGKILL

    def test_another_auth_role_knows_them_too(self, auth: Auth, holder: subprocess.Popen[bytes]) -> None:
        gone = subprocess.Popen(["true"])
        auth.lease(gone.pid)
        gone.wait(10)
        auth.lease(holder.pid)
        auth.holders.forgot(TENANT, holder.pid)
        with auth.remembered.open("ab") as file:  # a number that is another process by now, and half a line
            file.write(b"1 %d 5\n1 2" % os.getpid())
        for _ in range(2):
            again = Holders(auth.remembered)
            assert again.of(TENANT) == {holder.pid} == again.ever(TENANT)
        assert len(auth.remembered.read_bytes().splitlines()) == 1

    def test_the_file_does_not_grow_for_ever(
        self, tmp_path: Path, holder: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hosting.auth.holders._LINES", 5)
        holders = Holders(tmp_path / "holders")
        for _ in range(4):
            ended = subprocess.Popen(["true"])
            for tenant in (TENANT, FAR):
                holders.took(tenant, ended.pid)
                holders.took(tenant, holder.pid)
            ended.wait(10)
        assert len((tmp_path / "holders").read_bytes().splitlines()) <= 9
        assert Holders(tmp_path / "holders").of(FAR) == {holder.pid}

    def test_a_place_that_cannot_be_written_keeps_nobody_from_keys(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        holders = Holders(tmp_path / "file" / "holders")
        holders.took(TENANT, os.getpid())
        assert holders.of(TENANT) == {os.getpid()}


def test_asked_together_errors_are_replies(auth: Auth) -> None:
    with pytest.raises(CleanmailError):
        auth.ask(op="destroy_account_key", tenant=99, account=1)
