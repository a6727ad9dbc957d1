"""The file with the token of a session: whose it is, who can read it, and where it lies."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from staff_town import runtime_folder

from hosting.access import session_file
from storage.errors import NotPermitted

DATA = Path("/var/lib/cleanmail")
SOMEBODY = 4_100_001  # uid of no Unix user


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with runtime_folder() as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
        monkeypatch.delenv("XDG_STATE_HOME", raising=False)
        yield folder


def test_what_is_written_is_read_and_closed_to_others(runtime: Path) -> None:
    me = os.geteuid()
    assert session_file.read(DATA, me) == ""
    path = session_file.write(DATA, me, "token-1")
    assert path.parent == runtime / "cleanmail"
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    session_file.write(DATA, me, "token-2")
    assert session_file.read(DATA, me) == "token-2"
    assert session_file.read(DATA / "other", me) == ""
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    session_file.remove(DATA, me)
    session_file.remove(DATA, me)
    assert session_file.read(DATA, me) == ""


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_one_that_others_can_read_is_refused(runtime: Path, mode: int) -> None:
    path = session_file.write(DATA, os.geteuid(), "token")
    path.chmod(mode)
    with pytest.raises(NotPermitted, match="read by others"):
        session_file.read(DATA, os.geteuid())


def test_a_link_is_not_followed(runtime: Path, tmp_path: Path) -> None:
    me = os.geteuid()
    path = session_file.write(DATA, me, "token")
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    assert session_file.read(DATA, me) == ""
    session_file.write(DATA, me, "new")  # replaces the link, and not what it points to
    assert (elsewhere.read_text(), session_file.read(DATA, me)) == ("token\n", "new")


def test_a_folder_or_rubbish_is_no_session(runtime: Path) -> None:
    me = os.geteuid()
    path = session_file.write(DATA, me, "token")
    path.write_bytes(b"\xff" * 100_000)
    assert len(session_file.read(DATA, me)) <= 200
    path.unlink()
    path.mkdir()
    assert session_file.read(DATA, me) == ""
    path.rmdir()
    os.mkfifo(path)
    assert session_file.read(DATA, me) == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
class TestRootsProgramForSomebody:
    def test_it_has_his_rights_and_gets_its_own_back(self, runtime: Path) -> None:
        groups = os.getgroups()
        home = runtime / "his"
        home.mkdir()
        os.chown(home, SOMEBODY, SOMEBODY)
        os.environ["XDG_RUNTIME_DIR"] = str(home)
        path = session_file.write(DATA, SOMEBODY, "token")
        assert (path.stat().st_uid, session_file.read(DATA, SOMEBODY)) == (SOMEBODY, "token")
        assert (os.geteuid(), os.getegid(), os.getgroups()) == (0, 0, groups)

    def test_somebody_elses_file_is_refused(self, runtime: Path) -> None:
        home = runtime / "his"
        (home / "cleanmail").mkdir(parents=True)
        for folder in (home, home / "cleanmail"):
            os.chown(folder, SOMEBODY, SOMEBODY)
        os.environ["XDG_RUNTIME_DIR"] = str(home)
        path = session_file.write(DATA, SOMEBODY, "token")
        os.chown(path, SOMEBODY + 1, SOMEBODY + 1)
        assert session_file.read(DATA, SOMEBODY) == ""  # cannot even be opened
        path.chmod(0o644)
        with pytest.raises(NotPermitted, match="somebody else"):
            session_file.read(DATA, SOMEBODY)

    def test_a_link_leads_root_nowhere(self, runtime: Path, tmp_path: Path) -> None:
        """Who owns the folder may let it lead anywhere: his own rights are all that he gets."""
        home, roots = runtime / "his", tmp_path / "roots"
        home.mkdir()
        roots.mkdir(mode=0o700)
        (home / "cleanmail").symlink_to(roots)
        os.chown(home, SOMEBODY, SOMEBODY)
        os.environ["XDG_RUNTIME_DIR"] = str(home)
        with pytest.raises(Exception, match="no place"):
            session_file.write(DATA, SOMEBODY, "token")
        assert list(roots.iterdir()) == []
