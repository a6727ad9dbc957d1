"""A message while it arrives: memory first, then an encrypted file without a name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.smtp.content import IN_MEMORY, Content
from storage.errors import StorageFull


@given(st.lists(st.integers(0, 3 * IN_MEMORY), max_size=6))
@settings(max_examples=30, deadline=None)
def test_reads_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, sizes: list[int]) -> None:
    directory = tmp_path_factory.mktemp("spill")
    pieces = [os.urandom(size) for size in sizes]
    content = Content(str(directory), 1 << 30)
    for piece in pieces:
        content.write(piece)
    assert content.read() == b"".join(pieces) == b"".join(content.chunks())
    assert content.size == sum(sizes)
    assert list(directory.iterdir()) == []  # the file has no name
    content.close()


def test_file_shows_nothing(tmp_path: Path) -> None:
    content = Content(str(tmp_path), 1 << 30)
    content.write(b"secret words " * 20_000)
    descriptor = content._file
    stored = os.pread(descriptor, 1 << 20, 0)
    assert len(stored) > IN_MEMORY
    assert b"secret" not in stored
    content.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_beyond_the_limit_nothing_is_kept(tmp_path: Path) -> None:
    content = Content(str(tmp_path), 200_000)
    for _ in range(10):
        content.write(b"x" * 50_000)
    assert content.too_large
    assert content.size == 500_000
    assert content.read() == b""
    assert content._file == -1


def test_full_disk_is_remembered(tmp_path: Path) -> None:
    content = Content("/dev/shm/no/such/directory", 1 << 30)
    content.write(b"x" * 100_000)
    content.write(b"x" * 100_000)
    assert content.failed is not None
    assert not isinstance(content.failed, StorageFull)
    assert content.read() == b""
