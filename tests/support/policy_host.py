"""An HTTPS server on loopback that answers every request with the octets it was told, and counts connections."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from types import TracebackType


class PolicyHost:
    """`answers`: one for each connection in turn, the last one for all that follow; None: silence."""

    def __init__(
        self, context: ssl.SSLContext, *answers: bytes | None, address: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.context = context
        self.address = address
        self.answers: list[bytes | None] = list(answers)
        self.requests: list[bytes] = []
        self.port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> PolicyHost:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, self.address, self.port, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
            if answer is None:
                await asyncio.Event().wait()
            else:
                writer.write(answer)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()


def http(body: bytes, status: str = "200 OK", kind: str = "text/plain; charset=utf-8", extra: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{extra}\r\n"
    return head.encode() + body
