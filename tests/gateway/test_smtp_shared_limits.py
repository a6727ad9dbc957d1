"""Limits over all processes: tables in shared memory, the death of a process, and what happens without them."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address
from pathlib import Path

import pytest

from gateway.smtp.limit_files import remove_folder
from gateway.smtp.limit_table import SIZE, LimitTable
from gateway.smtp.shared_limits import Rate, SharedLimits
from storage.clock import FixedClock

ROOT = Path(__file__).resolve().parents[2]
Open = Callable[[], SharedLimits]


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(1_000_020.0)  # at the beginning of a minute


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "run"
    folder.mkdir()
    yield folder
    remove_folder(folder / "limits")


@pytest.fixture
def open_limits(run: Path, clock: FixedClock) -> Iterator[Open]:
    """Each as if of another process."""
    opened: list[SharedLimits] = []

    def open_() -> SharedLimits:
        opened.append(SharedLimits.open(run, clock))
        assert opened[-1].shared
        return opened[-1]

    yield open_
    for each in opened:
        each.close()


def test_connections_are_counted_together(open_limits: Open) -> None:
    one, two = open_limits(), open_limits()
    assert one.enter("address", "a", 3)
    assert two.enter("address", "a", 3)
    assert one.enter("address", "a", 3)
    assert not two.enter("address", "a", 3)
    assert not one.enter("address", "a", 3)
    assert two.enter("address", "b", 3)
    assert two.enter("network", "a", 3)
    assert (one.count("address", "a"), two.count("address", "a")) == (3, 3)
    one.leave("address", "a")
    assert two.enter("address", "a", 3)
    assert not one.enter("address", "a", 3)


def test_who_comes_later_is_noticed_at_once(open_limits: Open) -> None:
    one = open_limits()
    assert one.count("address", "a") == 0
    two = open_limits()
    assert two.enter("address", "a", 9)
    assert one.count("address", "a") == 1


def test_the_counts_of_who_leaves_vanish(open_limits: Open) -> None:
    one, two = open_limits(), open_limits()
    assert two.enter("address", "a", 1)
    assert not one.enter("address", "a", 1)
    two.close()
    assert one.enter("address", "a", 1)
    two.leave("address", "a")  # its connection ends when its counts are gone already
    assert two.enter("address", "a", 1)


CHILD = """
import sys
from pathlib import Path
from gateway.smtp.shared_limits import SharedLimits, Rate
limits = SharedLimits.open(Path(sys.argv[1]))
taken = sum(limits.enter("address", "a", int(sys.argv[2])) for _ in range(int(sys.argv[2])))
limits.spend("message", "a", 5, Rate(100, 86400))
print(taken, limits.shared, flush=True)
sys.stdin.read()
"""


def child(run: Path, most: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", CHILD, str(run), str(most)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )


def test_the_counts_of_a_process_that_was_killed_vanish(run: Path) -> None:
    limits = SharedLimits.open(run)
    try:
        process = child(run, 5)
        assert process.stdout is not None
        assert process.stdout.readline() == b"5 True\n"
        assert not limits.enter("address", "a", 5)
        assert limits.lately("message", "a", Rate(100, 86400)) == 5
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        process.stdout.close()
        while not limits.enter("address", "a", 5):  # as soon as it looks again
            pass
        assert limits.count("address", "a") == 1
        assert len(list((run / "limits").glob("*.table"))) == 1
    finally:
        limits.close()
    assert list(run.iterdir()) == []


LISTENER = """
import asyncio, socket, sys
from pathlib import Path
sys.path[:0] = [".", "tests/gateway", "tests/support"]
from conftest import Recorder
from gateway.smtp.limits import Limits
from gateway.smtp.listener import SmtpListener
from gateway.smtp.session import BoundSocket, Profile
from gateway.smtp.shared_limits import SharedLimits
from storage.values import Domain

async def serve(run):
    profile = Profile("mail.example.test", Domain("example.test"), str(run), Limits(connections_per_address=2))
    listener = SmtpListener(profile, lambda session: Recorder(), shared=SharedLimits.open(run))
    sock = socket.create_server(("127.0.0.1", 0))
    await listener.start([BoundSocket(sock, False)])
    print(sock.getsockname()[1], flush=True)
    await asyncio.Event().wait()

asyncio.run(serve(Path(sys.argv[1])))
"""


def test_workers_hold_one_limit_and_a_killed_one_frees_its_share(run: Path) -> None:
    workers = [
        subprocess.Popen([sys.executable, "-c", LISTENER, str(run)], stdout=subprocess.PIPE, cwd=ROOT) for _ in range(2)
    ]
    clients: list[socket.socket] = []

    def greeting(port: int) -> bytes:
        clients.append(socket.create_connection(("127.0.0.1", port), timeout=10))
        return clients[-1].recv(100)[:9]

    try:
        first, second = (int(worker.stdout.readline()) for worker in workers if worker.stdout is not None)
        assert greeting(first).startswith(b"220")
        assert greeting(second).startswith(b"220")
        assert greeting(first) == b"421 4.7.0"
        assert greeting(second) == b"421 4.7.0"
        workers[0].kill()
        workers[0].wait(10)
        while not greeting(second).startswith(b"220"):  # as soon as it looks again
            pass
        assert greeting(second) == b"421 4.7.0"
    finally:
        for client in clients:
            client.close()
        for worker in workers:
            worker.kill()
            worker.communicate()


def test_processes_at_the_same_moment_pass_a_limit_by_at_most_one_each(run: Path) -> None:
    processes = [child(run, 2000) for _ in range(3)]
    taken = 0
    for process in processes:
        assert process.stdout is not None
        taken += int(process.stdout.readline().split()[0])
    for process in processes:
        process.communicate()
    assert taken <= 2000 + 2


@pytest.mark.parametrize(
    ("steps", "allowed"),
    [
        # (seconds later, amount) ... of 10 in a minute
        ([(0, 10), (0, 1)], [True, False]),
        ([(0, 11)], [False]),
        ([(0, 4), (0, 7), (0, 6)], [True, False, True]),
        ([(0, 10), (60, 1), (30, 5), (0, 1)], [True, False, True, False]),  # what was spent wears off over a minute
        ([(0, 10), (119, 9)], [True, True]),
        ([(0, 10), (120, 10)], [True, True]),
        ([(59, 10), (1, 1), (59, 9), (1, 10)], [True, False, True, False]),
    ],
)
def test_a_rate(clock: FixedClock, steps: list[tuple[int, int]], allowed: list[bool]) -> None:
    limits = SharedLimits.of_this_process(clock)
    answers = []
    for seconds, amount in steps:
        clock.advance(seconds)
        answers.append(limits.spend("message", "a", amount, Rate(10, 60)))
    assert answers == allowed


def test_rates_are_held_together(open_limits: Open, clock: FixedClock) -> None:
    one, two = open_limits(), open_limits()
    assert all(one.spend("message", "a", 1, Rate(10, 60)) for _ in range(6))
    assert all(two.spend("message", "a", 1, Rate(10, 60)) for _ in range(4))
    assert not one.spend("message", "a", 1, Rate(10, 60))
    assert not two.spend("message", "a", 1, Rate(10, 60))
    assert two.spend("message", "b", 1, Rate(10, 60))
    assert two.spend("message", "a", 1, Rate(10, 3600))  # another period is another count
    assert two.spend("message", "a", 1000, Rate(0, 60))  # any number
    clock.advance(120)
    assert one.spend("message", "a", 10, Rate(10, 60))


def test_a_flood_of_keys_takes_no_memory_and_leaves_the_busy_ones(clock: FixedClock) -> None:
    limits = SharedLimits.of_this_process(clock)
    rate = Rate(500, 3600)
    for number in range(100_000):
        limits.spend("sender", f"{number}@flood.example", 1, rate)
        if number % 300 == 0:
            clock.advance(0.001)
            limits.spend("address", "busy", 1, rate)
    assert limits.lately("address", "busy", rate) == 334


def test_more_connections_than_places(open_limits: Open) -> None:
    """Own counts stay exact; others may miss some of so many."""
    one, two = open_limits(), open_limits()
    for number in range(6000):
        assert one.enter("address", str(number), 1)
    assert not any(one.enter("address", str(number), 1) for number in range(6000))
    assert sum(two.count("address", str(number)) for number in range(6000)) > 3000
    for number in range(6000):
        one.leave("address", str(number))
    assert sum(two.count("address", str(number)) for number in range(6000)) == 0
    assert one.enter("address", "7", 1)
    assert two.count("address", "7") == 1


def test_tables_name_nobody(open_limits: Open, run: Path) -> None:
    limits = open_limits()
    limits.enter("address", "2001:db8::5eed:77", 9)
    limits.spend("sender", "unmistakable@secret-sender.example", 1, Rate(9, 60))
    packed = IPv6Address("2001:db8::5eed:77").packed
    for path in (run / "limits").iterdir():
        octets = path.read_bytes()
        assert path.stat().st_mode & 0o077 == 0
        assert not any(word in octets for word in (b"2001:db8::5eed:77", packed, b"unmistakable", b"secret-sender"))


# Without tables


def test_each_process_alone_where_nothing_can_be_shared(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    limits = SharedLimits.open(tmp_path / "missing")
    assert not limits.shared
    assert limits.enter("address", "a", 1)
    assert not limits.enter("address", "a", 1)
    limits.leave("address", "a")
    assert limits.enter("address", "a", 1)
    limits.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


FULL = """
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))  # as a full disk
from gateway.smtp.shared_limits import SharedLimits
limits = SharedLimits.open(Path(sys.argv[1]))
print(limits.shared, limits.enter("a", "b", 1), limits.enter("a", "b", 1))
"""


def test_a_full_disk_fails_no_connection(run: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FULL, str(run)], capture_output=True, cwd=ROOT, check=True)
    assert done.stdout == b"False True False\n"
    assert [path.name for path in (run / "limits").iterdir()] == ["common"]


def test_a_folder_that_a_restart_lost_is_made_anew(run: Path) -> None:
    (run / "limits").symlink_to("/dev/shm/cleanmail-limits-gone")
    limits = SharedLimits.open(run)
    assert limits.shared
    limits.close()


def test_a_folder_that_others_may_write_to_is_not_used(run: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    theirs.chmod(0o777)
    (run / "limits").symlink_to(theirs)
    limits = SharedLimits.open(run)
    assert limits.shared
    assert list(theirs.iterdir()) == []
    limits.close()


@pytest.mark.parametrize("octets", [b"", b"x" * 100, bytes(SIZE), b"x" * SIZE])
def test_what_is_no_table_counts_for_nothing(open_limits: Open, run: Path, clock: FixedClock, octets: bytes) -> None:
    limits = open_limits()
    (run / "limits" / "0123456789abcdef.table").write_bytes(octets)
    clock.advance(1.0)
    assert limits.count("address", "a") == 0
    assert limits.enter("address", "a", 1)


def test_a_folder_that_vanishes_keeps_nobody_from_counting(open_limits: Open, run: Path, clock: FixedClock) -> None:
    one, two = open_limits(), open_limits()
    assert two.enter("address", "a", 2)
    assert one.count("address", "a") == 1
    folder = (run / "limits").resolve()
    moved = folder.rename(f"{folder}-moved")
    clock.advance(1.0)
    assert one.enter("address", "a", 2)
    assert not two.enter("address", "a", 2)
    moved.rename(folder)


def test_a_table_by_itself() -> None:
    table = LimitTable(memoryview(bytearray(SIZE)))
    assert not table.readable
    table.format()
    assert table.readable
    table.raise_gauge(2**64 - 1)
    assert (table.gauge(2**64 - 1), table.gauge(511), table.own_gauge(2**64 - 1)) == (1, 0, 1)
    table.add(5, 100, 3, 1)
    table.add(5, 100, 4, 2)
    assert [table.rate(5, window) for window in (99, 100, 101, 102)] == [(0, 0), (7, 0), (0, 7), (0, 0)]
    table.add(5, 101, 1, 3)
    assert table.rate(5, 101) == (1, 7)
    table.add(5, 200, 1, 4)
    assert table.rate(5, 200) == (1, 0)
