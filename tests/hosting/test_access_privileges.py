"""Root's program that acts as the owner of the data for a while: with his rights, and with its own afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from hosting.roles.privileges import acting_as_owner
from storage.keys.master import Master, run_master_command

OWNER = 4_100_999  # uid of no Unix user

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    os.chown(tmp_path, OWNER, OWNER)
    return tmp_path


@pytest.mark.parametrize("wholly", [False, True])
def test_rights_are_the_owners_and_come_back(folder: Path, wholly: bool) -> None:
    users, groups = os.getresuid(), os.getresgid()
    with acting_as_owner(folder, wholly=wholly):
        assert (os.geteuid(), os.getegid()) == (OWNER, OWNER)
        assert os.getuid() == (OWNER if wholly else 0)  # who asks is seen by others, or not
    assert (os.getresuid(), os.getresgid()) == (users, groups)


def test_what_is_started_meanwhile_cannot_be_root_again(folder: Path) -> None:
    with acting_as_owner(folder, wholly=True):
        status = subprocess.run(["/bin/cat", "/proc/self/status"], capture_output=True, check=True, cwd="/").stdout
    (users,) = [line.split()[1:] for line in status.decode().splitlines() if line.startswith("Uid:")]
    assert users == [str(OWNER)] * 4  # real, effective, saved, of files


def test_a_command_of_the_server_s_user_cannot_be_root_again(folder: Path) -> None:
    """Also where others see who asks: what gives the master key stands in a file that the server's user may write."""
    with tempfile.NamedTemporaryFile(dir="/tmp") as status:
        os.chown(status.name, OWNER, OWNER)
        key = Master.generate()
        script = f"cat /proc/self/status > {status.name}; echo {key.text()}"
        with acting_as_owner(folder):
            assert run_master_command(["/bin/sh", "-c", script]) == key
        lines = [line.split() for line in Path(status.name).read_text().splitlines()]
    found = {line[0]: line[1:] for line in lines if line}
    assert found["Uid:"] == found["Gid:"] == [str(OWNER)] * 4
    assert found["Groups:"] == [str(OWNER)]  # not those of root


def test_an_error_gives_them_back_too(folder: Path) -> None:
    before = os.getgroups()
    with pytest.raises(KeyError), acting_as_owner(folder, wholly=True):
        raise KeyError
    assert os.getresuid() == (0, 0, 0)
    assert os.getgroups() == before


def test_an_installation_that_root_makes_is_of_whom_its_folder_is_of() -> None:
    run = "import sys, hosting.cli.server; from hosting import cli; sys.exit(cli.run(['--data', sys.argv[1], 'init']))"
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        os.chmod(place, 0o711)
        data = Path(place, "data")
        data.mkdir(mode=0o700)
        os.chown(data, OWNER, OWNER)
        done = subprocess.run([sys.executable, "-c", run, data], capture_output=True, text=True, check=False)
        made = [data, *data.rglob("*")]
        assert done.returncode == 0, done.stderr
        assert len(made) > 5 and {path.lstat().st_uid for path in made} == {OWNER}
