"""Every capability: its word, what it stands for, when it is told, what proves it. The one table of what is offered.

A new extension gets a row here; CAPABILITY, ENABLE, `cleanmail imap capabilities` and a test (that the proofs exist)
follow from it. What is not in the table is not offered.

Standards: RFC 9051 §6.1.1; the one of its row for each; `docs/decisions/0006-imap.md` and 0046 for what is a switch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hosting.imap.limits import Limits


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What decides about a row besides its switch."""

    signed_in: bool
    secure: bool  # TLS is active
    tls_offered: bool
    mechanisms: frozenset[str]  # of AUTHENTICATE that can be used here and now; empty where TLS must come first
    compressed: bool = False


@dataclass(frozen=True, slots=True)
class When:
    """In which circumstances a row is told; `words` say so to people."""

    words: str
    holds: Callable[[Circumstances], bool]


ALWAYS: Final = When("always", lambda _: True)
SIGNED_IN: Final = When("after sign-in", lambda now: now.signed_in)
BEFORE_TLS: Final = When(
    "before sign-in, without TLS", lambda now: not (now.signed_in or now.secure) and now.tls_offered
)
NO_PASSWORDS: Final = When(
    "before sign-in, where TLS must come first", lambda now: not now.signed_in and not now.mechanisms
)
UNCOMPRESSED: Final = When("after sign-in, until it is used", lambda now: now.signed_in and not now.compressed)


def mechanism(name: str, words: str = "before sign-in, with TLS") -> When:
    """A mechanism of AUTHENTICATE: told where it can be used."""
    return When(words, lambda now: not now.signed_in and name in now.mechanisms)


@dataclass(frozen=True, slots=True)
class Row:
    """One capability. Proofs are a test's file, or `file::name` of a test or of a dialogue in it."""

    word: str  # as it is told, and as [imap] hidden names it
    rfc: str
    sections: str
    proofs: tuple[str, ...]  # below tests/hosting
    when: When = SIGNED_IN
    enables: tuple[str, ...] = ()  # what ENABLE of the word turns on: attributes of the session
    switch: str = ""  # the setting of [imap] that offers it; empty: it is offered always
    unless: str = ""  # the setting of [imap] in whose place it is offered
    value: str = ""  # the setting of [imap] that is told after the word and "="

    def told(self, limits: Limits) -> str:
        return f"{self.word}={getattr(limits, self.value)}" if self.value else self.word

    def is_offered(self, limits: Limits) -> bool:
        """Whether the operator offers it at all."""
        if self.switch and not getattr(limits, self.switch):
            return False
        return not (self.unless and getattr(limits, self.unless))


_DIALOGUES = "test_imap_dialogues.py::"
_EVERYTHING = ("test_imap_states.py", "test_imap_codes.py", "test_imap_sessions.py", "test_imap_mime.py")
_GENERAL = _DIALOGUES + "general (RFC 9051 §6.1, RFC 2971, RFC 2342, RFC 5161)"
_SEARCH = _DIALOGUES + "search (RFC 9051 §6.4.4, RFC 4731, RFC 5182)"
_MAILBOXES = _DIALOGUES + "mailboxes (RFC 9051 §6.3.4 to §6.3.9, RFC 5258, RFC 6154)"
_MOVING = _DIALOGUES + "append, copy, move, expunge (RFC 9051 §6.3.12, §6.4, RFC 4315, RFC 6851)"
_SELECT = _DIALOGUES + "select, examine, close, unselect (RFC 9051 §6.3.2, RFC 8474, RFC 7162)"
_REV2 = _DIALOGUES + "IMAP4rev2 (RFC 9051 §6.3.1, Appendix E)"
_APPEND = "test_imap_append.py::"
_OFFERED = "test_imap_offered.py::"
_REV1 = "IMAP4rev1 (RFC 3501 §6, §7): what IMAP4rev2 has no more"
_LITERAL_PLUS = "LITERAL+ (RFC 7888 §3): no go-ahead is waited for, and none is sent"
_SASL_IR = "SASL-IR (RFC 4959 §3): the first response comes with the command; = is an empty one"
_AUTH_PLAIN = "AUTH=PLAIN (RFC 4616 §2): for oneself, whether one says so or not, and for nobody else"
_AUTH_LOGIN = "AUTH=LOGIN (draft-murchison-sasl-login §2): name and password, each when it is asked for"
_CHILDREN = "CHILDREN (RFC 3348 §3): told of each mailbox, never both"
_LIST_STATUS = "LIST-STATUS (RFC 5819 §2): behind its LIST, and not of what cannot be selected"
_STATUS_SIZE = "STATUS=SIZE (RFC 8438 §3): at least the sum of RFC822.SIZE"
_UNSELECT = "UNSELECT (RFC 3691 §2): what is marked as deleted stays"
_APPENDLIMIT = "APPENDLIMIT (RFC 7889 §2, §3.1, §3.2, §4): in CAPABILITY, STATUS and LIST; more is TOOBIG"
_WITHIN = "WITHIN (RFC 5032 §2, §3): by seconds since the internal date"
_SORT = "SORT (RFC 5256 §3): by each key in turn, reversed alone, the charset first"
_THREAD = "THREAD (RFC 5256 §3; draft-ietf-morg-inthread §4): a name for each way"
_QRESYNC = _DIALOGUES + "QRESYNC (RFC 7162 §3.2)"
_SIGNING_IN = "test_imap_server.py::test_signing_in"
_SCRAM = "test_imap_signin.py::test_scram_sha_256_rfc_5802"
_SCRAM_PLUS = "test_imap_signin.py::test_scram_sha_256_plus_rfc_9266_over_tls_1_3"
_SCRAM_WHEN = 'before sign-in, with TLS, where [auth] scram is "offered"'
_TLS13 = 'before sign-in, with TLS 1.3, unless [auth] scram is "off"'
_TOKENS = "test_imap_signin.py::test_"
_PROVIDER = "before sign-in, with TLS, where [oauth] names a provider"
_QUOTA = "test_imap_extensions.py::test_quota"
_STARTTLS = "test_imap_server.py::test_starttls_discards_what_was_pipelined"
_METADATA = "test_imap_metadata.py::"
_ACL = "test_imap_acl.py::"
_SHARING = "test_imap_sharing.py::"
_LISTED = "list shows what may be looked up (RFC 2342 §5, RFC 4314 §4, RFC 8440 §3)"
_LAYERS = "test_imap_layers.py"
_MODEL = "test_imap_model.py::test_pictures_agree_with_the_reference"
_SWITCHES = "test_imap_switches.py::"
_THREADS = "test_imap_values.py::"
_SEARCHING = "test_imap_searching.py::"
_PARTIAL = (
    "PARTIAL of SEARCH (RFC 9394 §3.1, RFC 5267 §4.4)",
    "PARTIAL and SAVE (RFC 9394 §3.2)",
    "PARTIAL of UID FETCH (RFC 9394 §3.3, §3.4)",
)

TABLE: Final[tuple[Row, ...]] = (
    # what a connection is
    Row("IMAP4rev1", "RFC 3501", "§6, §7", (_OFFERED + _REV1, "test_imap_dialogues.py", *_EVERYTHING), ALWAYS),
    Row("IMAP4rev2", "RFC 9051", "§6, §7", (_REV2, *_EVERYTHING), ALWAYS, enables=("rev2", "utf8")),
    Row(
        "LITERAL+", "RFC 7888", "§3, §4", (_OFFERED + _LITERAL_PLUS, "test_imap_decoder.py::test_limits"),
        ALWAYS, unless="literal_minus",
    ),
    Row("LITERAL-", "RFC 7888", "§5", (_SWITCHES + "test_literal_minus",), ALWAYS, switch="literal_minus"),
    Row("SASL-IR", "RFC 4959", "§3", (_OFFERED + _SASL_IR,), ALWAYS),
    Row("ID", "RFC 2971", "§3", (_GENERAL,), ALWAYS),
    Row("ENABLE", "RFC 5161", "§3", (_GENERAL,), ALWAYS),
    Row(
        "UTF8=ACCEPT", "RFC 9755", "§3, §4", (_SWITCHES + "test_utf8_accept",),
        enables=("utf8",), switch="utf8_accept",
    ),
    # signing in
    Row("STARTTLS", "RFC 9051", "§6.2.1", (_STARTTLS,), BEFORE_TLS),
    Row("LOGINDISABLED", "RFC 9051", "§6.2.3", (_OFFERED + "test_logindisabled",), NO_PASSWORDS),
    Row("AUTH=SCRAM-SHA-256-PLUS", "RFC 7677", "§3, RFC 9266", (_SCRAM_PLUS,), mechanism("SCRAM-SHA-256-PLUS", _TLS13)),
    Row("AUTH=SCRAM-SHA-256", "RFC 7677", "§3, RFC 5802 §5", (_SCRAM,), mechanism("SCRAM-SHA-256", _SCRAM_WHEN)),
    Row("AUTH=OAUTHBEARER", "RFC 7628", "§3", (_TOKENS + "oauthbearer_rfc_7628",), mechanism("OAUTHBEARER", _PROVIDER)),
    Row("AUTH=XOAUTH2", "RFC 7628", "§3, in its older form", (_TOKENS + "xoauth2",), mechanism("XOAUTH2", _PROVIDER)),
    Row("AUTH=PLAIN", "RFC 4616", "§2", (_OFFERED + _AUTH_PLAIN, _SIGNING_IN), mechanism("PLAIN")),
    Row(
        "AUTH=LOGIN", "draft-murchison-sasl-login", "§2", (_OFFERED + _AUTH_LOGIN, _SIGNING_IN), mechanism("LOGIN")
    ),
    # mailboxes
    Row("NAMESPACE", "RFC 2342", "§5", (_GENERAL, _SHARING + _LISTED)),
    Row(
        "ACL", "RFC 4314", "§2 to §5",
        (
            _ACL + "SETACL, GETACL, DELETEACL (RFC 4314 §3.1 to §3.3)",
            _ACL + "what is refused (RFC 4314 §2, §3, §3.1)",
            _ACL + "LISTRIGHTS and MYRIGHTS (RFC 4314 §3.4, §3.5)",
            "test_imap_sharing.py",
        ),
    ),
    Row(
        "RIGHTS=texk", "RFC 4314", "§2.1, §5.1.1",
        ("test_imap_acl.py::test_obsolete_rights_are_told_with_any_of_their_members",),
    ),
    Row("LIST-MYRIGHTS", "RFC 8440", "§3", (_SHARING + _LISTED,)),
    Row("CHILDREN", "RFC 3348", "§3", (_OFFERED + _CHILDREN, _MAILBOXES)),
    Row("LIST-EXTENDED", "RFC 5258", "§3", (_MAILBOXES,)),
    Row("LIST-STATUS", "RFC 5819", "§2", (_OFFERED + _LIST_STATUS, _MAILBOXES)),
    Row("SPECIAL-USE", "RFC 6154", "§2", (_MAILBOXES, "test_imap_extensions.py::test_list_of_special_uses")),
    Row("CREATE-SPECIAL-USE", "RFC 6154", "§3", (_MAILBOXES,)),
    Row("STATUS=SIZE", "RFC 8438", "§3", (_OFFERED + _STATUS_SIZE,)),
    Row("OBJECTID", "RFC 8474", "§4, §5", (_SELECT, "test_imap_extensions.py::test_object_ids")),
    Row("METADATA", "RFC 5464", "§3, §4", ("test_imap_metadata.py",), enables=("metadata",)),
    Row("METADATA-SERVER", "RFC 5464", "§3.2.1.1", (_METADATA + "test_of_the_server",), enables=("metadata",)),
    Row("LIST-METADATA", "RFC 9590", "§3", (_METADATA + "test_list_metadata",)),
    Row("QUOTA", "RFC 9208", "§3, §4", (_QUOTA, "test_imap_extensions.py::test_deleted_storage")),
    Row("QUOTA=RES-STORAGE", "RFC 9208", "§5.1", (_QUOTA,)),
    Row("QUOTA=RES-MESSAGE", "RFC 9208", "§5.2", (_QUOTA,)),
    # news
    Row("IDLE", "RFC 2177", "§3", (_DIALOGUES + "idle (RFC 2177), also before any SELECT", "test_imap_news.py")),
    Row("CONDSTORE", "RFC 7162", "§3.1", ("test_imap_extensions.py::test_condstore", _MODEL), enables=("condstore",)),
    Row(
        "QRESYNC", "RFC 7162", "§3.2", (_QRESYNC, _MODEL, "test_imap_news.py::test_qresync_clients_hear_vanished"),
        enables=("qresync", "condstore"),  # RFC 7162 §3.2.3: QRESYNC brings CONDSTORE with it
    ),
    Row("NOTIFY", "RFC 5465", "§3 to §6", ("test_imap_notify.py",)),
    # what lies below the commands
    Row("COMPRESS=DEFLATE", "RFC 4978", "§3", (_LAYERS,), UNCOMPRESSED),
    Row("UNAUTHENTICATE", "RFC 8437", "§3, §4.1", (_LAYERS,)),
    # messages
    Row("UNSELECT", "RFC 3691", "§2", (_OFFERED + _UNSELECT, _SELECT)),
    Row("UIDPLUS", "RFC 4315", "§2, §3", (_MOVING,)),
    Row(
        "UIDONLY", "RFC 9586", "§3", (_SWITCHES + "expunges (RFC 9586 §3.4)", _SWITCHES + "test_uid_only"),
        enables=("uid_only",), switch="uid_only",
    ),
    Row("MOVE", "RFC 6851", "§3", (_MOVING,)),
    Row(
        "BINARY", "RFC 3516", "§4",
        ("test_imap_extensions.py::test_binary", "test_imap_mime.py", _APPEND + "test_binary_parts_become_base64"),
    ),
    Row(
        "MULTIAPPEND", "RFC 3502", "§6.3.11",
        (
            _APPEND + "several messages in one command (RFC 3502 §6.3.11): flags and date of each, UIDs, EXISTS",
            _APPEND + "test_a_message_too_many_keeps_none_of_them",
        ),
    ),
    Row(
        "CATENATE", "RFC 4469", "§3, §4",
        (
            _APPEND + "CATENATE (RFC 4469 §3): parts of stored messages between texts, whole and in pieces",
            _APPEND + "the first URL that is none is told (RFC 4469 §4.1)",
        ),
    ),
    Row(
        "URL-PARTIAL", "RFC 5550", "§5.7.1",
        (_OFFERED + "URL-PARTIAL (RFC 5550 §5.7.1): CATENATE takes pieces", "test_imap_urls.py"),
    ),
    Row(
        "REPLACE", "RFC 8508", "§3, §4",
        (
            _APPEND + "REPLACE (RFC 8508 §3.2, §4.3): APPENDUID first, then the old message goes, whatever its flags",
            _APPEND + "test_a_replacement_needs_only_what_it_has_more",
        ),
    ),
    Row("SAVEDATE", "RFC 8514", "§4", ("test_imap_save_dates.py",)),
    Row("PREVIEW", "RFC 8970", "§3, §4", ("test_imap_save_dates.py::test_previews",)),
    Row(
        "APPENDLIMIT", "RFC 7889", "§2 to §4", (_OFFERED + _APPENDLIMIT, "test_imap_decoder.py::test_limits"),
        value="message",
    ),
    # finding
    Row("ESEARCH", "RFC 4731", "§3", (_SEARCH,)),
    Row("SEARCHRES", "RFC 5182", "§2", (_SEARCH, "test_imap_extensions.py::test_what_is_saved")),
    Row("WITHIN", "RFC 5032", "§2, §3", (_OFFERED + _WITHIN, "test_imap_extensions.py::test_search_keys")),
    Row("SORT", "RFC 5256", "§3", (_OFFERED + _SORT, _SEARCH)),
    Row("THREAD=ORDEREDSUBJECT", "RFC 5256", "§3", (_OFFERED + _THREAD, _THREADS + "test_ordered_subject")),
    Row("THREAD=REFERENCES", "RFC 5256", "§3", (_OFFERED + _THREAD, _THREADS + "test_references")),
    Row("THREAD=REFS", "draft-ietf-morg-inthread", "§4", (_OFFERED + _THREAD, _SEARCHING + "test_rfc_5256_and_refs")),
    Row("ESORT", "RFC 5267", "§3", (_SEARCHING + "ESORT (RFC 5267 §3)",)),
    Row("SORT=DISPLAY", "RFC 5957", "§3, §4", (_SEARCHING + "SORT=DISPLAY (RFC 5957 §4)",)),
    Row("CONTEXT=SEARCH", "RFC 5267", "§4", ("test_imap_contexts.py",)),
    Row("PARTIAL", "RFC 9394", "§3", tuple(_SEARCHING + each for each in _PARTIAL)),
    Row("SEARCH=FUZZY", "RFC 6203", "§3 to §6", (_SEARCHING + "FUZZY (RFC 6203 §3, §4, §6)",)),
    Row("FILTERS", "RFC 5466", "§3", ("test_imap_multisearch.py::test_rfc_5466_filters",)),
    Row("MULTISEARCH", "RFC 7377", "§2", ("test_imap_multisearch.py::test_rfc_7377_2_2_sources",)),
    Row("UIDBATCHES", "RFC 10022", "§3, §4", ("test_imap_uid_batches.py",)),
    Row("I18NLEVEL=1", "RFC 5255", "§4", (_SEARCHING + "I18NLEVEL=1 (RFC 5255 §4.2, §4.6)",)),
    Row("INPROGRESS", "RFC 9585", "§4", (_SEARCHING + "test_rfc_9585_progress",)),
)  # fmt: skip
