#!/usr/bin/env python3
"""Fuzzes storage.vcard and the taking apart of .vcf and .ics files with lines put together at random and damaged.

scripts/fuzz/vcard.py [--seed N] [--seconds 10]

Prints the seed of a file for which something does not hold; exit status 1 then.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from storage.collections.conditions import Violated
from storage.icalendar.contentlines import read
from storage.icalendar.splitting import split_calendar
from storage.icalendar.textmatch import Collation, TextMatch
from storage.vcard.birthday import anniversaries, anniversary_event
from storage.vcard.card import VERSIONS, Card, read_card, stated_version
from storage.vcard.content import card_content
from storage.vcard.convert import converted
from storage.vcard.filter import CardFilter, CardParamFilter, CardPropFilter, matches, may_match
from storage.vcard.partial import AddressData, CardProp, partial
from storage.vcard.properties import repaired, types
from storage.vcard.splitting import split

NAMES = [
    "BEGIN",
    "END",
    "VERSION",
    "UID",
    "N",
    "FN",
    "ORG",
    "NICKNAME",
    "EMAIL",
    "TEL",
    "ADR",
    "LABEL",
    "PHOTO",
    "LOGO",
    "KEY",
    "SOUND",
    "BDAY",
    "ANNIVERSARY",
    "GEO",
    "TZ",
    "REV",
    "X-ABDATE",
    "X-ABLabel",
    "X-ABRELATEDNAMES",
    "RELATED",
    "KIND",
    "MEMBER",
    "AGENT",
    "SORT-STRING",
    "NOTE",
    "X-ABShowAs",
    "X-ADDRESSBOOKSERVER-KIND",
    "X-ADDRESSBOOKSERVER-MEMBER",
    "CLASS",
    "GENDER",
    "LANG",
    "XML",
    "CLIENTPIDMAP",
    "IMPP",
    "URL",
    "TITLE",
    "METHOD",
    "TZID",
    "RECURRENCE-ID",
    "DTSTART",
]
VALUES = [
    "VCARD",
    "VCALENDAR",
    "VEVENT",
    "VTIMEZONE",
    "STANDARD",
    "3.0",
    "4.0",
    "2.1",
    "u1",
    "1996-04-15",
    "--0415",
    "1604-02-29",
    "---",
    "---31",
    "0000-00-00",
    "99999999",
    "Doe;Jane;;;",
    "\\,",
    "\\\\",
    "\\",
    ";;;;",
    "geo:1,2",
    "1;2",
    "-05:00",
    "+99:99",
    "data:image/png;base64,AAAA",
    "data:,%ff%zz",
    "tel:+1;ext=",
    "urn:uuid:1",
    "_$!<Anniversary>!$_",
    "_$!<>!$_",
    "group",
    "org",
    "ü",
    "🎂",
    "=C3=BC=",
    "=0D=0A",
    "^n",
]
PARAMETERS = [
    "TYPE=work",
    "type=pref",
    'TYPE="home,cell"',
    "HOME",
    "PREF=1",
    "PREF=x",
    "ENCODING=b",
    "BASE64",
    "ENCODING=QUOTED-PRINTABLE",
    "CHARSET=utf-8",
    "CHARSET=utf-16",
    "CHARSET=none",
    "VALUE=uri",
    "VALUE=text",
    "VALUE=date",
    "ALTID=1",
    'LABEL="a^nb"',
    "X-APPLE-OMIT-YEAR=1604",
    "SORT-AS=a",
    "LANGUAGE=de",
    "TZID=Europe/Berlin",
    'TZID="a;b"',
    "=x",
    "X=",
    "TYPE=",
]
ENDS = [b"\r\n"] * 6 + [b"\n", b"\r", b"\r\r\n", b"\r\n ", b"\n\t", b"\r\n\r\n", b"=\r\n", b""]


def random_file(chance: random.Random) -> bytes:
    """Cards, calendars and what is between, in a third of the cases damaged."""
    pieces = [chance.choice([b"", b"", b"", b"\xef\xbb\xbf", b"\xff\xfe"])]
    for _ in range(chance.randrange(1, 4)):
        name = chance.choice(["VCARD"] * 4 + ["VCALENDAR", "VEVENT"])
        version = chance.choice(["3.0", "4.0", "2.1", "2.0"])
        pieces.append(f"BEGIN:{name}\r\nVERSION:{version}\r\n".encode())
        if chance.random() < 0.8:
            pieces.append(b"UID:u%d\r\n" % chance.randrange(3))
        for _ in range(chance.randrange(12)):
            pieces.append(_line(chance) + chance.choice(ENDS))
        pieces.append(f"END:{name}\r\n".encode())
    data = bytearray(b"".join(pieces))
    if chance.random() < 0.3:
        for _ in range(chance.randrange(1, 6)):
            at = chance.randrange(len(data) + 1)
            data[at : at + chance.randrange(4)] = chance.randbytes(chance.randrange(4))
    return bytes(data)


def _line(chance: random.Random) -> bytes:
    if chance.random() < 0.1:
        return chance.choice([b"AAAABBBB", b"AAAA==", b"nothing", b":", b";", b" x", b"a.b.c:d"])
    group = chance.choice(["", "", "", "item1.", "item2.", "g-1."])
    parameters = "".join(f";{chance.choice(PARAMETERS)}" for _ in range(chance.choice([0, 0, 1, 1, 2, 4])))
    name = chance.choice(NAMES)
    value = "".join(chance.choice(VALUES) for _ in range(chance.choice([0, 1, 1, 1, 2, 40])))
    return f"{group}{chance.choice([name, name.lower()])}{parameters}:{value}".encode()


def check(data: bytes) -> None:
    """Asserts all that must hold of a file."""
    for piece in split(data):
        _check_card(piece)
    _check_card(data)
    for piece in split_calendar(data):
        assert piece.upper().startswith(b"BEGIN:VCALENDAR\r\nVERSION")
        assert piece.endswith(b"END:VCALENDAR\r\n")


def _check_card(data: bytes) -> None:
    try:
        card = read_card(data)
    except Violated as error:
        assert error.public
        return
    assert stated_version(data) in ("", card.version)
    try:
        content = card_content(data)
        assert content.data is data and content.uid == card.uid
    except Violated as error:
        assert error.condition in ("valid-address-data", "supported-address-data")
    for one in anniversaries(card):
        assert read(anniversary_event(one)).name == "VCALENDAR"
    for name in {one.name for one in card.properties}:
        wanted = CardPropFilter(name, texts=(TextMatch("e", Collation.UNICODE),), params=(CardParamFilter("TYPE"),))
        assert matches(card, CardFilter((CardPropFilter(name),))) and wanted.matches(card) in (True, False)
        for one in card.all(name):
            for text in {one.value[:5], one.value[-3:], one.value[2:9], *types(one)[:1]}:
                _check_search(card, name, text)
        part = partial(data, AddressData((CardProp(name),)))
        kept = [one for one in card.properties if one.name in (name, "VERSION")]
        if repaired(part) == part:  # a name that is folded looks like base64 after base64
            assert list(read_card(part).properties) == kept
    if card.version in VERSIONS:
        other = "4.0" if card.version == "3.0" else "3.0"
        turned = converted(data, other)
        assert read_card(turned).version == other
        assert read_card(turned).uid == card.uid
        assert all(len(line) <= 75 for line in turned.split(b"\r\n"))
        back = read_card(converted(turned, card.version))
        assert (back.version, back.uid) == (card.version, card.uid)
        assert back.display_name.split() == card.display_name.split()


def _check_search(card: Card, name: str, text: str) -> None:
    """What the octets rule out, the card is not (but for base64 that goes on over lines without a fold)."""
    for collation in Collation:
        sought = TextMatch(text, collation)
        for prop in (
            CardPropFilter(name, texts=(sought,)),
            CardPropFilter(name, params=(CardParamFilter("TYPE", sought),)),
        ):
            if matches(card, CardFilter((prop,))):
                assert may_match(card.data, CardFilter((prop,)))


def run(seed: int, count: int | None = None, seconds: float | None = None) -> int:
    """Checks `count` files, or as many as fit into `seconds`; how many they were."""
    end = None if seconds is None else time.monotonic() + seconds
    number = 0
    while (count is None or number < count) and (end is None or time.monotonic() < end):
        data = random_file(random.Random(f"{seed}.{number}"))
        try:
            check(data)
        except Exception:
            print(f"seed {seed}.{number}: {data!r}")
            raise
        number += 1
    return number


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    try:
        number = run(options.seed, seconds=options.seconds)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
        print(f"does not hold: {error!r}")
        return 1
    print(f"{number} files, seed {options.seed}: everything held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
