"""Fills what is free between objects that stay, so that what comes after a fork lies together on pages of its own.

Whoever imports much leaves holes everywhere. Memory that a forked process asks for would come out of them first, and
each of them costs it a copy of the page around: 2.5 MB of holes cost nine workers 68 MB. What fills them is never
looked at and never freed. Python's allocator says how many blocks it has free; of the C library's, as long as it is
glibc's, blocks are taken until they come from the end of the heap. Elsewhere less is filled, and nothing else changes.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
from collections.abc import Iterator

_AT_MOST = 16 << 20  # octets
_LARGEST, _SMALLEST, _STEP = 1 << 16, 24, 16  # of the C library's blocks
_STEPWISE = 4096  # from here on in steps, before that by halves
_BEYOND = 100_000  # larger than what is taken, and below what the C library maps apart
_CLASS = re.compile(rb"^ *\d+ +(\d+) +\d+ +\d+ +(\d+) *$", re.MULTILINE)  # size of blocks, those that are free


def fill() -> None:
    _fill_pools()
    _fill_heap()


def free_blocks() -> dict[int, int]:
    """How many blocks of each size Python's allocator has free in pools of which others are used."""
    with tempfile.TemporaryFile() as told:
        stderr = os.dup(2)
        try:
            os.dup2(told.fileno(), 2)
            sys._debugmallocstats()
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
        told.seek(0)
        return {int(size): int(free) for size, free in _CLASS.findall(told.read())}


def _fill_pools() -> None:
    take = ctypes.pythonapi.PyObject_Malloc
    take.argtypes, take.restype = [ctypes.c_size_t], ctypes.c_void_p
    for size, free in free_blocks().items():
        for _ in range(free):
            take(size)


def _fill_heap() -> None:
    library = ctypes.CDLL(None)
    if not hasattr(library, "malloc_trim"):
        return
    take, give = library.malloc, library.free
    take.argtypes, take.restype = [ctypes.c_size_t], ctypes.c_void_p
    give.argtypes = [ctypes.c_void_p]
    end = take(_BEYOND)
    taken = 0
    for size in _sizes():
        while taken < _AT_MOST:
            block = take(size)
            if block is None or block > end:  # there is no hole of this size any more
                give(block)
                break
            taken += size
    give(end)


def _sizes() -> Iterator[int]:
    size = _LARGEST
    while size >= _SMALLEST:
        yield size
        size = size // 2 if size > _STEPWISE else size - _STEP
