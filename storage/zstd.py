"""The zstd contexts of each thread: costly to make (100 microseconds, mostly memory), and not to be shared by threads.

`unpack` makes as much as a frame says that it holds: whoever does not know that looks at it first.
"""

from __future__ import annotations

import threading

import zstandard

LEVEL = 3


class _Codec(threading.local):
    def __init__(self) -> None:
        self.pack = zstandard.ZstdCompressor(level=LEVEL, write_checksum=False).compress
        self.unpack = zstandard.ZstdDecompressor().decompress


codec = _Codec()
