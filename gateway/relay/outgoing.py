"""A message in the form in which a server takes it: converted if it has to be, signed, with its dots doubled.

Each form is made once, however many servers are tried. Signing comes after every conversion, since it covers the octets
(RFC 6376 §5.3). Nothing that leaves here has a bare CR or LF, so nothing in a message can be taken for its end.

Raises: `NotSendable` with what it means for every recipient; CleanmailError if the signing keys cannot be read now.
Standards: RFC 5321 §4.5.2 (transparency) and §2.3.8 (line ends), RFC 6152 §3 (conversion), RFC 6531 §3.5, RFC 1870 §6.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import partial

from gateway.relay.capabilities import Capabilities
from gateway.relay.convert import NotConvertible, convert, has_internationalised_header
from gateway.relay.lines import has_long_line
from gateway.relay.outcome import RecipientOutcome, RelayMessage, Signer
from gateway.relay.replies import failed
from gateway.work import Work

INLINE_MAX = 64 * 1024  # octets that are looked at on the event loop; more goes to a worker thread

_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


class NotSendable(Exception):  # noqa: N818
    def __init__(self, outcome: RecipientOutcome) -> None:
        super().__init__()
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class Octets:
    """`data` is what follows DATA, with its final dot; `size` what SIZE says of it."""

    data: bytes = field(repr=False)
    size: int
    eight_bit: bool
    smtputf8: bool


class Outgoing:
    def __init__(self, message: RelayMessage, signer: Signer | None, work: Work) -> None:
        self._message = message
        self._signer = signer
        self._work = work
        self._forms: dict[bool, Octets] = {}

    async def form(self, server: Capabilities) -> Octets:
        """The octets for a server that offers this."""
        seven_bit = not server.eight_bit
        octets = self._forms.get(seven_bit)
        if octets is None:
            make = partial(self._make, seven_bit=seven_bit)
            signs = self._signer is not None and self._message.author is not None
            if signs or len(self._message.content) > INLINE_MAX:
                octets = await self._work.run_on(len(self._message.content), make)
            else:
                octets = make()
            self._forms[seven_bit] = octets
        if octets.smtputf8 and not server.smtputf8:
            raise NotSendable(failed("5.6.7", "The next server takes no message with internationalised headers."))
        if server.size and octets.size > server.size:
            raise NotSendable(failed("5.3.4", "The message is larger than the next server takes."))
        return octets

    def _make(self, *, seven_bit: bool) -> Octets:
        content = with_line_ends(self._message.content)
        smtputf8 = self._message.parameters.smtputf8 and has_internationalised_header(content)
        if has_long_line(content) or (seven_bit and not content.isascii()):
            try:
                content = convert(content, seven_bit=seven_bit)
            except NotConvertible as error:
                raise NotSendable(failed(error.status, error.text)) from None
        if self._signer is not None and self._message.author is not None:
            content = self._signer.sign(content, self._message.author) + content
        return Octets(stuffed(content), len(content), not content.isascii(), smtputf8)


def with_line_ends(content: bytes) -> bytes:
    """`content` with CRLF for every bare CR and LF, and at its end."""
    whole = content.count(b"\r\n")
    if content.count(b"\n") != whole or content.count(b"\r") != whole:
        content = _BARE.sub(b"\r\n", content)
    return content if content.endswith(b"\r\n") or not content else content + b"\r\n"


def stuffed(content: bytes) -> bytes:
    """`content`, which ends with CRLF or is empty, as it follows DATA (RFC 5321 §4.5.2)."""
    if b"\r\n." in content:
        content = content.replace(b"\r\n.", b"\r\n..")
    return b"".join((b"." if content.startswith(b".") else b"", content, b".\r\n"))
