"""The whole server from outside: a message's way in and out, a full disk, and what its logs and its disk give away."""

from __future__ import annotations

import base64
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from whole_server import WholeServer, running, until
from wire import Closed

from hosting.data_register import REGISTER

pytestmark = pytest.mark.slow


def mail(subject: str, body: str = "Text.\r\n", sender: str = "alice@one.test") -> bytes:
    return f"From: {sender}\r\nTo: bob@one.test\r\nSubject: {subject}\r\n\r\n{body}".encode()


def test_a_message_goes_in_by_submission_and_comes_out_by_imap_octet_for_octet(whole_server: WholeServer) -> None:
    body = "".join(f"Line {n}, .dots\r\n.\r\n..\r\n" for n in range(200))
    with whole_server.smtp() as smtp:
        code, said = smtp.submit("alice@one.test", ["bob@one.test", "info@one.test"], mail("whole way", body))
        assert code == 250, said
    for address in ("bob@one.test", "alice@one.test"):  # info@ is an alias of alice
        with whole_server.imap(address) as imap:
            assert imap.command(b"SELECT INBOX").ok
            uid = imap.command(b'UID SEARCH SUBJECT "whole way"').number(rb"\* SEARCH (\d+)\r\n")
            octets = imap.command(b"UID FETCH %d BODY.PEEK[TEXT]" % uid).text
            assert body.encode() in octets
            header = imap.command(b"UID FETCH %d BODY.PEEK[HEADER]" % uid).text
            assert b"Return-Path: <alice@one.test>" in header and b"127.0.0.1" not in header


def test_every_file_of_the_running_server_is_declared(whole_server: WholeServer) -> None:
    assert REGISTER.undeclared(whole_server.data) == []


def test_idle_tells_of_a_message_that_another_process_delivered(whole_server: WholeServer) -> None:
    with whole_server.imap("bob@one.test") as imap:
        assert imap.command(b"SELECT INBOX").ok
        tag = imap.begin(b"IDLE")
        assert imap.response().startswith(b"+")
        with whole_server.smtp() as smtp:
            assert smtp.submit("alice@one.test", ["bob@one.test"], mail("pushed"))[0] == 250
        assert re.fullmatch(rb"\* \d+ EXISTS\r\n", imap.response())
        imap.send(b"DONE\r\n")
        assert imap.end(tag).ok


# A full disk


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of its own that is full soon."""
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0700", "tmpfs", str(folder)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"NOT SHOWN: a full disk needs root to mount a small one ({made.stderr.decode().strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def restart_workers(server: WholeServer) -> None:
    """Kills what holds connections and databases; the supervisor starts it again."""
    before = {role: server.pids(role) for role in ("imap", "smtp", "queue", "jobs")}
    for pids in before.values():
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    until(lambda: all(server.pids(role) not in ([], old) for role, old in before.items()), "new processes")


def fill(path: Path) -> None:
    """Takes every octet that is left."""
    with path.open("ab", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while True:
                    file.write(os.urandom(size) if size > 1 else b"x")


def test_a_full_disk_refuses_new_mail_for_now_and_recovers(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 48) as disk, running(WholeServer(disk, web=False)) as server:
        full = disk / "filler"
        with server.imap() as imap, server.smtp() as smtp:
            assert imap.append(b"INBOX", mail("before")).ok
            assert imap.command(b"SELECT INBOX").ok
            fill(full)
            for size in (1_000, 300_000):
                answer = imap.append(b"INBOX", mail("refused", "x" * 70 + "\r\n" + "y\r\n" * (size // 3)))
                assert answer.tagged.startswith((b"NO [UNAVAILABLE]", b"NO [OVERQUOTA]")), answer.tagged
                body = "x" * 70 + "\r\n" + "y\r\n" * (size // 3)
                for recipients in (["bob@one.test"], ["bob@one.test", "far@elsewhere.example"]):
                    code, said = smtp.submit("alice@one.test", recipients, mail("refused", body))
                    assert (code, said[4:9]) == (452, b"4.3.1"), said
            # Reading goes on, in this session and in new ones.
            assert b"before" in imap.command(b"FETCH 1:* BODY[]").text
            with server.imap() as second:
                assert second.command(b"SELECT INBOX").ok
                assert b"before" in second.command(b"FETCH 1:* (FLAGS ENVELOPE)").text
            assert imap.command(b"NOOP").ok
            restart_workers(server)
            with server.imap() as third:  # as a process sees the disk that was started when it was full
                assert third.command(b"SELECT INBOX").ok
                assert b"before" in third.command(b"FETCH 1:* (FLAGS BODY[])").text
                assert third.append(b"INBOX", mail("refused")).tagged.startswith(b"NO [UNAVAILABLE]")
            os.truncate(full, 0)
        with server.imap() as imap, server.smtp() as smtp:
            assert imap.command(b"SELECT INBOX").ok
            assert imap.append(b"INBOX", mail("after")).ok
            code, said = smtp.submit("alice@one.test", ["bob@one.test", "far@elsewhere.example"], mail("after"))
            assert code == 250, said
            subjects = imap.command(b"FETCH 1:* BODY.PEEK[HEADER.FIELDS (SUBJECT)]").text
            assert b"after" in subjects and b"refused" not in subjects
        with server.imap("bob@one.test") as imap:
            assert imap.command(b"SELECT INBOX").number(rb"\* (\d+) EXISTS") == 1
        until(lambda: server.check("--contents") == [], "a clean check")
        assert "ended by signal 7" not in server.log()  # SIGBUS: a mapped file that the disk has no room for
        assert server.stop() == 0


# What logs and disk give away


def forms(token: str) -> list[bytes]:
    """How the token may stand in a file that holds it in plain."""
    plain = token.encode()
    encoded = [base64.b64encode(b"\0" * pad + plain)[4 if pad else 0 : -4] for pad in (0, 1, 2)]
    return [plain, plain.upper(), plain.hex().encode(), token.encode("utf-16-le"), *encoded]


def test_neither_logs_nor_the_disk_hold_anything_of_what_people_write(tmp_path: Path) -> None:
    secret = {
        name: f"{name}qzx{os.urandom(6).hex()}"
        for name in (
            "subject",
            "body",
            "local",
            "domain",
            "file",
            "wrong",
            "login",
            "folder",
            "keyword",
            "search",
            "id",
        )
    }
    address = f"{secret['local']}@{secret['domain']}.test"
    town = {
        "tenants": {
            "acme": {"domains": {f"{secret['domain']}.test": True}, "accounts": {address: {"password": "right " * 3}}}
        }
    }
    with running(WholeServer(tmp_path, town, settings='[logs]\nlevel = "debug"\n')) as server:
        session(server, address, secret)
        # Sealed at rest, while the server runs as well: looked for by a process that holds no database.
        until(lambda: server.imap(address).command(b"STATUS INBOX (MESSAGES)").ok, "an answer")
        patterns = tmp_path / "patterns"
        patterns.write_bytes(b"\n".join(form for token in secret.values() for form in forms(token)))
        for _ in range(2):
            found = grep(patterns, server.data)
            assert found == [], found
            if server.process is not None:
                assert server.stop() == 0
        printed = server.log() + (server.folder / "serve.out").read_text()
    assert "lease tenant=1" in printed  # the log is not empty, and at its most talkative
    told = [name for name, token in secret.items() if token.lower() in printed.lower()]
    assert told == []
    assert "right right" not in printed and "127.0.0.1" not in re.sub(
        r"on 127\.0\.0\.1|http://127\.0\.0\.1", "", printed
    )
    assert "Traceback" not in printed and " error " not in printed, printed


def grep(patterns: Path, folder: Path) -> list[str]:
    """The files below `folder` that hold one of the patterns; the configuration and the file names count too."""
    done = subprocess.run(
        ["grep", "--recursive", "--fixed-strings", "--text", "--files-with-matches", f"--file={patterns}", str(folder)],
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    names = [str(path) for path in folder.rglob("*")]
    words = [word.decode("latin-1") for word in patterns.read_bytes().split(b"\n")]
    return done.stdout.decode().split() + [name for name in names if any(word in name for word in words)]


def session(server: WholeServer, address: str, secret: dict[str, str]) -> None:
    """Everything that people do: right and wrong, by submission and by IMAP."""
    message = (
        f"From: {secret['local']} <{address}>\r\nTo: {secret['local']}+x@{secret['domain']}.test\r\n"
        f"Subject: {secret['subject']}\r\nMessage-ID: <{secret['id']}@{secret['domain']}.test>\r\n"
        f'MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\n\r\n{secret["body"]}\r\n'
        f'--b\r\nContent-Type: text/plain; name="{secret["file"]}.txt"\r\n\r\n{secret["body"]}\r\n--b--\r\n'
    ).encode()
    with server.smtp(None) as smtp:
        assert smtp.login(address, secret["wrong"])[0] == 535
        assert smtp.login(secret["login"], secret["wrong"])[0] == 535
    with server.smtp(address) as smtp:
        for recipients in ([address], [address, f"{secret['local']}@elsewhere.example"]):
            assert smtp.submit(address, recipients, message)[0] == 250
        assert smtp.submit(f"{secret['login']}@{secret['domain']}.test", [address], message)[0] == 550
        assert smtp.submit(address, [f"{secret['login']}@{secret['domain']}.test"], message)[0] == 550
        smtp.command(b"RSET")
        assert smtp.submit(address, [address], message.replace(b"From: ", b"From: <x@y.test>, "))[0] == 550
        assert smtp.submit(address, [address], message.replace(b"b--\r\n", b"b--\n"))[0] in (550, 554)
        smtp.command(f"VRFY {address}".encode())
        smtp.command(f"{secret['body']} {secret['wrong']}".encode())
    with server.imap(None) as imap:
        assert not imap.login(address, secret["wrong"]).ok
        assert not imap.login(secret["wrong"], secret["wrong"]).ok
        assert not imap.command(f"{secret['login']} {secret['wrong']}".encode()).ok
        imap.send(f"{secret['wrong']}\r\n".encode())
    with server.imap(address) as imap:
        folder = f"Work/{secret['folder']}".encode()
        assert imap.command(b"CREATE " + folder).ok
        assert imap.append(folder, message, secret["keyword"].encode()).ok
        assert imap.command(b"SELECT INBOX").ok
        assert imap.command(f"SEARCH TEXT {secret['search']}".encode()).ok
        assert secret["body"].encode() in imap.command(b"FETCH 1:* (BODYSTRUCTURE ENVELOPE BODY[])").text
        assert imap.command(b"COPY 1 " + folder).ok
        assert imap.command(f"STORE 1 +FLAGS ({secret['keyword']})".encode()).ok
        assert not imap.command(f"SELECT {secret['subject']}".encode()).ok
        assert not imap.command(f"FETCH {secret['body']} FLAGS".encode()).ok
        imap.command(f'ID ("name" "{secret["login"]}")'.encode())
        assert imap.command(b"RENAME " + folder + b" " + folder + b"2").ok
        tag = imap.begin(b"APPEND INBOX {}", message)  # and gone before the answer
        del tag
    with suppress(Closed), server.imap(address) as imap:
        imap.command(b"LOGOUT")
