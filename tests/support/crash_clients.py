"""The load on a server that is killed again and again: connections that do one thing after the other, for ever.

Each says to the ledger what was acknowledged: a command whose answer never came may have happened or not, wholly.
"""

from __future__ import annotations

import random
import threading

from crash_ledger import ACCOUNTS, ALICE, BOB, Fate, Kind, Ledger, Sent
from whole_server import WholeServer
from wire import Closed, ImapWire, SmtpWire

OWN = "someone@own.test"  # at the own server of mallory's tenant
FAR = "far@elsewhere.test"
SPAM = "Cheap pills, cheap watches! Buy now, click here."
PROGRAM = (
    "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nLook at this.\r\n--b\r\n"
    "Content-Type: application/octet-stream; name=game.exe\r\n"
    "Content-Disposition: attachment; filename=game.exe\r\n\r\nMZ and so on\r\n--b--\r\n"
)


class Client:
    """One connection's load: its own messages, command after command, until the server is gone and the round over."""

    def __init__(self, name: str, account: str, server: WholeServer, ledger: Ledger, seed: int) -> None:
        self.name, self.account = name, account
        self._server, self._ledger = server, ledger
        self._random = random.Random(seed)
        self._number = 0
        self.wrong: BaseException | None = None

    def run(self, over: threading.Event) -> None:
        while not over.is_set():
            try:
                self._session(over)
            except (Closed, OSError, ValueError):
                over.wait(0.05)  # the server is being killed, or started again
            except BaseException as error:
                self.wrong = error
                return

    def new_token(self) -> str:
        self._number += 1
        return f"{self.name}-{self._number}"

    def mail(self, token: str, kind: Kind = Kind.WANTED, author: str = ALICE) -> bytes:
        head = f"From: {author}\r\nSubject: {token}\r\n"
        if kind is Kind.FORBIDDEN:
            return (head + PROGRAM).encode()
        if kind is Kind.SPAM:
            return f"{head}\r\n{SPAM}\r\n".encode()
        body = f"{token} {'x' * self._random.randrange(70)}\r\n" * self._random.choice((1, 20, 20, 3000))
        return f"{head}\r\n{body}".encode()

    def _session(self, over: threading.Event) -> None:
        raise NotImplementedError


class ImapClient(Client):
    def _session(self, over: threading.Event) -> None:
        with self._server.imap(None, patience=10) as imap:
            signed_in = imap.login(self.account, self._server.passwords[self.account])
            if not signed_in.ok:
                assert signed_in.tagged.startswith(b"NO [UNAVAILABLE]"), signed_in.tagged
                raise Closed(signed_in.tagged)  # the auth role is being started again
            imap.command(b"SELECT INBOX")
            while not over.is_set():
                self._random.choice((self._append, self._append, self._move, self._store, self._expunge))(imap)

    def _mine(self, mailbox: bytes | None = None) -> list[str]:
        """Tokens whose place is certain."""
        return [
            token
            for token, fate in self._ledger.fates.copy().items()  # others add to them
            if token.startswith(self.name + "-")
            and len(fate.places) == 1
            and fate.uid
            and len(fate.flagged) == 1
            and (fate.places == {mailbox} if mailbox else None not in fate.places)
        ]

    def _append(self, imap: ImapWire) -> None:
        token = self.new_token()
        fate = self._ledger.fates[token] = Fate(self.account, {None, b"INBOX"})
        answer = imap.append(b"INBOX", self.mail(token))
        if not answer.ok:
            fate.places, fate.said = {None}, answer.tagged
            return
        fate.uid = answer.number(rb"APPENDUID \d+ (\d+)\]")
        fate.places = {b"INBOX"}
        self._acknowledged(b"INBOX", fate.uid, token)

    def _move(self, imap: ImapWire) -> None:
        mine = self._mine(b"INBOX")
        if not mine:
            return
        token = self._random.choice(mine)
        fate = self._ledger.fates[token]
        fate.places = {b"INBOX", b"Archive"}
        answer = imap.command(b"UID MOVE %d Archive" % fate.uid)
        if answer.ok:
            fate.uid = answer.number(rb"COPYUID \d+ \d+ (\d+)\]")
            fate.places = {b"Archive"}
            self._acknowledged(b"Archive", fate.uid, token)
        else:
            fate.uid = 0

    def _store(self, imap: ImapWire) -> None:
        mine = self._mine(b"INBOX")
        if not mine:
            return
        fate = self._ledger.fates[self._random.choice(mine)]
        flagged = self._random.choice((True, False))
        before, fate.flagged = fate.flagged, fate.flagged | {flagged}
        answer = imap.command(b"UID STORE %d %cFLAGS.SILENT (\\Flagged)" % (fate.uid, b"+" if flagged else b"-"))
        fate.flagged = {flagged} if answer.ok else before | {flagged}
        if answer.ok:
            self._ledger.acknowledge()

    def _expunge(self, imap: ImapWire) -> None:
        mine = self._mine(b"INBOX")
        if len(mine) < 5:
            return
        fate = self._ledger.fates[self._random.choice(mine)]
        if not imap.command(b"UID STORE %d +FLAGS.SILENT (\\Deleted)" % fate.uid).ok:
            return
        fate.places = {b"INBOX", None}
        if imap.command(b"UID EXPUNGE %d" % fate.uid).ok:
            fate.places = {None}
            self._ledger.acknowledge()

    def _acknowledged(self, mailbox: bytes, uid: int, token: str) -> None:
        self._ledger.acknowledge()
        self._ledger.uid_names(self.account, mailbox, uid, token)


class SmtpClient(Client):
    """Mail for several recipients; the ledger has it before the first octet is sent."""

    def _send(
        self, smtp: SmtpWire, sender: str, accounts: list[str], *elsewhere: str, kind: Kind = Kind.WANTED
    ) -> None:
        token = self.new_token()
        sent = self._ledger.sent[token] = Sent(frozenset(accounts), bool(elsewhere), kind)
        recipients = [*accounts, *elsewhere]
        self._random.shuffle(recipients)
        send = smtp.submit if self._random.random() < 0.7 else smtp.submit_in_chunks
        # The quarantine's list names the envelope's sender; the subject is not for everybody.
        reverse_path = f"{token}@{FAR.partition('@')[2]}" if sender == FAR else sender
        code, said = send(reverse_path, recipients, self.mail(token, kind, sender))
        sent.accepted = code == 250
        if sent.accepted:
            self._ledger.acknowledge()
            return
        assert code < 500, f"{token} was refused for good: {said!r}"
        if code == 421:
            raise Closed(said)
        smtp.command(b"RSET")


class SubmissionClient(SmtpClient):
    """alice sends to bob, and to bob and somebody elsewhere in turns."""

    def _session(self, over: threading.Event) -> None:
        with self._server.smtp(None, patience=10) as smtp:
            code, said = smtp.login(ALICE, self._server.passwords[ALICE])
            if code != 235:
                assert code in (421, 451, 454), said
                raise Closed(said)
            while not over.is_set():
                self._send(smtp, ALICE, [BOB], *([FAR] if self._random.random() < 0.3 else []))


class MxClient(SmtpClient):
    """Another server sends to mailboxes here, to a tenant's own server, and to several tenants at once: mail that is
    wanted, spam, and attachments that are forbidden.
    """

    def _session(self, over: threading.Event) -> None:
        with SmtpWire(self._server.ports["mx"], patience=10) as smtp:
            code, said = smtp.command(b"EHLO mx.elsewhere.test")
            if code != 250:
                raise Closed(said)
            while not over.is_set():
                accounts = [account for account in ACCOUNTS if self._random.random() < 0.5]
                elsewhere = [OWN] if not accounts or self._random.random() < 0.4 else []
                kind = self._random.choices(tuple(Kind), (2, 1, 1))[0]
                self._send(smtp, FAR, accounts, *elsewhere, kind=kind)
