"""Every response code that is registered for IMAP: what shows that the server sends it, or why it never does.

The registry is IANA's "IMAP Response Codes", as far as the RFCs in the rows fill it. What the sources can send must be
in the table, and what the table says is sent must be in the sources.

Standards: RFC 9051 §7.1, RFC 5530, and the RFC of each row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
from imap_play import CoreClient, play
from imap_town import PASSWORD, MailTown, mail, new_mail_town

from hosting import imap
from hosting.imap import replies
from hosting.imap.commands import Noop
from hosting.imap.decoder import Frame
from hosting.imap.effects import Work
from hosting.imap.limits import Limits
from hosting.imap.rules import RULES
from storage.errors import CleanmailError
from storage.mail.messages import NewMessage

HERE = Path(__file__).parent
ALICE, BOB = "alice@example.test", "bob@example.test"


@dataclass(frozen=True, slots=True)
class Code:
    """One of: a dialogue that alice begins signed in; a test that shows it, as `file::name`; why it is never sent."""

    word: str
    rfc: str
    dialogue: str = ""
    proof: str = ""
    never: str = ""


def said(word: str, rfc: str, *exchanges: tuple[str, str]) -> Code:
    """Each exchange is a command and the start of what its only answer is to be."""
    lines = []
    for command, answer in exchanges:
        written = command.replace("\r\n", "\\r\\n")
        lines += [f"C> {written}\\r\\n", f"S: {answer}…"]
    return Code(word, rfc, "\n".join(lines))


_SELECT = """
    C: s {} {}
    S: * FLAGS …
    S: * OK [PERMANENTFLAGS …
    S: * 4 EXISTS
    S: * … RECENT
    S: * OK [UNSEEN 1] …
    S: * OK [UIDVALIDITY …
    S: * OK [UIDNEXT 5] …
    S: * OK [HIGHESTMODSEQ …
    S: * OK [MAILBOXID (F…)] …
    S: s OK [READ-{}] …
"""
SELECTING = _SELECT.format("SELECT", "box", "WRITE")
EXAMINING = _SELECT.format("EXAMINE", "box", "ONLY")

_LAYERS = "test_imap_layers.py::"

TABLE: Final = (
    # RFC 9051 §7.1
    Code("ALERT", "RFC 9051", never="nothing here has to interrupt a person; what operators say goes by mail"),
    said("ALREADYEXISTS", "RFC 5530", ("a CREATE box", "a NO [ALREADYEXISTS] ")),
    said("APPENDUID", "RFC 4315", ("a APPEND Drafts {3+}\r\nabc", "a OK [APPENDUID ")),
    said(
        "AUTHENTICATIONFAILED",
        "RFC 5530",
        ("a UNAUTHENTICATE", "a OK "),
        ("b LOGIN x y", "b NO [AUTHENTICATIONFAILED] "),
    ),
    said(
        "AUTHORIZATIONFAILED",
        "RFC 5530",
        ("a UNAUTHENTICATE", "a OK "),
        ("b AUTHENTICATE PLAIN Ym9iAGFsaWNlAHg=", "b NO [AUTHORIZATIONFAILED] "),
    ),
    Code("BADCHARSET", "RFC 9051", SELECTING + "C: a SEARCH CHARSET X ALL\nS: a NO [BADCHARSET (US-ASCII …)] …"),
    Code("BADCOMPARATOR", "RFC 5255", never="I18NLEVEL=1 has no COMPARATOR"),
    said(
        "BADEVENT",
        "RFC 5465",
        ("a NOTIFY SET (personal (MessageNew MessageExpunge AnnotationChange))", "a NO [BADEVENT (MessageNew "),
    ),
    said("BADURL", "RFC 4469", ('a APPEND Drafts CATENATE (URL "/x")', "a NO [BADURL /x] ")),
    said("CANNOT", "RFC 5530", ("a DELETE INBOX", "a NO [CANNOT] "), ("b APPEND Drafts {0+}\r\n", "b NO [CANNOT] ")),
    said(
        "CAPABILITY",
        "RFC 9051",
        ("a UNAUTHENTICATE", "a OK "),
        (f'b LOGIN {ALICE} "{PASSWORD}"', "b OK [CAPABILITY IMAP4rev1 "),
    ),
    Code(
        "CLIENTBUG",
        "RFC 5530",
        proof=_LAYERS + "test_what_is_pipelined_behind_compress_counts_as_compressed",
    ),
    Code("CLOSED", "RFC 9051", SELECTING + "C: a SELECT missing\nS: * OK [CLOSED] …\nS: a NO …"),
    said(
        "COMPRESSIONACTIVE",
        "RFC 4978",
        ("a COMPRESS DEFLATE", "a OK "),
        ("b COMPRESS DEFLATE", "b NO [COMPRESSIONACTIVE] "),
    ),
    Code("CONTACTADMIN", "RFC 5530", proof="test_imap_codes.py::test_a_suspended_account"),
    Code("COPYUID", "RFC 4315", EXAMINING + "C: a COPY 1:2 Drafts\nS: a OK [COPYUID … 1:2 …] …"),
    Code("CORRUPTION", "RFC 5530", proof="test_imap_codes.py::test_a_damaged_file"),
    Code("EXPIRED", "RFC 5530", proof="test_imap_signin.py::test_a_session_ends_with_its_token_rfc_5530_section_3"),
    Code(
        "EXPUNGEISSUED",
        "RFC 5530",
        proof="test_imap_news.py::test_an_expunge_by_another_keeps_numbers_until_it_may_be_told",
    ),
    Code("HASCHILDREN", "RFC 9051", never="a mailbox with children is deleted alone, and stays as their parent"),
    Code(
        "HIGHESTMODSEQ",
        "RFC 7162",
        "C: a ENABLE QRESYNC\nS: * ENABLED QRESYNC\nS: a OK …\n"
        + SELECTING
        + "C: c CLOSE\nS: c OK [HIGHESTMODSEQ …] …",
    ),
    Code("INPROGRESS", "RFC 9585", proof="test_imap_searching.py::test_rfc_9585_progress"),
    Code("INUSE", "RFC 5530", proof="test_imap_codes.py::test_what_somebody_else_changes_meanwhile"),
    Code("LIMIT", "RFC 5530", proof="test_imap_codes.py::test_a_connection_too_many"),
    Code("MAILBOXID", "RFC 8474", "C: a CREATE new\nS: a OK [MAILBOXID (F…)] …\n" + SELECTING),
    said(
        "METADATA",
        "RFC 5464",
        ("a SETMETADATA box (/private/comment {1025+}\r\n" + "x" * 1025 + ")", "a NO [METADATA MAXSIZE 1024] "),
        ("b SETMETADATA box (/private/comment ab)", "b BAD "),
        ('c SETMETADATA box (/private/comment "ab")', "c OK "),
        ("d GETMETADATA (MAXSIZE 1) box /private/comment", "d OK [METADATA LONGENTRIES 2] "),
    ),
    Code("METADATA TOOMANY", "RFC 5464", proof="test_imap_metadata.py::TOOMANY"),
    Code("METADATA NOPRIVATE", "RFC 5464", never="private annotations are kept of every mailbox that may be seen"),
    Code(
        "MODIFIED",
        "RFC 7162",
        SELECTING + "C: a STORE 1 (UNCHANGEDSINCE 1) FLAGS ()\nS: * OK …\nS: a OK [MODIFIED 1] …",
    ),
    Code("NEWNAME", "RFC 2060", never="obsolete since RFC 3501"),
    Code("NOMODSEQ", "RFC 7162", never="every mailbox has mod-sequences"),
    said(
        "NONEXISTENT",
        "RFC 5530",
        ("a SELECT missing", "a NO [NONEXISTENT] "),
        ("b DELETE missing", "b NO [NONEXISTENT] "),
    ),
    said("NOPERM", "RFC 5530", ('a SETQUOTA "" (STORAGE 1)', "a NO [NOPERM] ")),
    Code("NOTIFICATIONOVERFLOW", "RFC 5465", proof="test_imap_notify.py::test_too_much_to_tell_ends_it"),
    Code("NOTSAVED", "RFC 5182", never="a result can always be kept: it is no longer than the mailbox"),
    Code("NOUPDATE", "RFC 5267", proof="test_imap_contexts.py::test_rfc_5267_4_3_1_refusals"),
    Code("OVERQUOTA", "RFC 5530", proof="test_imap_codes.py::test_a_full_account"),
    Code("PARSE", "RFC 9051", never="every message has an envelope and a structure, whatever its octets are"),
    Code("PERMANENTFLAGS", "RFC 9051", SELECTING),
    Code("PRIVACYREQUIRED", "RFC 5530", proof="test_imap_states.py::test_every_command"),
    Code("READ-ONLY", "RFC 9051", EXAMINING + "C: a STORE 1 FLAGS ()\nS: a NO [READ-ONLY] …"),
    Code("READ-WRITE", "RFC 9051", SELECTING),
    Code("SERVERBUG", "RFC 5530", proof="test_imap_codes.py::test_an_error_of_ours"),
    said("TOOBIG", "RFC 4469, RFC 7889", ("a APPEND Drafts {5001+}\r\n" + "x" * 5001, "a NO [TOOBIG] ")),
    said("TRYCREATE", "RFC 9051", ("a APPEND missing {3+}\r\nabc", "a NO [TRYCREATE] ")),
    Code("UIDNEXT", "RFC 9051", SELECTING),
    Code("UIDNOTSTICKY", "RFC 4315", never="UIDs are never given twice"),
    Code("UIDREQUIRED", "RFC 9586", proof="test_imap_switches.py::numbers are refused (RFC 9586 §3, §3.2)"),
    Code("UIDVALIDITY", "RFC 9051", SELECTING),
    Code("UNAVAILABLE", "RFC 5530", proof="test_imap_signin.py::test_provider_that_is_down_is_no_wrong_password"),
    Code("UNDEFINED-FILTER", "RFC 5466", SELECTING + "C: a SEARCH FILTER none\nS: a NO [UNDEFINED-FILTER none] …"),
    Code("UNKNOWN-CTE", "RFC 9051", EXAMINING + "C: a FETCH 3 BINARY.PEEK[1]\nS: a NO [UNKNOWN-CTE] …"),
    Code("UNSEEN", "RFC 3501", SELECTING),
    said("USEATTR", "RFC 6154", ("a CREATE x (USE (\\Important))", "a NO [USEATTR] ")),
    # RFC 10022
    Code("TOOFEW", "RFC 10022", proof="test_imap_uid_batches.py::TOOFEW"),
    Code("TOOMANY", "RFC 10022", proof="test_imap_uid_batches.py::TOOMANY"),
    # of extensions that are not offered
    Code("ANNOTATE", "RFC 5257", never="ANNOTATE is not offered"),
    Code("ANNOTATIONS", "RFC 5257", never="ANNOTATE is not offered"),
    Code("DOWNGRADED", "RFC 6858", never="headers are never downgraded"),
    Code("MAXCONVERTMESSAGES", "RFC 5259", never="CONVERT is not offered"),
    Code("MAXCONVERTPARTS", "RFC 5259", never="CONVERT is not offered"),
    Code("MESSAGELIMIT", "RFC 9738", never="one command may concern any number of messages"),
    Code("REFERRAL", "RFC 2221", never="there is one server"),
    Code("TEMPFAIL", "RFC 5259", never="CONVERT is not offered"),
    Code("URLMECH", "RFC 4467", never="URLAUTH is not offered"),
)


@pytest.fixture(scope="module")
def town(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MailTown]:
    limits = Limits(message=5000, annotation=1024, connections_per_account=5)
    with new_mail_town(tmp_path_factory.mktemp("codes"), limits) as made:
        odd = b"Content-Transfer-Encoding: x-odd\r\n\r\nx"
        with made.account() as account:
            box = account.mailboxes.create("box").id
            account.messages.append_many(box, [NewMessage(each) for each in (mail("1"), mail("2"), odd, mail("4"))])
        yield made


@pytest.fixture
def clients(town: MailTown) -> Iterator[list[CoreClient]]:
    """To be closed at the end of a test."""
    opened: list[CoreClient] = []
    yield opened
    for client in opened:
        client.close()


def signed_in(town: MailTown, clients: list[CoreClient], who: str = ALICE) -> CoreClient:
    clients.append(client := CoreClient(town.services))
    client.send(f'x LOGIN {who} "{PASSWORD}"\r\n'.encode())
    assert client.receive(0)[-1].startswith("x OK ")
    return client


def ask(client: CoreClient, command: str) -> str:
    """The tagged answer."""
    client.send(f"a {command}\r\n".encode())
    return client.receive(0)[-1]


def test_each_code_is_there_once_with_one_reason() -> None:
    assert len({code.word for code in TABLE}) == len(TABLE)
    for code in TABLE:
        assert sum(map(bool, (code.dialogue, code.proof, code.never))) == 1, code.word
        file, _, name = code.proof.partition("::")
        if file:
            text = (HERE / file).read_text(encoding="utf-8")
            assert name in text, f"{code.word}: {name!r} is not in {file}"
            assert code.word in text, f"{file} does not speak of {code.word}"


def test_the_table_has_what_the_sources_send() -> None:
    """Codes in texts of answers, those that refusals are made with, and those that errors become."""
    sent = {code.decode() for code in replies._CODES.values()}
    for source in Path(imap.__file__).parent.rglob("*.py"):
        text = re.sub(r'""".*?"""|#[^\n]*', "", source.read_text(encoding="utf-8"), flags=re.DOTALL)
        sent |= set(re.findall(r'(?:Refused\(\s*f?b?"|b"(?=BAD|UNDEFINED)|\[)([A-Z][A-Z-]{3,})(?=["\] ])', text))
    told = {code.word.partition(" ")[0] for code in TABLE if not code.never}
    assert sent == told


@pytest.mark.parametrize("code", [code for code in TABLE if code.dialogue], ids=lambda code: code.word)
def test_dialogue(town: MailTown, clients: list[CoreClient], code: Code) -> None:
    assert f"[{code.word}" in code.dialogue
    client = signed_in(town, clients)
    play(client, code.dialogue)


def test_a_suspended_account(town: MailTown) -> None:
    """CONTACTADMIN (RFC 5530), told only to who knows the password."""
    tenant_id, bob = town.accounts[BOB]
    town.provisioning.suspend_account(tenant_id, bob)
    try:
        assert ask(CoreClient(town.services), f'LOGIN {BOB} "{PASSWORD}"').startswith("a NO [CONTACTADMIN] ")
        assert ask(CoreClient(town.services), f"LOGIN {BOB} wrong").startswith("a NO [AUTHENTICATIONFAILED] ")
    finally:
        town.provisioning.resume_account(tenant_id, bob)


def test_a_connection_too_many(town: MailTown, clients: list[CoreClient]) -> None:
    """LIMIT (RFC 5530)."""
    for _ in range(town.limits.connections_per_account):
        signed_in(town, clients, BOB)
    assert ask(CoreClient(town.services), f'LOGIN {BOB} "{PASSWORD}"').startswith("a NO [LIMIT] ")


def test_a_full_account(town: MailTown, clients: list[CoreClient]) -> None:
    """OVERQUOTA (RFC 5530, RFC 9208 §5): as the answer to what would exceed it."""
    town.provisioning.set_quota(*town.accounts[BOB], quota_bytes=10, quota_messages=100)
    client = signed_in(town, clients, BOB)
    assert ask(client, "APPEND INBOX {20+}\r\n" + "x" * 20).startswith("a NO [OVERQUOTA] ")


def test_a_damaged_file(town: MailTown, clients: list[CoreClient]) -> None:
    """CORRUPTION (RFC 5530): only what needs the file fails, and the session goes on."""
    client = signed_in(town, clients)
    for folder in ("cur", "new"):
        for file in (town.data / "tenants").glob(f"*/accounts/*/Maildir/{folder}/*"):
            file.chmod(0o600)
            file.write_bytes(file.read_bytes()[:-9] + b"damaged!!")
    ask(client, "EXAMINE box")
    assert ask(client, "FETCH 1 BODY.PEEK[TEXT]").startswith("a NO [CORRUPTION] ")
    assert ask(client, "FETCH 1 (ENVELOPE FLAGS)").startswith("a OK ")


def test_an_error_of_ours(town: MailTown) -> None:
    """SERVERBUG (RFC 5530): nothing of the error is shown, and the session goes on."""

    def broken(*_: object) -> Any:
        yield b""
        raise KeyError("something private")

    rules = {**RULES, Noop: replace(RULES[Noop], run=broken, at_once=None)}
    client = CoreClient(replace(town.services, rules=rules))
    answer = ask(client, "NOOP")
    assert answer.startswith("a NO [SERVERBUG] ") and "private" not in answer
    assert ask(client, "CAPABILITY").startswith("a OK ")


def test_what_somebody_else_changes_meanwhile(town: MailTown, clients: list[CoreClient]) -> None:
    """INUSE (RFC 5530): a mailbox of another's gets a child, whose rights nobody looked at, while it is renamed."""
    tenant_id, owner_id = town.accounts[ALICE]
    with town.account() as account:
        for name in ("Shared", "Moving"):
            made = account.mailboxes.create(name)
            town.services.shared.directory.change(
                tenant_id, owner_id, made.id, town.accounts[BOB][1], "replace", "lrxk"
            )
        town.services.shared.forget(tenant_id)
        client = signed_in(town, clients, BOB)
        others = f"Other Users/{ALICE}"
        flow = client.session.respond(Frame(f'r RENAME "{others}/Moving" "{others}/Shared/Moved"'.encode()))
        result, error = None, None
        while not isinstance(effect := flow.send(result) if error is None else flow.throw(error), bytes) or not effect:
            result, error = None, None
            assert isinstance(effect, Work | bytes)
            if isinstance(effect, Work):
                if "_rename" in effect.run.__qualname__:
                    account.mailboxes.create("Moving/Child")
                try:
                    result = effect.run()
                except CleanmailError as raised:
                    error = raised
    assert effect.startswith(b"r NO [INUSE] ")
