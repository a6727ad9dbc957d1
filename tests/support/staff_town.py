"""An installation with two customers, people at its command line, and sessions of staff."""

from __future__ import annotations

import io
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyotp
import pytest
from review_town import becoming

from hosting import cli, composition, config
from hosting.access import session_file
from hosting.access.totp import new_secret
from storage.directory.staff import StaffMember
from storage.installation import Installation

CHEAP = "[auth.argon2]\ntime_cost = 1\nmemory_kib = 64\nlanes = 1\n"
PASSWORD = "correct horse battery"


class Said:
    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        assert self.status == 0, self.err
        return json.loads(self.out)


def make_town(data: Path, settings: str = "") -> None:
    data.mkdir(mode=0o700)
    (data / "cleanmail.toml").write_text(CHEAP + settings)
    for arguments in (
        ["init"],
        ["tenant", "create", "acme"],
        ["domain", "add", "acme", "acme.test", "--verified"],
        ["account", "create", "ann@acme.test", "--without-password"],
        ["tenant", "create", "bolt"],
        ["domain", "add", "bolt", "bolt.test", "--verified"],
        ["account", "create", "ben@bolt.test", "--without-password"],
    ):
        assert cli.run(["--data", str(data), *arguments]) == 0


class StaffTown:
    def __init__(
        self, data: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, runtime: Path
    ) -> None:
        self.data = data
        self.runtime = runtime  # below it a folder for the session of each Unix user
        self.uid = os.geteuid()
        self._capsys = capsys
        self._monkeypatch = monkeypatch
        self.become(self.uid)

    def run(self, *arguments: str, stdin: str = "") -> Said:
        self._monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        self._capsys.readouterr()
        status = cli.run(["--data", str(self.data), *arguments])
        said = self._capsys.readouterr()
        return Said(status, said.out, said.err)

    def configure(self, settings: str) -> None:
        (self.data / "cleanmail.toml").write_text(CHEAP + settings)

    def become(self, uid: int) -> None:
        """Another Unix user is at the command line, by sudo if need be."""
        self.uid = uid
        becoming(self._monkeypatch, self.data.parent / "proc", uid)
        folder = self.runtime / str(uid)
        folder.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            os.chown(folder, uid, uid)
        self._monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))

    @contextmanager
    def installation(self) -> Iterator[Installation]:
        with composition.administration(self.data, config.load(self.data / "cleanmail.toml")) as administration:
            yield administration.installation

    def person(self, name: str, *roles: str, tenant: int | None = None) -> StaffMember:
        """Somebody who could not sign in with a password: most tests give him a session."""
        with self.installation() as installation:
            return installation.control.staff.add(name, roles, tenant, "", new_secret())  # type: ignore[arg-type]

    def signed_in(self, name: str) -> str:
        """The Unix user at the command line has a session of this person from now on."""
        with self.installation() as installation:
            staff = installation.control.staff
            token = staff.begin_session(staff.find(name), self.uid, 3600)
        session_file.write(self.data, self.uid, token)
        return token

    def signed_out(self) -> None:
        session_file.remove(self.data, self.uid)

    def audited(self, *actions: str) -> list[tuple[str, str]]:
        with self.installation() as installation:
            return [(r.action, r.actor) for r in installation.audit.read() if r.action in actions or not actions]


def code_of(otpauth: str, offset: int = 0) -> str:
    """The code of an authenticator program now, or so many steps later."""
    totp = pyotp.parse_uri(otpauth)
    assert isinstance(totp, pyotp.TOTP)
    return totp.generate_otp(int(time.time()) // 30 + offset)


@contextmanager
def runtime_folder() -> Iterator[Path]:
    """Where other Unix users reach their own folders; pytest's are closed to them."""
    with tempfile.TemporaryDirectory(prefix="cm-run-") as folder:
        os.chmod(folder, 0o711)
        yield Path(folder)
