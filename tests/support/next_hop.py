"""A mail server that does as it is told, at each step: the other side of the SMTP client's tests.

    with NextHop() as hop:
        hop.script["RCPT"] = ["250 ok", "550 5.1.1 no such user", CUT]
        ...
        assert hop.messages[0].content == b"..."

It speaks SMTP on a loopback port from a thread of its own. What it does at a step is the first of what `script` holds
for it, or the last one for ever: a reply (lines separated by LF), or one of CUT (closes), RESET (closes hard), SILENT
(says nothing any more), ENDLESS (says ever more), or octets as they are. Steps without a script go well. "amid content"
is when some of the content has come, "content" when all of it has; "handshake" is when the client
has begun with TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

CUT = object()
RESET = object()
SILENT = object()
ENDLESS = object()

GOOD = {
    "greeting": "220 hop.test ESMTP",
    "HELO": "250 hop.test",
    "STARTTLS": "220 2.0.0 go ahead",
    "MAIL": "250 2.1.0 ok",
    "RCPT": "250 2.1.5 ok",
    "DATA": "354 go ahead",
    "content": "250 2.0.0 taken",
    "RSET": "250 2.0.0 ok",
    "NOOP": "250 2.0.0 ok",
    "QUIT": "221 2.0.0 bye",
}
EXTENSIONS = ("PIPELINING", "8BITMIME", "SIZE 10000000", "ENHANCEDSTATUSCODES", "SMTPUTF8", "DSN")


@dataclass
class Taken:
    """A message that was taken: its envelope as it was said, and its octets without the doubled dots."""

    mail: str
    recipients: list[str]
    content: bytes
    tls: bool
    connection: int


@dataclass
class Talk:
    """What one connection said, and when it ended."""

    commands: list[str] = field(default_factory=list)
    tls: bool = False
    chunks: int = 0  # reads that held commands: a group of commands is one
    closed: bool = False
    server_name: str | None = None
    peer: str = ""


class NextHop:
    def __init__(
        self,
        extensions: tuple[str, ...] = EXTENSIONS,
        *,
        certificate: tuple[Path, Path] | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.extensions = extensions
        self.script: dict[str, list[Any]] = {}
        self.messages: list[Taken] = []
        self.contents: list[Taken] = []  # all that came to its final dot, taken or not
        self.talks: list[Talk] = []
        self.address = address
        self.port = port
        self.taken = threading.Condition()
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self.use(certificate)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task[None]] = set()

    def use(self, certificate: tuple[Path, Path], **options: Any) -> None:
        """Offers STARTTLS with this chain and key from now on."""
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(*certificate)
        for name, value in options.items():
            setattr(self._context, name, value)

    @property
    def commands(self) -> list[str]:
        """Of all connections, in order of connecting."""
        return [command for talk in self.talks for command in talk.commands]

    def wait_for(self, condition: Callable[[], bool], seconds: float = 10.0) -> None:
        """Until `condition` holds; it is looked at whenever something was said or ended."""
        with self.taken:
            assert self.taken.wait_for(condition, seconds), [talk.commands for talk in self.talks]

    def __enter__(self) -> NextHop:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    # Serving

    async def _listen(self) -> None:
        sock = socket.create_server(
            (self.address, self.port), family=socket.AF_INET6 if ":" in self.address else socket.AF_INET
        )
        self.port = sock.getsockname()[1]
        self._server = await asyncio.start_server(self._accept, sock=sock)

    async def _stop(self) -> None:
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # asyncio does it only for sockets that it has made itself.
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        talk = Talk(peer=writer.get_extra_info("peername")[0])
        with self.taken:
            self.talks.append(talk)
            number = len(self.talks)
        connection = _Connection(self, talk, number, reader, writer)
        with contextlib.suppress(ConnectionError, _Over, asyncio.CancelledError, ssl.SSLError):
            await connection.serve()
        self._tasks.discard(task)
        with self.taken:
            talk.closed = True
            self.taken.notify_all()
        with contextlib.suppress(Exception):
            writer.close()


def _end_of(content: bytes) -> int:
    """Where the final dot is, -1 if it has not come."""
    if content.startswith(b".\r\n"):
        return 0
    found = content.find(b"\r\n.\r\n")
    return found if found < 0 else found + 2


class _Over(Exception):  # noqa: N818
    pass


class _Connection:
    def __init__(
        self, hop: NextHop, talk: Talk, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.hop = hop
        self.talk = talk
        self.number = number
        self.reader = reader
        self.writer = writer
        self.pending = b""
        self.mail = ""
        self.recipients: list[str] = []

    async def serve(self) -> None:
        await self.answer("greeting")
        while True:
            line = (await self.line()).decode("utf-8", "replace")
            self.say_heard(line)
            verb = line.split(" ")[0].upper()
            if verb == "EHLO":
                await self.answer("EHLO", "\n".join(("250 hop.test", *(f"250 {word}" for word in self.offered()))))
            elif verb == "STARTTLS":
                if await self.answer("STARTTLS") == 220:
                    await self.start_tls()
            elif verb == "MAIL":
                if await self.answer("MAIL") == 250:
                    self.mail, self.recipients = line, []
            elif verb == "RCPT":
                if await self.answer("RCPT", GOOD["RCPT"] if self.mail else "503 5.5.1 MAIL first") == 250:
                    self.recipients.append(line)
            elif verb == "DATA":
                refuses = "DATA" not in self.hop.script and not self.recipients
                if await self.answer("DATA", "554 5.5.1 no valid recipients" if refuses else GOOD["DATA"]) == 354:
                    await self.take_content()
            elif verb == "QUIT":
                await self.answer("QUIT")
                return
            elif verb in GOOD or verb in self.hop.script:
                await self.answer(verb)
            else:
                await self.answer(verb, "500 5.5.2 what?")

    def offered(self) -> tuple[str, ...]:
        tls = ("STARTTLS",) if self.hop._context is not None and not self.talk.tls else ()
        return (*self.hop.extensions, *tls)

    async def take_content(self) -> None:
        content = b""
        while (end := _end_of(content)) < 0:
            content += self.pending or await self.read()
            self.pending = b""
            if self.hop.script.get("amid content"):
                await self.act(self.next_action("amid content", ""))
        content, self.pending = content[:end], content[end + 3 :]
        if content.startswith(b"."):
            content = content[1:]
        taken = Taken(self.mail, self.recipients, content.replace(b"\r\n..", b"\r\n."), self.talk.tls, self.number)
        self.mail, self.recipients = "", []
        self.say_heard(".")
        action = self.next_action("content", GOOD["content"])
        with self.hop.taken:
            self.hop.contents.append(taken)
            if isinstance(action, str) and action.startswith("250"):
                self.hop.messages.append(taken)
        await self.act(action)

    async def answer(self, step: str, otherwise: str = "") -> int:
        """Does what is next at `step`; the code of the reply."""
        return await self.act(self.next_action(step, otherwise or GOOD[step]))

    def next_action(self, step: str, otherwise: str | None) -> Any:
        script = self.hop.script.get(step)
        if not script:
            return otherwise
        return script[0] if len(script) == 1 else script.pop(0)

    async def act(self, action: Any) -> int:
        if action is CUT:
            raise _Over
        if action is RESET:
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
            raise _Over
        if action is SILENT:
            while await self.reader.read(1 << 16):
                pass
            raise _Over
        if action is ENDLESS:
            while True:
                self.writer.write(b"250-more and more and more\r\n" * 100)
                await self.writer.drain()
        if isinstance(action, bytes):
            self.writer.write(action)
            await self.writer.drain()
            return int(action[:3]) if action[:3].isdigit() else 0
        lines = action.split("\n")
        texts = [line[:3] + ("-" if line is not lines[-1] else " ") + line[4:] for line in lines]
        self.writer.write("".join(f"{text}\r\n" for text in texts).encode())
        await self.writer.drain()
        code = int(action[:3])
        if code == 421:
            raise _Over
        return code

    async def start_tls(self) -> None:
        fault = self.next_action("handshake", None)
        if fault is not None:
            await self.read()  # the client has begun
            await self.act(fault)
            raise _Over
        context = self.hop._context
        assert context is not None

        def named(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> None:
            self.talk.server_name = name

        context.sni_callback = named  # type: ignore[assignment]
        await self.writer.start_tls(context, ssl_handshake_timeout=10)
        self.talk.tls = True

    async def line(self) -> bytes:
        while b"\r\n" not in self.pending:
            self.pending += await self.read()
        line, _, self.pending = self.pending.partition(b"\r\n")
        return line

    async def read(self) -> bytes:
        octets = await self.reader.read(1 << 16)
        if not octets:
            raise _Over
        self.talk.chunks += 1
        return octets

    def say_heard(self, line: str) -> None:
        with self.hop.taken:
            self.talk.commands.append(line)
            self.hop.taken.notify_all()
