"""Cuts the octets of a connection into commands and literals; knows lengths, not grammar, and does no I/O.

A command arrives as one `Frame`: its text, in which each literal is left as its announcement `{n}CRLF`, and the
literals' octets. Whatever exceeds a limit becomes a `Refusal` and is skipped without being kept, so that memory stays
flat and the next command is found; what can't be skipped within reason closes the connection. Of a command with
messages each literal may have the size of a message, and all together that of two.

Standards: RFC 9051 §2.2.1, §4.3 (literals), RFC 7888 (LITERAL+, LITERAL-), RFC 7889 §4 (TOOBIG).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from typing import Final

from hosting.imap.limits import Limits

_ANNOUNCED = re.compile(rb"\{(\d{1,20})(\+?)\}\Z")
_COMMAND = re.compile(rb"[^ ]+ (?:UID )?([^ ]+)", re.IGNORECASE)
_WITH_MESSAGES: Final = frozenset({b"APPEND", b"REPLACE"})
_UNASKED = 4096  # octets of a literal that comes without a go-ahead where LITERAL- is offered (RFC 7888 §5)


@dataclass(frozen=True, slots=True)
class Frame:
    """One whole command without its final CRLF."""

    text: bytes
    literals: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Prompt:
    """The client waits for a continuation request before it sends a literal (RFC 9051 §7.6)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A command was not taken. `tag` may be empty; `close`: the rest of it can't be skipped, the connection ends."""

    tag: bytes
    text: bytes
    close: bool = False
    is_bad: bool = False  # BAD, though its text has a response code

    @property
    def word(self) -> bytes:
        return b"NO " if self.text.startswith(b"[") and self.tag and not self.is_bad else b"BAD "


PROMPT: Final = Prompt()


class Decoder:
    """`feed` takes what arrived; `next_frame` gives one event at a time, None when more octets are needed."""

    __slots__ = (
        "_at",
        "_buffer",
        "_in_line",
        "_limits",
        "_literal",
        "_literals",
        "_missing",
        "_pending",
        "_skip",
        "_text",
        "signed_in",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._buffer = b""
        self._at = 0  # what of the buffer has been taken
        self._text = b""  # the lines of this command so far, announcements included
        self._literals: list[bytes] | None = None
        self._literal: BytesIO | None = None  # the literal that is arriving; it gives its octets away without a copy
        self._missing = 0  # its octets that have not come yet
        self._skip = 0  # octets of a refused LITERAL+ still to be thrown away
        self._in_line = 0  # octets of an overlong line already thrown away; 0: not in one
        self._pending: Refusal | None = None  # told when the refused command has been skipped
        self.signed_in = False

    def feed(self, data: bytes) -> None:
        self._buffer = self._buffer[self._at :] + data if self._at < len(self._buffer) else data
        self._at = 0

    def whole(self, data: bytes) -> Frame | None:
        """What arrived as a command, if it is one line, whole and by itself, as most are; None: `feed` it."""
        end = data.find(b"\n")
        if end < 0 or end + 1 != len(data) or end > self._limits.line or data.endswith((b"}\r\n", b"}\n")):
            return None
        if self._buffer or self._text or self._literal is not None or self._skip or self._in_line or self._pending:
            return None
        return Frame(data[:-2] if data.endswith(b"\r\n") else data[:end])

    @property
    def buffered(self) -> int:
        """Octets that arrived and were not taken yet; a connection stops reading when they are many."""
        return len(self._buffer) - self._at

    def discard(self) -> None:
        """Forgets everything that arrived: what was pipelined behind STARTTLS (RFC 9051 §6.2.1)."""
        self._buffer, self._at = b"", 0
        self._reset()

    def remainder(self) -> bytes:
        """What arrived behind the last command, and is for somebody else to read."""
        rest = self._buffer[self._at :]
        self.discard()
        return rest

    @property
    def at_rest(self) -> bool:
        """Nothing of another command has arrived."""
        return self.buffered == 0 and not self._text and self._literal is None and not (self._skip or self._in_line)

    def next_line(self) -> bytes | Refusal | None:
        """One line by itself: DONE, or a response of a SASL exchange."""
        line = self._take_line()
        if line is None and self._in_line > self._limits.swallowed:
            return Refusal(b"", b"The line has no end.", close=True)
        if isinstance(line, bytes) and self._in_line:
            self._in_line = 0
            return Refusal(b"", b"The line is too long.")
        return line

    def next_frame(self) -> Frame | Prompt | Refusal | None:
        if not self._buffer and self._literal is None:
            return None
        while True:
            if self._skip:
                taken = min(self._skip, self.buffered)
                self._at += taken
                self._skip -= taken
                if self._skip:
                    return None
            if self._literal is not None:
                if not self._fill_literal():
                    return None
                continue
            line = self._take_line()
            if line is None:
                if self._in_line > self._limits.swallowed:
                    return Refusal(self._tag(), b"The line has no end.", close=True)
                return None
            if self._in_line:
                self._in_line = 0
                return self._refuse(b"The line is too long.")
            if len(self._text) + len(line) > self._limits.line:
                return self._refuse(b"The command is too long.")
            event = self._line(line)
            if event is not None:
                return event

    def _line(self, line: bytes) -> Frame | Prompt | Refusal | None:
        """Takes one line of a command; None: go on with the literal that it announced."""
        text = self._text + line if self._text else line
        announced = _ANNOUNCED.search(line) if line.endswith(b"}") else None
        pending = self._pending
        if announced is None:
            if pending is not None:
                self._reset()
                return pending
            frame = Frame(text, tuple(self._literals) if self._literals else ())
            if self._text:
                self._reset()
            return frame
        size, unsynchronised = int(announced[1]), bool(announced[2])
        self._text = text
        if pending is not None:
            if not unsynchronised:  # the client waits for a "+" that doesn't come: the tagged answer ends the command
                self._reset()
                return pending
            return self._throw_away(size, pending)
        if unsynchronised and size > _UNASKED and self._limits.literal_minus:
            return self._throw_away(
                size, Refusal(self._tag(), b"[TOOBIG] A literal of this size has to wait for a go-ahead.", is_bad=True)
            )
        if size > self._allowance(text):
            refusal = Refusal(self._tag(), b"[TOOBIG] The literal is larger than this server takes.")
            if unsynchronised:
                return self._throw_away(size, refusal)
            self._reset()
            return refusal
        self._text = text + b"\r\n"
        self._literal = BytesIO()
        self._missing = size
        return None if unsynchronised else PROMPT

    def _allowance(self, text: bytes) -> int:
        """The largest literal that may come next."""
        taken = sum(map(len, self._literals or ()))
        if not self.signed_in:
            return self._limits.early_literal - taken
        command = _COMMAND.match(text)
        if command is not None and command[1].upper() in _WITH_MESSAGES:
            return min(self._limits.message, self._limits.command - taken)
        return self._limits.literal - taken

    def _throw_away(self, size: int, refusal: Refusal) -> Refusal | None:
        """A LITERAL+ that is not wanted arrives all the same (RFC 7888 §4): skip it, or end the connection."""
        if size > self._limits.swallowed or self._skip:
            return Refusal(refusal.tag, refusal.text, close=True)
        self._skip = size
        self._text = self._text[:64]
        self._literals = None
        self._pending = refusal
        return None

    def _fill_literal(self) -> bool:
        literal = self._literal
        assert literal is not None
        taken = min(self._missing, self.buffered)
        literal.write(memoryview(self._buffer)[self._at : self._at + taken])
        self._at += taken
        self._missing -= taken
        if self._missing:
            return False
        if self._literals is None:
            self._literals = []
        self._literals.append(literal.getvalue())
        self._literal = None
        return True

    def _take_line(self) -> bytes | None:
        """The next line without its end (CRLF, or LF alone); the start of an overlong one is dropped as it comes."""
        buffer, start = self._buffer, self._at
        end = buffer.find(b"\n", start)
        if end < 0:
            if len(buffer) - start > self._limits.line or self._in_line:
                self._drop(buffer[start:])
                self._buffer, self._at = b"", 0
            return None
        line = buffer[start:end]
        if end + 1 == len(buffer):
            self._buffer, self._at = b"", 0  # nothing is kept between commands
        else:
            self._at = end + 1
        if len(line) > self._limits.line:
            self._drop(line)
            return b""
        return line[:-1] if line.endswith(b"\r") else line

    def _drop(self, octets: bytes) -> None:
        if not self._text:
            self._text = octets[:64]  # for its tag
        self._in_line += len(octets)

    def _refuse(self, text: bytes) -> Refusal:
        refusal = Refusal(self._tag(), text)
        self._reset()
        return refusal

    def _tag(self) -> bytes:
        tag, space, _ = self._text[:64].partition(b" ")
        return tag if space and tag.isalnum() else b""

    def _reset(self) -> None:
        self._text = b""
        self._literals = None
        self._literal = None
        self._missing = 0
        self._skip = 0
        self._in_line = 0
        self._pending = None
