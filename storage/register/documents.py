"""Documents made of the register with the periods in force: the privacy statement and the records of processing.

`statement` is for the public, `records` for authorities (GDPR Art. 30(1), revFADP Art. 12(2)), `register` for the next
engineer. Each is a structure of texts and lists, the same for JSON as for people; `markdown` and `plain` write the
statement, `records_markdown` the records.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from storage.register.catalogue import Catalogue
from storage.register.classes import GROUPS
from storage.register.periods import Periods
from storage.register.values import DataClass, Whose
from storage.register.words import BASIS, ERASURE, how_long, readers, whose

_WIDTH = 100

INTRODUCTION = (
    "This is what our e-mail service stores, about whom, what for, for how long and who may read it. It is written by "
    "the server itself from the declarations in its program, with the periods that are in force; what is not declared "
    "is not stored."
)

PRINCIPLES = (
    "Every customer's data is encrypted from its first byte under a key of its own. When a contract ends the key is "
    "destroyed, the data is removed and looked for, and the customer gets a signed certificate of erasure.",
    "Nobody of the provider reads messages. In an emergency two persons have to agree, and the owner sees it. Of "
    "withheld messages operators and support see the envelope, reviewers the header lines.",
    "Every administrative action and every reading of another person's data is recorded, and its owner can see it; "
    "where a law forbids that, as soon as it allows it.",
    "Data is given to authorities on legal notification only, after two persons examined it, in the least possible "
    "scope, and counted.",
    "Messages are handed to the mail servers of those to whom they are addressed, or to whom their owner or the "
    "customer has them forwarded. To deliver them, and to see where mail comes from, names of domains and servers are "
    "looked up in the DNS. Nothing else is given to anybody.",
    "What is removed stays in backups until they are replaced, encrypted as it was; what was erased at the end of a "
    "contract or an account cannot be read there, since its keys are gone.",
    "A legal hold that a court or a law demands keeps what it covers for longer than is said here. Two persons have to "
    "agree, and it has an end.",
)

RIGHTS = (
    "to know what is stored about you, and to get it in a form that machines and people can read",
    "to have wrong data corrected",
    "to have data erased, unless a law or an agreement demands that it is kept",
    "to have processing restricted, and to object to what rests on a legitimate interest",
    "to take your mail along: as Maildir or mbox, with folders, flags and dates",
    "to complain to the data protection authority that is in charge",
)

MEASURES = (
    "encryption at rest of messages, databases and records (AES-256), under keys per customer, account and day",
    "one process alone holds the master key; keys are given to others for a stated purpose and recorded",
    "encryption in transit (TLS; MTA-STS and DANE with other servers)",
    "passwords as argon2id hashes; attempts are limited; staff sign in with a second factor",
    "access by role and need to know; what is far-reaching needs two persons",
    "an audit chain that shows every change, gap or truncation; signed checkpoints",
    "retention by program, each run with a receipt; an alarm if anything is older than its period",
    "a clock that jumps stops every removal by time until a person confirms it",
    "operational logs hold numbers only: no address, subject or content",
    "backups are encrypted; keys are backed up apart, with a short life",
)


@dataclass(frozen=True, slots=True)
class Controller:
    """Who answers for the data."""

    name: str = ""
    contact: str = ""
    representative: str = ""
    officer: str = ""


def statement(catalogue: Catalogue, periods: Periods, controller: Controller) -> dict[str, Any]:
    """What is published. Classes without a person stand in it too, since it says that they hold none."""
    return {
        "title": "Privacy statement",
        "language": "en",
        "controller": _controller(controller),
        "introduction": INTRODUCTION,
        "principles": list(PRINCIPLES),
        "groups": [
            {
                "title": title,
                "classes": [_published(catalogue, each, periods) for each in members if each in catalogue.classes],
            }
            for title, members in GROUPS
        ],
        "rights": list(RIGHTS),
        "contact": controller.contact,
    }


def records(catalogue: Catalogue, periods: Periods, controller: Controller) -> dict[str, Any]:
    """Records of processing: one activity for each class that holds data of a person."""
    return {
        "title": "Records of processing activities",
        "legal": ["GDPR Art. 30(1)", "revFADP Art. 12(2)"],
        "controller": _controller(controller),
        "preset": periods.preset,
        "activities": [
            {
                "name": of.name,
                "title": of.title,
                "group": title,
                "purpose": of.purpose,
                "legal_basis": BASIS[of.basis],
                "persons": whose(of),
                "data": _data(catalogue, of),
                "recipients": readers(of),
                "transfers": "none, but messages go to the mail servers of their recipients",
                "kept": how_long(of, periods),
                "floor_days": periods.of(of.kept).floor_days,
                "ceiling_days": periods.of(of.kept).ceiling_days,
                "erasure": ERASURE[of.erasure],
                "sealed": of.sealed,
                "open": _open(catalogue, of),
                "shown": of.shown,
            }
            for title, members in GROUPS
            for of in members
            if of in catalogue.classes and of.whose != frozenset({Whose.NOBODY})
        ],
        "security_measures": list(MEASURES),
        "rights": list(RIGHTS),
    }


def register(catalogue: Catalogue, periods: Periods) -> list[dict[str, Any]]:
    """Every class, table, column with personal data, log and class of file, a row for each."""
    rows: list[dict[str, Any]] = []
    for _, members in GROUPS:
        for of in members:
            rows.append(_row(of, periods, "class", of.name, of.title))
            for declared in catalogue.declarations():
                if declared.of is of:
                    kind = "column" if declared.column else "table"
                    rows.append(_row(of, periods, kind, declared.name, declared.purpose))
            rows += [_row(of, periods, "log", f"logs/{log.name}", of.title) for log in catalogue.logs if log.of is of]
            rows += [_row(of, periods, "file", file.pattern, file.what) for file in catalogue.files if file.of is of]
    return rows


def _row(of: DataClass, periods: Periods, kind: str, name: str, what: str) -> dict[str, Any]:
    return {
        "class": of.name,
        "kind": kind,
        "name": name,
        "what": what,
        "whose": " ".join(each.value for each in Whose if each in of.whose),
        "basis": of.basis.value,
        "kept": of.kept.value,
        "ceiling_days": periods.of(of.kept).ceiling_days,
        "erasure": of.erasure.value,
        "readers": " ".join(sorted(each.value for each in of.readers)),
        "sealed": of.sealed,
    }


def _published(catalogue: Catalogue, of: DataClass, periods: Periods) -> dict[str, Any]:
    return {
        "name": of.name,
        "title": of.title,
        "about": whose(of),
        "purpose": of.purpose,
        "ground": BASIS[of.basis],
        "kept": how_long(of, periods),
        "ceiling_days": periods.of(of.kept).ceiling_days,
        "erasure": ERASURE[of.erasure],
        "readers": readers(of),
        "shown": of.shown,
        "encrypted": of.sealed,
        "open": _open(catalogue, of),
    }


def _open(catalogue: Catalogue, of: DataClass) -> list[str]:
    """What stands beside the sealed parts of a sealed class, in databases that go on."""
    found = [declared.purpose for declared in catalogue.declarations() if declared.of is of and declared.is_open]
    return list(dict.fromkeys(found)) if of.sealed else []


def _data(catalogue: Catalogue, of: DataClass) -> list[str]:
    """Categories of data: what the columns of a class are for, or its files where it has no rows."""
    found = [declared.purpose for declared in catalogue.declarations() if declared.of is of and declared.column]
    found = found or [file.what for file in catalogue.files if file.of is of and file.what]
    return list(dict.fromkeys(found)) or [of.title]


def _controller(controller: Controller) -> dict[str, str]:
    return {
        "name": controller.name or "the provider of this service",
        "contact": controller.contact,
        "representative": controller.representative,
        "officer": controller.officer,
    }


# For people

_FACTS = (
    ("About", "about"),
    ("Kept for", "purpose"),
    ("Ground", "ground"),
    ("How long", "kept"),
    ("How it is erased", "erasure"),
    ("Who may read it", "readers"),
)


def markdown(document: Mapping[str, Any]) -> str:
    """The statement."""
    lines = [f"# {document['title']}", "", document["introduction"], ""]
    lines += _people(document["controller"], "- **{}**: {}")
    lines += ["", "## Principles", "", *(f"- {each}" for each in document["principles"])]
    for group in document["groups"]:
        lines += ["", f"## {group['title']}"]
        for of in group["classes"]:
            lines += ["", f"### {of['title']}", ""]
            lines += [f"- **{name}**: {value}" for name, value in _facts(of)]
    lines += ["", "## Your rights", "", "You have the right", "", *(f"- {each}" for each in document["rights"])]
    lines += ["", _how_to_ask(document["contact"]), ""]
    return "\n".join(lines)


def plain(document: Mapping[str, Any]) -> str:
    """The statement as plain text, in lines of 100 columns at most."""
    lines = [document["title"], "=" * len(document["title"]), "", *_wrapped(document["introduction"]), ""]
    lines += _people(document["controller"], "{}: {}")
    lines += ["", *_headed("Principles")]
    for each in document["principles"]:
        lines += _wrapped(each, "- ")
    for group in document["groups"]:
        lines += ["", *_headed(group["title"])]
        for of in group["classes"]:
            lines += ["", *_wrapped(of["title"])]
            for name, value in _facts(of):
                lines += _wrapped(f"{name}: {value}", "  - ")
    lines += ["", *_headed("Your rights"), "You have the right"]
    for each in document["rights"]:
        lines += _wrapped(each, "- ")
    lines += ["", *_wrapped(_how_to_ask(document["contact"])), ""]
    return "\n".join(lines)


def records_markdown(document: Mapping[str, Any]) -> str:
    lines = [f"# {document['title']}", "", f"According to {' and '.join(document['legal'])}.", "", "## Controller", ""]
    lines += _people(document["controller"], "- **{}**: {}")
    lines += ["", "## Activities"]
    for of in document["activities"]:
        lines += [
            "",
            f"### {of['title']}",
            "",
            f"- **Purpose**: {of['purpose']}",
            f"- **Legal basis**: {of['legal_basis']}",
            f"- **Categories of persons**: {'; '.join(of['persons'])}",
            f"- **Categories of data**: {'; '.join(of['data'])}",
            f"- **Recipients**: {'; '.join(of['recipients'])}",
            f"- **Transfers to other countries**: {of['transfers']}",
            f"- **Erased**: {of['kept']}; {of['erasure']}",
            f"- **Encrypted**: {_encrypted(sealed=of['sealed'], left_open=of['open'])}",
        ]
        lines += [f"- **What recipients see**: {of['shown']}"] if of["shown"] else []
    lines += ["", "## Technical and organisational measures", ""]
    lines += [f"- {each}" for each in document["security_measures"]]
    return "\n".join([*lines, ""])


def _facts(of: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, key in _FACTS:
        value = of[key]
        yield name, "; ".join(value) if isinstance(value, list) else value
    if of["shown"]:
        yield "What they see", of["shown"]
    yield "Encrypted", _encrypted(sealed=of["encrypted"], left_open=of["open"])


def _encrypted(*, sealed: bool, left_open: Sequence[str]) -> str:
    if not sealed:
        return "under no key of its own, which would end with it"
    return "under a key that ends with it" + (f", but not: {'; '.join(left_open)}" if left_open else "")


def _people(controller: Mapping[str, str], line: str) -> list[str]:
    names = {
        "name": "Controller",
        "contact": "Contact",
        "representative": "Representative",
        "officer": "Data protection officer",
    }
    return [line.format(names[key], " ".join(value.split())) for key, value in controller.items() if value]


def _how_to_ask(contact: str) -> str:
    where = f"Write to {' '.join(contact.split())}." if contact else "Write to the provider."
    return f"{where} You get an answer within a month, free of charge."


def _headed(title: str) -> list[str]:
    return [title, "-" * len(title)]


def _wrapped(text: str, mark: str = "") -> list[str]:
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=mark,
        subsequent_indent=" " * len(mark),
        break_long_words=False,
        break_on_hyphens=False,
    )
