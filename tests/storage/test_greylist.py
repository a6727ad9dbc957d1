"""The file that greylisting remembers in: shared, of fixed size, of nobody's names, and no harm when it is rubbish."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from storage.greylist import FILE_NAME, SIZE, GreylistFile, Place

ROOT = Path(__file__).resolve().parents[2]


def test_places_are_kept_and_shared(tmp_path: Path) -> None:
    one, two = GreylistFile.open(tmp_path), GreylistFile.open(tmp_path)
    key = one.hash("a", "b")
    assert key == two.hash("a", "b") != one.hash("ab", "") != one.hash("a", "b", "")
    assert two.attempts.get(key) is None
    one.attempts.put(key, Place(1, 2))
    assert two.attempts.get(key) == Place(1, 2)
    two.attempts.put(key, Place(0, 3))
    assert one.attempts.get(key) == Place(0, 3)
    assert one.networks.get(key) is None
    one.close()
    two.close()
    again = GreylistFile.open(tmp_path)
    assert again.attempts.get(key) == Place(0, 3)
    again.close()


def test_the_file_names_nobody_and_belongs_to_one_user(tmp_path: Path) -> None:
    file = GreylistFile.open(tmp_path)
    file.attempts.put(file.hash("2001:db8::5eed:77", "unmistakable@secret-sender.example"), Place(1, 2))
    file.close()
    path = tmp_path / FILE_NAME
    octets = path.read_bytes()
    assert len(octets) == SIZE
    packed = IPv6Address("2001:db8::5eed:77").packed
    assert not any(word in octets for word in (b"2001:db8::5eed:77", packed, b"unmistakable", b"secret-sender"))
    assert path.stat().st_mode & 0o077 == 0


def test_each_installation_hashes_with_its_own_key(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, other = GreylistFile.open(tmp_path), GreylistFile.open(tmp_path / "other")
    assert one.hash("a") != other.hash("a") != GreylistFile.of_this_process().hash("a")
    one.close()
    other.close()


def test_what_waits_makes_room_before_what_has_passed() -> None:
    file = GreylistFile.of_this_process()
    step = 16_384  # keys that meet in one bucket
    keys = [step * number for number in range(1, 20)]
    for number, key in enumerate(keys[:8]):
        file.attempts.put(key, Place(0 if number < 4 else 1, number))
    for number, key in enumerate(keys[8:14], start=8):
        file.attempts.put(key, Place(1, number))
    assert [file.attempts.get(key) is not None for key in keys[:14]] == [True] * 4 + [False] * 6 + [True] * 4
    file.attempts.put(keys[14], Place(0, 14))
    assert file.attempts.get(keys[0]) is not None


def test_a_flood_takes_no_memory_and_leaves_what_has_passed() -> None:
    file = GreylistFile.of_this_process()
    known = [file.hash("known", str(number)) for number in range(1000)]
    for key in known:
        file.attempts.put(key, Place(0, 1))
    for number in range(200_000):
        file.attempts.put(file.hash("flood", str(number)), Place(2, 2))
    assert sum(file.attempts.get(key) is not None for key in known) == 1000


@pytest.mark.parametrize("octets", [b"", b"x" * 100, bytes(SIZE), b"x" * SIZE])
def test_a_file_of_another_layout_is_replaced(tmp_path: Path, octets: bytes) -> None:
    path = tmp_path / FILE_NAME
    path.write_bytes(octets)
    path.chmod(0o600)
    file = GreylistFile.open(tmp_path)
    file.attempts.put(5, Place(1, 2))
    file.close()
    file = GreylistFile.open(tmp_path)
    assert file.attempts.get(5) == Place(1, 2)
    file.close()


def test_a_file_that_others_can_read_or_a_link_is_not_used(tmp_path: Path) -> None:
    GreylistFile.open(tmp_path).close()
    path = tmp_path / FILE_NAME
    path.chmod(0o644)
    GreylistFile.open(tmp_path).close()
    assert path.stat().st_mode & 0o077 == 0
    theirs = tmp_path / "theirs"
    path.rename(theirs)
    before = theirs.read_bytes()
    path.symlink_to(theirs)
    file = GreylistFile.open(tmp_path)
    file.attempts.put(5, Place(1, 2))
    file.close()
    assert theirs.read_bytes() == before and not path.is_symlink()


FULL = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # as a full disk
from storage.greylist import GreylistFile
try:
    GreylistFile.open(Path(sys.argv[1]))
except OSError as error:
    print("refused")
"""


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, cwd=ROOT, check=True)
    assert done.stdout == b"refused\n"
    assert [path.name for path in tmp_path.iterdir()] == [f"{FILE_NAME}.lock"]


CHILD = """
import sys
from pathlib import Path
from storage.greylist import GreylistFile, Place
file = GreylistFile.open(Path(sys.argv[1]))
for number in range(2000):
    file.attempts.put(file.hash(str(number)), Place(0, 7))
print("done", flush=True)
sys.stdin.read()
"""


def test_processes_that_begin_together_share_one_file_and_a_killed_one_leaves_its_work(tmp_path: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdout is not None and child.stdout.readline() == b"done\n"
        child.kill()
        child.communicate()
    file = GreylistFile.open(tmp_path)
    assert all(file.attempts.get(file.hash(str(number))) == Place(0, 7) for number in range(2000))
    file.close()
