"""Two tenants on one server: mallory@two.test tries to reach the mail of alice@one.test by every door there is."""

from __future__ import annotations

import base64
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from whole_server import WholeServer, until
from wire import ImapWire, SmtpWire

from hosting.auth.client import AuthClient
from hosting.auth.grants import Role
from hosting.auth.signin import SignIn
from storage.errors import CleanmailError, NotFound, NotPermitted
from storage.values import AccountId, TenantId

pytestmark = pytest.mark.slow

ALICE, MALLORY = "alice@one.test", "mallory@two.test"
STANDARD = {b'"INBOX"', b'"Sent"', b'"Drafts"', b'"Junk"', b'"Trash"', b'"Archive"'}
TOKEN = "for-alice-alone-" + secrets.token_hex(6)


@pytest.fixture(scope="module")
def server(whole_server: WholeServer) -> WholeServer:
    """With a message for alice."""
    with whole_server.imap(ALICE) as imap:
        assert imap.append(b"INBOX", mail(ALICE, TOKEN)).ok
        assert imap.command(b"CREATE Secret/Plans").ok
        assert imap.append(b"Secret/Plans", mail(ALICE, TOKEN)).ok
    return whole_server


@pytest.fixture
def mallory(server: WholeServer) -> Iterator[ImapWire]:
    with server.imap(MALLORY) as imap:
        yield imap
        for line in imap.command(b'LIST "" *').untagged:  # what a test made, and what was made above it
            name = line.rpartition(b' "/" ')[2].strip()
            if name not in STANDARD:
                imap.command(b"DELETE " + name)


def mail(sender: str, subject: str = "hello", **fields: str) -> bytes:
    lines = [f"From: {sender}", "To: x@y.test", f"Subject: {subject}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\nText.\r\n").encode()


def folders(server: WholeServer) -> set[str]:
    """Every folder below the data directory and beside it; those of the access log come by themselves."""
    return {str(path) for path in server.folder.rglob("*") if path.is_dir() and "logs" not in path.parts}


# Names and ids in IMAP

NAMES = [
    "../1/INBOX",
    "../../1/accounts/1/INBOX",
    "/etc/passwd",
    "..",
    ".",
    "/",
    "//",
    "INBOX/../../alice",
    "~alice@one.test",
    "~",
    "#user.alice",
    "user/alice@one.test",
    "user.alice",
    "alice@one.test",
    "alice@one.test/INBOX",
    "Other Users/alice@one.test/INBOX",
    "Shared/alice",
    "Secret/Plans",
    "Secret",
    "1/1/INBOX",
    "INBOX\\..\\..",
    "%",
    "*",
    "F1-1",
    "../tenants/1/accounts/1/Maildir/cur",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_lead_to_the_own_mailboxes_or_nowhere(server: WholeServer, mallory: ImapWire, name: str) -> None:
    before = folders(server)
    literal = name.encode()
    said = b""
    for command in (b"SELECT {}", b"EXAMINE {}", b"STATUS {} (MESSAGES UIDNEXT)", b"SUBSCRIBE {}", b"GETQUOTAROOT {}"):
        answer = mallory.command(command, literal)
        if command[:6] in (b"SELECT", b"EXAMIN", b"STATUS"):
            assert not answer.ok
        said += answer.text
    said += mallory.command(b"UNSUBSCRIBE {}", literal).text
    assert mallory.command(b"SELECT INBOX").ok
    said += mallory.append(b"INBOX", mail(MALLORY)).text
    for command in (b"UID COPY 1:* {}", b"UID MOVE 1:* {}"):
        answer = mallory.command(command, literal)
        assert not answer.ok
    created = mallory.command(b"CREATE {}", literal)  # a name that happens to be allowed is mallory's own
    if created.ok:
        assert mallory.command(b"SELECT {}", literal).number(rb"\* (\d+) EXISTS") == 0
        assert mallory.command(b"CLOSE").ok
        assert mallory.command(b"DELETE {}", literal).ok
    else:
        assert not mallory.command(b"DELETE {}", literal).ok
        assert not mallory.command(b"RENAME {} Mine", literal).ok
    assert TOKEN.encode() not in said and folders(server) == before


@pytest.mark.parametrize(
    ("reference", "pattern"),
    [
        ("", "*"),
        ("", "../*"),
        ("..", "*"),
        ("/", "*"),
        ("~alice@one.test", "*"),
        ("", "*alice*"),
        ("", "*Secret*"),
        ("user/alice", "%"),
        ("#shared", "*"),
        ("Other Users/", "*"),
    ],
)
def test_lists_hold_the_own_mailboxes_alone(mallory: ImapWire, reference: str, pattern: str) -> None:
    for command in (b"LIST {} {}", b"LSUB {} {}", b"LIST (SUBSCRIBED) {} ({}) RETURN (STATUS (MESSAGES))"):
        answer = mallory.command(command, reference.encode(), pattern.encode())
        assert b"Secret" not in answer.text and b"alice" not in answer.text.lower().replace(b"~alice@one.test", b"")


def test_namespaces_quotas_and_ids_of_others_are_not_there(server: WholeServer, mallory: ImapWire) -> None:
    namespace = mallory.command(b"NAMESPACE").untagged[0].upper()
    assert re.fullmatch(rb'\* NAMESPACE \(\("" "/"\)\) \(\("OTHER USERS/" "/"\)\) NIL\r\n', namespace)
    for root in (b"alice@one.test", b"1", b"../1", b"user/alice", b"Other Users/alice@one.test"):
        assert not mallory.command(b"GETQUOTA {}", root).ok
        assert not mallory.command(b"SETQUOTA {} (STORAGE 1)", root).ok
    with server.imap(ALICE) as alice:
        assert alice.command(b"SELECT INBOX").ok
        ids = alice.command(b"FETCH 1:* (EMAILID THREADID)").text
        mailbox_ids = alice.command(b"STATUS Secret/Plans (MAILBOXID)").text
    assert mallory.append(b"INBOX", mail(MALLORY)).ok
    assert mallory.command(b"SELECT INBOX").ok
    own = mallory.command(b"FETCH 1:* (EMAILID THREADID)").text
    found = re.findall(rb"(EMAILID|THREADID) \(([^)]+)\)", ids)
    assert found
    for key, value in found:
        assert value not in own
        answer = mallory.command(b"UID SEARCH " + key + b" " + value)
        assert TOKEN.encode() not in answer.text and not re.search(rb"\* SEARCH \d", answer.text)
    mailbox_id = re.search(rb"MAILBOXID \(([^)]+)\)", mailbox_ids)
    assert mailbox_id and not mallory.command(b"SELECT {}", mailbox_id[1]).ok
    assert not re.search(rb"\* SEARCH \d", mallory.command(b"UID SEARCH TEXT " + TOKEN.encode()).text)
    assert TOKEN.encode() not in mallory.command(b"UID FETCH 1:* (BODY[])").text


def test_mailboxes_are_not_shared_across_tenants(server: WholeServer, mallory: ImapWire) -> None:
    theirs = b"Other Users/alice@one.test/Secret/Plans"
    with server.imap(ALICE) as alice:
        assert not alice.command(b"SETACL Secret/Plans {} lrs", MALLORY.encode()).ok
        assert alice.command(b"SETACL Secret/Plans anyone lrs").ok  # of the own tenant
    try:
        absent = mallory.command(b"STATUS {} (MESSAGES)", b"Other Users/nobody@one.test/Secret/Plans")
        hidden = mallory.command(b"STATUS {} (MESSAGES)", theirs)
        assert not hidden.ok and hidden.tagged == absent.tagged
        for command in (b"SELECT {}", b"EXAMINE {}", b"MYRIGHTS {}", b"GETACL {}", b"GETMETADATA {} /shared/comment"):
            assert not mallory.command(command, theirs).ok
        assert b"Secret" not in mallory.command(b'LIST "" "*"').text
    finally:
        with server.imap(ALICE) as alice:
            assert alice.command(b"DELETEACL Secret/Plans anyone").ok


def test_the_same_words_and_message_ids_join_no_threads_across_tenants(server: WholeServer, mallory: ImapWire) -> None:
    shared = f"<{secrets.token_hex(8)}@shared.test>"
    message = mail(MALLORY, "joined", **{"Message-ID": shared})
    ids = []
    with server.imap(ALICE) as alice:
        for imap in (mallory, alice):
            assert imap.append(b"INBOX", message).ok
            assert imap.command(b"SELECT INBOX").ok
            ids += re.findall(rb"(?:EMAILID|THREADID) \(([^)]+)\)", imap.command(b"FETCH * (EMAILID THREADID)").text)
    assert len(ids) == 4 and len(set(ids)) == 4


# Signing in


def test_passwords_and_app_passwords_of_the_other_tenant_open_nothing(server: WholeServer) -> None:
    alices = server.accounts[ALICE]["app_password"]
    with server.imap(None) as imap:
        for login in (MALLORY, "mallory", f"{ALICE}\0{MALLORY}", f"{MALLORY}*{ALICE}", f"{ALICE}/{MALLORY}"):
            assert not imap.login(login, alices).ok
    with server.imap(None) as imap:
        assert not imap.login(ALICE, server.passwords[MALLORY]).ok
        assert not imap.login(ALICE, server.accounts[MALLORY]["app_password"]).ok
        assert imap.login(ALICE, alices).ok  # it is a good one where it belongs


@pytest.mark.parametrize("identity", [ALICE, "alice", "root", "admin", "1"])
def test_nobody_signs_in_for_somebody_else(server: WholeServer, identity: str) -> None:
    """The authorization identity of SASL PLAIN (RFC 4616 §2)."""
    words = base64.b64encode(f"{identity}\0{MALLORY}\0{server.passwords[MALLORY]}".encode())
    with server.imap(None) as imap:
        assert not imap.command(b"AUTHENTICATE PLAIN " + words).ok
        assert not imap.command(b"SELECT INBOX").ok
    with server.smtp(None) as smtp:
        smtp.command(b"EHLO x")
        assert smtp.command(b"AUTH PLAIN " + words)[0] in (501, 535, 550)
        assert smtp.command(b"MAIL FROM:<alice@one.test>")[0] == 530


# Submission

FORGED = [
    mail(ALICE),
    mail(f"Mallory <{MALLORY}>, Alice <{ALICE}>"),
    mail(f'"{MALLORY}" <{ALICE}>'),
    mail(f"{MALLORY} <{ALICE}>"),
    mail(f"{ALICE} <{MALLORY}>"),
    mail(MALLORY, Sender=ALICE),
    mail(MALLORY, **{"From ": ALICE}),
    mail(MALLORY, **{"\tX: y\r\nFrom": ALICE}),
    mail(f"group:{ALICE};"),
    mail(f"{MALLORY}\r\n <{ALICE}>"),
    mail("mallory@sub.two.test"),
    mail("mallory@one.test"),
    mail("postmaster@one.test"),
    mail("info@one.test"),
    mail("mallory@pending.test"),
    b"Subject: none\r\n\r\nText\r\n",
]


@pytest.mark.parametrize("forged", FORGED, ids=range(len(FORGED)))
def test_nobody_writes_as_somebody_else(server: WholeServer, forged: bytes) -> None:
    with server.smtp(MALLORY) as smtp:
        code, said = smtp.submit(MALLORY, [ALICE], forged)
        assert code == 550, said
        assert smtp.submit(MALLORY, [MALLORY], mail(MALLORY))[0] == 250  # the session goes on


@pytest.mark.parametrize(
    "path",
    [
        ALICE,
        "bob@one.test",
        "info@one.test",
        "postmaster@one.test",
        "mallory@one.test",
        "mallory+alice@one.test",
        "mallory@pending.test",
        '"mallory@two.test"@one.test',
        "mallory@two.test@one.test",
        "mallory%two.test@one.test",
    ],
)
def test_no_reverse_path_of_another_is_taken(server: WholeServer, path: str) -> None:
    with server.smtp(MALLORY) as smtp:
        assert smtp.command(f"MAIL FROM:<{path}>".encode())[0] in (501, 550, 553)


def test_a_pending_domain_gets_no_mail_and_sends_none(server: WholeServer) -> None:
    """Whoever adds a domain without proof must not catch mail for it; it is a stranger's until then."""
    with server.smtp(ALICE) as smtp:
        code, said = smtp.submit(ALICE, ["mallory@pending.test"], mail(ALICE, "to a pending domain"))
        assert code == 250

    # It left for wherever DNS says, if anywhere: the queue had it, and it came to no mailbox here.
    # Each process brings its part of the trace to the disk within a second.
    def traced() -> str:
        text = server.cleanmail("trace", said.split()[-1].decode()).stdout.lower()
        return text if "received" in text else ""

    assert "delivered" not in until(traced, "the trace")
    stranger = SmtpWire(server.ports["mx"])
    stranger.command(b"EHLO far.test")
    assert stranger.submit("someone@far.test", ["mallory@pending.test"], mail("someone@far.test"))[0] == 550
    stranger.close()
    with server.imap(MALLORY) as imap:
        assert imap.command(b"SELECT INBOX").ok
        assert not re.search(rb"\* SEARCH \d", imap.command(b'UID SEARCH SUBJECT "to a pending domain"').text)


# The auth role's socket


def client(server: WholeServer, role: Role) -> AuthClient:
    return AuthClient(server.data / "run" / "auth.sock", role)


def refused(ask: Any) -> type[CleanmailError]:
    with pytest.raises(CleanmailError) as caught:
        ask()
    return caught.type


def test_roles_get_the_keys_that_the_table_grants_and_no_others(server: WholeServer) -> None:
    one, alice = TenantId(server.accounts[ALICE]["tenant"]), AccountId(server.accounts[ALICE]["account"])
    two = TenantId(server.accounts[MALLORY]["tenant"])
    imap, smtp, jobs = (client(server, role) for role in (Role.IMAP, Role.SMTP, Role.JOBS))
    try:
        for name in ("control", "directory", "queue", "audit"):
            assert refused(lambda name=name: imap.service_key(name)) is NotPermitted
        assert refused(lambda: imap.tenant_key(one, "test")) is NotPermitted
        assert refused(lambda: imap.create_account_key(one, AccountId(99))) is NotPermitted
        assert refused(lambda: smtp.create_tenant_key(TenantId(99))) is NotPermitted
        assert refused(lambda: smtp.destroy_account_key(one, alice)) is NotPermitted
        assert refused(lambda: smtp.service_key("audit")) is NotPermitted
        sign_in = SignIn("imap", ALICE, server.passwords[ALICE], "127.0.0.1", "test")
        assert refused(lambda: jobs.verify(sign_in)) is NotPermitted
        # An account's key is under its own tenant alone, and numbers are numbers.
        for role in (imap, smtp, jobs):
            assert refused(lambda role=role: role.account_key(two, alice, "test")) is NotFound
        for odd in ("../1", "1/../1", -1, True, None, 1.0):
            assert refused(lambda odd=odd: imap.account_key(odd, alice, "test")) is not AssertionError
            assert refused(lambda odd=odd: imap.account_key(one, odd, "test")) is not AssertionError
        assert imap.account_key(one, alice, "test").secret != jobs.tenant_key(one, "test").secret
    finally:
        for each in (imap, smtp, jobs):
            each.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="NOT SHOWN: needs root to become somebody else")
def test_other_users_of_the_machine_reach_neither_socket_nor_files(server: WholeServer) -> None:
    script = (
        "import os, socket, sys\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "for path in sys.argv[1:]:\n"
        "    try:\n"
        "        socket.socket(socket.AF_UNIX).connect(path) if path.endswith('.sock') else open(path, 'rb')\n"
        "        print('reached', path)\n"
        "    except PermissionError:\n"
        "        pass\n"
    )
    paths = [str(path) for path in server.data.rglob("*") if not path.is_dir()]
    assert any(path.endswith("auth.sock") for path in paths) and any(path.endswith("account.db") for path in paths)
    done = subprocess.run([sys.executable, "-c", script, *paths], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    loose = [str(path) for path in (server.data, *server.data.rglob("*")) if path.stat().st_mode & 0o077]
    assert [path for path in loose if "/tls" not in path and not path.endswith("cleanmail.toml")] == []


# Files and archives


def test_a_message_file_of_another_account_is_good_for_nothing(server: WholeServer, tmp_path: Path) -> None:
    """Somebody who can move files about cannot make the server show them."""
    with server.imap(MALLORY) as imap:
        assert imap.command(b"CREATE Swapped").ok
        theirs = set(maildir(server, MALLORY).iterdir())
        assert imap.append(b"Swapped", mail(MALLORY, "mine")).ok
        [mine] = until(lambda: set(maildir(server, MALLORY).iterdir()) - theirs, "the message's file in cur/")
        kept = tmp_path / "kept"
        shutil.copy(mine, kept)
        try:
            for alices in maildir(server, ALICE).iterdir():
                shutil.copy(alices, mine)
                assert imap.command(b"SELECT Swapped").ok
                answer = imap.command(b"FETCH 1 BODY[]")
                assert answer.tagged.startswith(b"NO [CORRUPTION]") and TOKEN.encode() not in answer.text
        finally:
            shutil.copy(kept, mine)
        assert b"mine" in imap.command(b"FETCH 1 BODY[]").text


def maildir(server: WholeServer, address: str) -> Path:
    ids = server.accounts[address]
    return server.data / "tenants" / str(ids["tenant"]) / "accounts" / str(ids["account"]) / "Maildir" / "cur"


def test_an_archive_imports_its_own_messages_and_leads_nowhere_else(server: WholeServer, tmp_path: Path) -> None:
    outside = tmp_path / "outside.eml"
    outside.write_bytes(mail(ALICE, TOKEN))
    (tmp_path / "elsewhere" / "cur").mkdir(parents=True)
    (tmp_path / "elsewhere" / "cur" / "1:2,").write_bytes(mail(ALICE, TOKEN))
    eml = tmp_path / "eml"
    eml.mkdir()
    (eml / "own.eml").write_bytes(mail(MALLORY, "from the archive"))
    (eml / "link.eml").symlink_to(outside)
    (eml / "folder").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(eml / "pipe.eml")
    tree = tmp_path / "Maildir"
    for name in ("", ".&AC4ALg-.x", ".x.&AC8-etc", "...", "%2e%2e"):
        for folder in ("cur", "new", "tmp"):
            (tree / name / folder).mkdir(parents=True)
        (tree / name / "cur" / "1:2,").write_bytes(mail(MALLORY, f"from the Maildir {name}"))
        (tree / name / "cur" / "2:2,").symlink_to(outside)
    (tree / ".Inner").mkdir()
    (tree / ".Inner" / "cur").symlink_to(tmp_path / "elsewhere" / "cur")
    (tree / ".Inner" / "dovecot-keywords").symlink_to(outside)
    (tree / ".Linked").symlink_to(tmp_path / "elsewhere")
    (tree / "Linked").symlink_to(tmp_path / "elsewhere")
    before = folders(server)
    for archive, kind in ((eml, "eml"), (tree, "maildir")):
        done = server.cleanmail("import", MALLORY, str(archive), "--kind", kind, "--mailbox", "Imported", "--json")
        assert done.returncode in (0, 5) and "Traceback" not in done.stderr, done.stderr
    assert folders(server) == before
    with server.imap(MALLORY) as imap:
        listed = imap.command(b'LIST "" Imported*').untagged
        count = 0
        for name in [line.rpartition(b'"/" ')[2].strip() for line in listed]:
            if imap.command(b"EXAMINE " + name).ok:
                text = imap.command(b"FETCH 1:* BODY.PEEK[]").text
                assert TOKEN.encode() not in text
                count += text.count(b"from the")
        assert count >= 2


# MX


def test_a_message_for_two_tenants_tells_neither_of_the_other(server: WholeServer) -> None:
    subject = "both-" + secrets.token_hex(6)
    client = SmtpWire(server.ports["mx"])
    client.command(b"EHLO far.test")
    code, said = client.submit("someone@far.test", [ALICE, MALLORY], mail("someone@far.test", subject))
    client.close()
    assert code == 250, said
    ids = set()
    for address, other in ((ALICE, MALLORY), (MALLORY, ALICE)):
        with server.imap(address) as imap:
            assert imap.command(b"SELECT INBOX").ok
            uid = imap.command(b"UID SEARCH SUBJECT " + subject.encode()).number(rb"\* SEARCH (\d+)\r\n")
            header = imap.command(b"UID FETCH %d BODY.PEEK[HEADER]" % uid).text
        assert other.encode() not in header
        found = re.search(rb"with ESMTP id (\w+)", header)
        assert found, header
        ids.add(found[1])
    assert len(ids) == 2  # each tenant's trace is its own


def test_a_route_concerns_the_domains_of_its_tenant_alone(server: WholeServer) -> None:
    done = server.cleanmail("route", "list", "two", "--json")
    assert done.stdout.strip() == "[]"
    done = server.cleanmail("route", "set", "two.test", "--server", "192.0.2.9", "--split")
    assert done.returncode == 0, done.stderr
    assert server.cleanmail("route", "list", "one", "--json").stdout.strip() == "[]"
    assert server.cleanmail("route", "remove", "two.test").returncode == 0


# What the filter does

PROGRAM = (
    "MIME-Version: 1.0\r\nContent-Type: application/octet-stream; name=game.exe\r\n"
    "Content-Disposition: attachment; filename=game.exe\r\n\r\nMZ and so on\r\n"
)


def receive(server: WholeServer, sender: str, recipients: list[str], subject: str, rest: str = "\r\nText.\r\n") -> int:
    with SmtpWire(server.ports["mx"]) as client:
        client.command(b"EHLO far.test")
        message = f"From: {sender}\r\nTo: x@y.test\r\nSubject: {subject}\r\n{rest}"
        return client.submit(sender, recipients, message.encode())[0]


def withheld(server: WholeServer, *arguments: str) -> list[dict[str, Any]]:
    done = server.cleanmail("quarantine", "list", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def test_withheld_mail_is_not_there_for_another_tenant(server: WholeServer) -> None:
    subject, sender = "withheld-" + secrets.token_hex(6), f"sender-{secrets.token_hex(6)}@far.test"
    assert receive(server, sender, [ALICE], subject, PROGRAM) == 250
    [row] = withheld(server, "--from", sender)
    for others in (("--tenant", "two"), ("--account", MALLORY), ("--to", "@two.test"), ("--to", MALLORY)):
        assert withheld(server, *others, "--from", sender) == []
        searched = server.cleanmail("quarantine", "search", sender, *others[:2], "--json")
        assert others[0] == "--to" or (searched.returncode == 0 and json.loads(searched.stdout) == [])
    assert server.cleanmail("quarantine", "list", "--tenant", "two", "--account", ALICE).returncode == 1
    for command in (["show"], ["release"], ["release", "--allow"], ["delete"], ["report"]):
        done = server.cleanmail("quarantine", *command, row["id"], "--tenant", "two")
        assert done.returncode == 1 and "no such message" in done.stderr and subject not in done.stdout, command
    for command in ("release", "delete"):
        done = server.cleanmail("quarantine", command, "--tenant", "two", "--from", sender, "--yes", "--json")
        assert done.returncode == 0 and json.loads(done.stdout)["messages"] == []
    assert withheld(server, "--from", sender) == [row] and row["states"] == ["held"] and not row["reported"]
    assert json.loads(server.cleanmail("filter", "allow", "list", "--tenant", "two", "--json").stdout) == []
    assert server.cleanmail("quarantine", "delete", row["id"]).returncode == 0


def test_a_message_withheld_from_two_tenants_is_two_entries_of_which_neither_names_the_other(
    server: WholeServer,
) -> None:
    subject, sender = "of-both-" + secrets.token_hex(6), f"sender-{secrets.token_hex(6)}@far.test"
    assert receive(server, sender, [ALICE, MALLORY], subject, PROGRAM) == 250
    ids = {row["tenant"]: row["id"] for row in withheld(server, "--from", sender)}
    assert ids.keys() == {"one", "two"}
    for tenant, other in (("one", "two"), ("two", "one")):
        shown = server.cleanmail("quarantine", "show", ids[tenant], "--json").stdout
        assert f"@{tenant}.test" in shown and f"{other}.test" not in shown and ids[other] not in shown
    assert server.cleanmail("quarantine", "release", ids["two"]).returncode == 0
    assert [row["id"] for row in withheld(server, "--from", sender)] == [ids["one"]]
    for address, copies in ((ALICE, 0), (MALLORY, 1)):
        with server.imap(address) as imap:
            assert imap.command(b"SELECT INBOX").ok
            found = imap.command(b"UID SEARCH SUBJECT " + subject.encode()).text
            assert len(re.findall(rb"\* SEARCH( \d+)\r\n", found)) == copies
    assert server.cleanmail("quarantine", "delete", ids["one"]).returncode == 0


def test_rules_and_lists_of_a_tenant_count_for_it_alone(server: WholeServer) -> None:
    """And who is not refused does not read that another was."""
    sender, subject = f"{secrets.token_hex(4)}@denied.test", "denied-" + secrets.token_hex(6)
    for command in (("deny", "add", sender), ("policy", "set", "denied", "quarantine")):
        assert server.cleanmail("filter", *command, "--tenant", "two").returncode == 0
    try:
        assert receive(server, sender, [ALICE, MALLORY], subject) == 250
        assert [(row["tenant"], row["to"]) for row in withheld(server, "--from", sender)] == [("two", [MALLORY])]
        with server.imap(ALICE) as imap:
            assert imap.command(b"SELECT INBOX").ok
            uid = imap.command(b"UID SEARCH SUBJECT " + subject.encode()).number(rb"\* SEARCH (\d+)\r\n")
            header = imap.command(b"UID FETCH %d BODY.PEEK[HEADER]" % uid).text
        assert b"quarantine" not in header and b"denied;" not in header and b"two.test" not in header
        for command in (("deny", "list"), ("policy", "show", "--changed")):
            for scope in (("--tenant", "one"), ("--account", ALICE), ("--domain", "one.test")):
                assert json.loads(server.cleanmail("filter", *command, *scope, "--json").stdout) == []
        assert server.cleanmail("filter", "deny", "remove", sender, "--tenant", "one").returncode == 1
        for scope in (("--tenant", "two", "--account", ALICE), ("--tenant", "two", "--domain", "one.test")):
            assert server.cleanmail("filter", "deny", "add", sender, *scope).returncode not in (0, 5)
    finally:
        assert server.cleanmail("filter", "deny", "remove", sender, "--tenant", "two").returncode == 0
        assert server.cleanmail("filter", "policy", "unset", "denied", "--tenant", "two").returncode == 0
        assert server.cleanmail("quarantine", "delete", "--from", sender, "--yes").returncode == 0


# The command line


def test_the_command_line_keeps_tenants_apart(server: WholeServer) -> None:
    def fails(*arguments: str, stdin: str = "") -> str:
        done = server.cleanmail(*arguments, stdin=stdin)
        assert done.returncode not in (0, 2) and "Traceback" not in done.stderr, (arguments, done.stdout, done.stderr)
        return done.stderr

    fails("domain", "add", "two", "one.test")  # it belongs to somebody
    fails("domain", "add", "two", "one.test", "--verified")
    fails("tenant", "show", "../one")
    fails("account", "list", "../1")
    assert ALICE not in server.cleanmail("account", "list", "two", "--json").stdout
    assert "alice" not in server.cleanmail("domain", "list", "two", "--json").stdout
    fails("alias", "add", "info@one.test", MALLORY)  # the alias is there, and is another's
    fails("account", "create", "eve@nowhere.test", "--password-stdin", stdin="secret words\n")
    shown = server.cleanmail("app-password", "list", ALICE, "--json").stdout
    number = re.search(r'"(?:number|id|app_password_id)": "?(\d+)', shown)
    assert number, shown
    server.cleanmail("app-password", "revoke", MALLORY, "999999")
    with server.imap(ALICE, server.accounts[ALICE]["app_password"]) as imap:
        assert imap.command(b"NOOP").ok


def test_a_domain_of_another_does_not_become_ones_own_by_case_or_spelling(server: WholeServer) -> None:
    for spelling in ("ONE.TEST.", "ｏｎｅ.test"):
        done = server.cleanmail("domain", "add", "two", spelling)
        assert done.returncode not in (0, 2), spelling
