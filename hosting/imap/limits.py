"""What one connection, one command and one account may take; all of it configurable."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of the IMAP service. Times are seconds, sizes octets."""

    message: int = 50 * 1024 * 1024  # APPENDLIMIT (RFC 7889)
    literal: int = 64 * 1024  # any literal that is not a message
    early_literal: int = 4096  # before sign-in: user names and passwords
    line: int = 64 * 1024  # one line of a command, without its literals
    swallowed: int = (
        1024 * 1024
    )  # of a refused line or LITERAL+ that are read to stay in step; beyond, the connection ends
    nesting: int = 50  # parentheses, OR and NOT in a search
    ranges: int = 20_000  # of one sequence set
    bad_commands: int = 20  # in a row; then the connection ends
    sign_in_timeout: float = 60.0
    idle_timeout: float = 1800.0  # RFC 9051 §5.4: at least 30 minutes
    connections_per_account: int = 50
    connections_per_address: int = 200
    connections: int = 20_000
    annotation: int = field(default=32 * 1024, metadata={"least": 1024})  # one value that a client keeps (RFC 5464)
    annotations: int = field(default=100, metadata={"least": 10})  # values beside one mailbox, and beside the account
    # all values of an account; each counts 1 KiB besides
    annotation_octets: int = field(default=4 * 1024 * 1024, metadata={"least": 1024})
    # of messages that were read within a minute, kept in the memory of each process for who reads them again; 0: none
    recent_messages: int = field(default=16 * 1024 * 1024, metadata={"least": 0})
    comment: str = ""  # what clients may show about this server: its entry /shared/comment
    admin: str = ""  # how whoever runs it is reached, a mailto:, tel: or https: address: its entry /shared/admin
    # what programs are not told of, since they use it badly: the beginning of the name they give in ID, and the words,
    # as in {"Microsoft Office 365" = "UIDONLY COMPRESS=DEFLATE"}; nothing else depends on that name
    hidden: dict[str, str] = field(default_factory=dict)
    literal_minus: bool = False  # offer LITERAL- in place of LITERAL+: larger literals wait for a go-ahead (RFC 7888)
    uid_only: bool = False  # offer UIDONLY (RFC 9586); Microsoft's cloud turns it on and then fails
    utf8_accept: bool = False  # offer UTF8=ACCEPT (RFC 9755); folder names of some clients for Android break with it

    @property
    def command(self) -> int:
        """All literals of one command that brings messages: several together, or parts to be put together."""
        return 2 * self.message
