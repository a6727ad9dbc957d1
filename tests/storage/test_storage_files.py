"""The message file against every kind of tampering, and the Maildir's way from tmp/ to cur/."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.errors import Corrupt, NotFound, StorageFull, TooLarge, Unavailable
from storage.files import durable
from storage.files.format import CHUNK, read_all, read_message, read_meta, read_span, write_file
from storage.files.incarnation import Incarnation
from storage.files.maildir import Maildir, incarnation_of
from storage.files.metadata import META_MAX, FileMeta
from storage.keys.sealing import Key
from storage.values import AccountId, MessageId

ROOT = Path(__file__).parents[2]
KEY = Key("ab" * 16, b"k" * 32)
META = FileMeta(
    AccountId(12),
    MessageId(345),
    1_750_000_000,
    mailbox="Entwürfe/日本",
    flags=1 << 61 | 5,
    keywords=("$Forwarded", "müll"),
    delivery_id="3f2a",
    prefix=b"Received: from a\r\n\tby b\r\n",
)
TEXT = b"Subject: one\r\n\r\n" + b"The quick brown fox.\r\n" * 20
LONG = os.urandom(CHUNK) + b"compressible " * 20_000 + os.urandom(1000)  # five chunks
relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def save(path: Path, data: bytes, meta: FileMeta = META, key: Key = KEY) -> str:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        write_file(descriptor, path.name, key, meta, data)
    finally:
        os.close(descriptor)
    return str(path)


# The format


@pytest.mark.parametrize("size", [0, 1, 100, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 5 * CHUNK + 17])
def test_what_is_written_is_read(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    path = save(tmp_path / "m", data)
    assert read_all(path, KEY) == (META, data) and read_meta(path, KEY) == META


@relaxed
@given(st.lists(st.binary(max_size=3000), max_size=5), st.integers(0, 3))
def test_pieces_of_any_size_make_the_same_message(tmp_path: Path, pieces: list[bytes], factor: int) -> None:
    pieces = [piece * (40 * factor) for piece in pieces]
    path = tmp_path / "m"
    with path.open("wb") as file:
        write_file(file.fileno(), "m", KEY, META, iter(pieces))
    assert read_all(str(path), KEY)[1] == b"".join(pieces)


@relaxed
@given(
    st.text(max_size=30),
    st.text(max_size=30) | st.none(),
    st.binary(max_size=50),
    st.integers(-(2**62), 2**62),
    st.integers(-1439, 1439),
)
def test_metadata_come_back(mailbox: str, delivery: str | None, prefix: bytes, when: int, zone: int) -> None:
    meta = FileMeta(
        AccountId(1),
        MessageId(2),
        when,
        mailbox=mailbox,
        delivery_id=delivery,
        prefix=prefix,
        keywords=("a", "b"),
        internal_zone=zone,
    )
    assert FileMeta.unpack(meta.pack()) == meta


@given(st.integers(0, len(META.pack()) - 1))
def test_cut_metadata_are_corrupt(length: int) -> None:
    with pytest.raises(Corrupt):
        FileMeta.unpack(META.pack()[:length])


def test_metadata_have_a_limit(tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        save(tmp_path / "m", b"", replace(META, prefix=b"x" * META_MAX))
    large = replace(META, prefix=os.urandom(META_MAX - 200))
    assert read_all(save(tmp_path / "m", LONG, large), KEY) == (large, LONG)


@relaxed
@given(st.integers(0, len(LONG) + 10), st.integers(0, len(LONG) + 10))
def test_spans_are_slices(tmp_path: Path, start: int, end: int) -> None:
    path = tmp_path / "long"
    if not path.exists():
        save(path, LONG)
    assert read_span(str(path), KEY, start, end) == LONG[start:end]


@pytest.mark.parametrize("size", [0, 10, CHUNK, 2 * CHUNK])
def test_spans_at_the_edges(tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    path = save(tmp_path / "m", data)
    for start in (0, max(size - 1, 0), size, size + CHUNK):
        for end in (0, start, start + 1, size, 10 * CHUNK):
            assert read_span(path, KEY, start, end) == data[start:end]


def readers(path: str, key: Key = KEY) -> list[Callable[[], object]]:
    """Every way to read the whole file."""
    return [lambda: read_all(path, key), lambda: read_span(path, key, 0, 1 << 30)]


def read_beyond(path: str) -> object:
    """What lies behind the end, which has to be the real one."""
    return read_span(path, KEY, 1 << 29, 1 << 30)


@relaxed
@given(st.data())
@pytest.mark.parametrize("length", ["one chunk", "five chunks"])
def test_a_changed_octet_is_seen(tmp_path: Path, length: str, data: st.DataObject) -> None:
    path = tmp_path / "m"
    if not path.exists():
        save(path, TEXT if length == "one chunk" else LONG)
    content = path.read_bytes()
    position = data.draw(st.integers(0, len(content) - 1) | st.integers(0, 80))
    changed = bytearray(content)
    changed[position] ^= data.draw(st.integers(1, 255))
    damaged = tmp_path / "damaged" / "m"
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_bytes(changed)
    for reader in readers(str(damaged)):
        with pytest.raises(Corrupt):
            reader()


@relaxed
@given(st.data())
@pytest.mark.parametrize("length", ["one chunk", "five chunks"])
def test_a_cut_or_lengthened_file_is_seen(tmp_path: Path, length: str, data: st.DataObject) -> None:
    path = tmp_path / "m"
    if not path.exists():
        save(path, TEXT if length == "one chunk" else LONG)
    content = path.read_bytes()
    end = data.draw(st.integers(0, len(content) - 1) | st.sampled_from(starts(content)))
    damaged = tmp_path / "damaged" / "m"
    damaged.parent.mkdir(exist_ok=True)
    for changed in (content[:end], content + content[end:], content + b"\x00"):
        damaged.write_bytes(changed)
        every: list[Callable[[], object]] = [*readers(str(damaged)), partial(read_beyond, str(damaged))]
        for reader in every:
            with pytest.raises(Corrupt):
                reader()


def starts(content: bytes) -> list[int]:
    """Where the chunks of a file begin."""
    found, position = [], 60
    while position < len(content):
        found.append(position)
        position += 4 + int.from_bytes(content[position : position + 4], "big")
    return found


@pytest.mark.parametrize(
    "order", [[0, 2, 1, 3, 4], [0, 1, 2, 4], [0, 1, 1, 2, 3, 4], [1, 2, 3, 4], [0, 1, 2, 3], [0]], ids=str
)
def test_chunks_cannot_be_moved_repeated_or_left_out(tmp_path: Path, order: list[int]) -> None:
    path = Path(save(tmp_path / "m", LONG))
    content = path.read_bytes()
    places = [*starts(content), len(content)]
    assert len(places) == 6
    chunks = [content[a:b] for a, b in pairwise(places)]
    path.write_bytes(content[: places[0]] + b"".join(chunks[n] for n in order))
    for reader in readers(str(path)):
        with pytest.raises(Corrupt):
            reader()


def test_a_chunk_of_another_file_does_not_fit(tmp_path: Path) -> None:
    first, second = Path(save(tmp_path / "a", LONG)), Path(save(tmp_path / "b", LONG))
    one, two = first.read_bytes(), second.read_bytes()
    place = starts(one)[1]
    first.write_bytes(one[:place] + two[place:])
    with pytest.raises(Corrupt):
        read_all(str(first), KEY)


def test_no_file_takes_anothers_place(tmp_path: Path) -> None:
    save(tmp_path / "a", TEXT)
    shutil.copy(tmp_path / "a", tmp_path / "b")
    for reader in readers(str(tmp_path / "b")):
        with pytest.raises(Corrupt):
            reader()
    with pytest.raises(Corrupt):
        read_meta(str(tmp_path / "b"), KEY)


@pytest.mark.parametrize("key", [Key(KEY.id, b"x" * 32), Key("cd" * 16, KEY.secret)])
def test_another_key_does_not_open_it(tmp_path: Path, key: Key) -> None:
    path = save(tmp_path / "m", TEXT)
    with pytest.raises(Corrupt):
        read_all(path, key)


def test_a_frame_that_claims_too_much_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = zstandard.compress(bytes(64 << 20))
    monkeypatch.setattr("storage.files.format.codec.pack", lambda plain: bomb)
    path = save(tmp_path / "m", TEXT)
    monkeypatch.undo()
    with pytest.raises(Corrupt, match="too large"):
        read_all(path, KEY)


@pytest.mark.parametrize("read", [read_all, read_message, read_meta, lambda path, key: read_span(path, key, 0, 1)])
def test_the_file_system_does_not_note_when_a_message_is_read(
    tmp_path: Path, read: Callable[[str, Key], object]
) -> None:
    path = save(tmp_path / "name", TEXT)
    os.utime(path, (1, 2))  # a time before that of the last change is always written anew
    read(path, KEY)
    assert os.stat(path).st_atime == 1


def test_a_file_of_somebody_else_is_read() -> None:
    """Who is neither its owner nor root may not keep the file system from noting it."""
    path, root = "/etc/passwd", os.geteuid() == 0
    if root:
        os.seteuid(65_534)
    try:
        with pytest.raises(PermissionError):
            os.close(os.open(path, os.O_RDONLY | os.O_NOATIME))
        with pytest.raises(Corrupt, match="message file"):  # it was opened, and is none
            read_message(path, KEY)
    finally:
        if root:
            os.seteuid(0)


def test_the_file_shows_nothing(tmp_path: Path) -> None:
    content = Path(save(tmp_path / "m", TEXT)).read_bytes()
    for secret in (b"quick brown fox", b"Subject: one", KEY.secret):
        assert secret not in content


def test_the_same_message_twice_gives_different_files(tmp_path: Path) -> None:
    first = Path(save(tmp_path / "m", TEXT)).read_bytes()
    assert Path(save(tmp_path / "m", TEXT)).read_bytes()[36:] != first[36:]


# The Maildir


@pytest.fixture
def maildir(tmp_path: Path) -> Maildir:
    maildir = Maildir(tmp_path / "a" / "Maildir")
    maildir.create()
    maildir.create()
    return maildir


def where(maildir: Maildir) -> dict[str, list[str]]:
    return {folder: sorted(maildir.names(folder)) for folder in ("tmp", "new", "cur")}


def test_the_way_of_a_message(maildir: Maildir) -> None:
    name = maildir.new_name("inc")
    assert incarnation_of(name) == "inc" and name != maildir.new_name("inc")
    maildir.write(name, KEY, META, TEXT)
    assert where(maildir) == {"tmp": [name], "new": [], "cur": []}
    with pytest.raises(NotFound):
        maildir.read(name, KEY)
    maildir.link(name)
    maildir.sync(name)
    maildir.sync_new()
    assert where(maildir) == {"tmp": [], "new": [name], "cur": []}
    assert maildir.read(name, KEY) == (META, TEXT)
    maildir.settle(name)
    maildir.settle(name)
    assert where(maildir) == {"tmp": [], "new": [], "cur": [name]}
    assert maildir.read(name, KEY) == (META, TEXT) and maildir.read_meta(name, KEY) == META
    assert maildir.read_span(name, KEY, 5, 10) == TEXT[5:10] and maildir.has(name) and maildir.size(name) > 100
    assert maildir.remove(name) and not maildir.remove(name) and not maildir.has(name)


@pytest.mark.parametrize("folder", ["tmp", "new", "cur"])
def test_remove_finds_a_file_wherever_it_is(maildir: Maildir, folder: str) -> None:
    (maildir.path / folder / "name").write_bytes(b"")
    assert maildir.remove("name") and where(maildir) == {"tmp": [], "new": [], "cur": []}


def test_a_name_is_used_once(maildir: Maildir) -> None:
    maildir.write("name", KEY, META, TEXT)
    with pytest.raises(Unavailable):
        maildir.write("name", KEY, META, TEXT)
    assert where(maildir)["tmp"] == ["name"]


def test_a_failed_write_leaves_nothing(maildir: Maildir) -> None:
    def pieces() -> object:
        yield b"x" * CHUNK * 2
        raise ValueError

    with pytest.raises(ValueError):
        maildir.write("name", KEY, META, pieces())  # type: ignore[arg-type]
    assert where(maildir)["tmp"] == []


def test_a_full_disk_leaves_nothing() -> None:
    """On a real file system without space."""
    code = """
import resource, signal, sys
from pathlib import Path
import tempfile
sys.path.insert(0, {tests!r})
from test_storage_files import *
with tempfile.TemporaryDirectory() as folder:
    maildir = Maildir(Path(folder))
    maildir.create()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    try:
        maildir.write("name", KEY, META, LONG)
    except Unavailable:
        print(where(maildir))
"""
    done = run(code)
    assert done.stdout == "{'tmp': [], 'new': [], 'cur': []}\n"


# What makes things durable


def run(code: str) -> subprocess.CompletedProcess[str]:
    code = code.format(tests=str(Path(__file__).parent))
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("call", ["durable.fsync_directory('/tmp')", "durable.fsync_file(1)"])
def test_a_failed_fsync_ends_the_process(call: str) -> None:
    done = run(
        f"""
import errno, os
from storage.files import durable
def fsync(descriptor): raise OSError(errno.EIO, "I/O error")
os.fsync = fsync
try:
    {call}
finally:
    print("still alive")
"""
    )
    assert done.returncode == durable.EXIT_FSYNC_FAILED and done.stdout == "" and "fsync" in done.stderr


def test_no_space_at_fsync_of_a_new_file_is_an_error_only(maildir: Maildir, monkeypatch: pytest.MonkeyPatch) -> None:
    def fsync(_: int) -> None:
        raise OSError(28, "No space left on device")

    maildir.write("name", KEY, META, TEXT)
    maildir.link("name")
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageFull):
        maildir.sync("name")
    with pytest.raises(StorageFull):
        maildir.put("name", KEY, META, TEXT)
    assert where(maildir) == {"tmp": [], "new": [], "cur": []}
    maildir.put("name", KEY, META, TEXT, at_once=False)
    assert where(maildir)["new"] == ["name"] and maildir.read("name", KEY) == (META, TEXT)


def test_write_file_replaces_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.write_file(path, b"one")
    durable.write_file(path, b"two")
    assert path.read_bytes() == b"two" and path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    with pytest.raises(Unavailable):
        durable.write_file(tmp_path / "none" / "file", b"")
    assert durable.remove_file(path) and not durable.remove_file(path)


def test_make_directory_makes_its_parents(tmp_path: Path) -> None:
    durable.make_directory(tmp_path / "a" / "b")
    durable.make_directory(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unavailable):
        durable.make_directory(tmp_path / "file" / "x")


# Incarnations


def test_an_incarnation_lives_as_long_as_its_process(tmp_path: Path) -> None:
    mine = Incarnation(tmp_path)
    code = f"""
import sys
from pathlib import Path
from storage.files.incarnation import Incarnation
incarnation = Incarnation(Path({str(tmp_path)!r}))
print(incarnation, flush=True)
sys.stdin.read()
"""
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None and child.stdin is not None
    name = child.stdout.readline().strip()
    assert mine.is_alive(name) and mine.is_alive(mine.name) and not mine.is_alive("nobody")
    assert mine.forget_dead() == []
    child.kill()
    child.wait()
    child.stdout.close()
    child.stdin.close()
    assert not mine.is_alive(name)
    assert mine.forget_dead() == [name] and not mine.is_alive(name)
    mine.close()
    mine.close()
    other = Incarnation(tmp_path)
    assert not other.is_alive(mine.name)
    other.close()
