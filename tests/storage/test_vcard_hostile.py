"""storage.vcard on input that means harm: everything ends soon, and holds what the fuzzer asks.

The sizes are such that quadratic time would be felt as minutes.
"""

from __future__ import annotations

import pytest

from scripts.fuzz.vcard import check, run
from storage.collections.conditions import Violated
from storage.icalendar.splitting import split_calendar
from storage.vcard.content import card_content
from storage.vcard.convert import converted
from storage.vcard.splitting import split

BEGIN, END = b"BEGIN:VCARD\r\nVERSION:%s\r\nUID:u1\r\n", b"END:VCARD\r\n"
MANY = 3_000

HOSTILE = {
    "labels without addresses": b"LABEL;TYPE=home:x\r\n" * MANY,
    "addresses and labels": b"ADR;TYPE=home:;;x\r\n" * (MANY // 2) + b"LABEL;TYPE=home:x\r\n" * (MANY // 2),
    "labels of one group": b"item1.X-ABLabel:_$!<Anniversary>!$_\r\n" * (MANY // 2)
    + b"item1.X-ABDATE:2010-05-01\r\n" * (MANY // 2),
    "related": b"RELATED;TYPE=friend:urn:uuid:1\r\n" * MANY,
    "alternatives": b"".join(b"TITLE;ALTID=%d:x\r\n" % n for n in range(MANY)),
    "types": b"TEL" + b";TYPE=a" * MANY + b":1\r\n",
    "bare types": b"TEL" + b";A" * MANY + b":1\r\n",
    "values of one parameter": b"TEL;TYPE=" + b"a," * MANY + b"b:1\r\n",
    "quotes that never end": b'TEL;TYPE="' + b'a,"' * MANY + b"\r\n",
    "backslashes": b"N:" + b"\\" * 60_000 + b";" * 60_000 + b"\r\n",
    "semicolons": b"ORG:" + b";" * 50_000 + b"\r\n",
    "a photo in lines of one letter": b"PHOTO;ENCODING=b:A\r\n" + b"A\r\n" * 30_000,
    "a photo folded everywhere": b"PHOTO;ENCODING=b:A\r\n" + b" A\r\n" * 30_000,
    "a data URI": b"PHOTO:data:" + b";" * 100_000 + b"," + b"%41" * 30_000 + b"\r\n",
    "heads that look encoded": b";;;;;;;;;;BASE6;\r\n" * 50_000,
    "soft breaks": b"NOTE;ENCODING=QUOTED-PRINTABLE:" + b"a=\r\n" * 50_000 + b"\r\n",
}


OF_VERSION21 = ("types", "bare types", "backslashes", "a photo in lines of one letter", "soft breaks")


@pytest.mark.parametrize(
    ("case", "version"),
    [
        *((case, version) for case in HOSTILE for version in (b"3.0", b"4.0")),
        *((case, b"2.1") for case in OF_VERSION21),
    ],
)
def test_cards_that_mean_harm_end_soon(case: str, version: bytes) -> None:
    data = BEGIN % version + HOSTILE[case] + END
    for piece in split(data):
        try:
            content = card_content(piece)
        except Violated as error:
            assert error.condition in ("valid-address-data", "supported-address-data")
            continue
        assert content.uid == "u1"
        turned = converted(piece, "3.0" if version == b"4.0" else "4.0")
        assert turned.startswith(b"BEGIN:VCARD\r\n")


def test_files_that_mean_harm_end_soon() -> None:
    assert len(list(split(b"BEGIN:VCARD\r\n" * 8_000))) == 8_000
    assert len(list(split(b"AGENT:\r\nBEGIN:VCARD\r\n" * 20_000))) == 1
    assert list(split(b"END:VCARD\r\n" * 50_000)) == []
    assert list(split_calendar(b"BEGIN:VCALENDAR\r\n" * 20_000)) == []
    assert list(split_calendar(b"BEGIN:VEVENT\r\n" * 20_000)) == []
    events = b"BEGIN:VEVENT\r\nUID:%d\r\nDTSTART;TZID=z:20240101T000000\r\nEND:VEVENT\r\n"
    zone = b"BEGIN:VTIMEZONE\r\nTZID:z\r\n" + b"X:x\r\n" * 30_000 + b"END:VTIMEZONE\r\n"
    file = b"BEGIN:VCALENDAR\r\nX-A:" + b"a" * 500_000 + b"\r\n" + zone
    found = list(split_calendar(file + b"".join(events % n for n in range(1_000)) + b"END:VCALENDAR\r\n"))
    assert len(found) == 1_000
    assert sum(map(len, found)) < len(file)  # neither the frame nor the zone is multiplied


def test_the_fuzzer_for_a_while() -> None:
    check(b"")
    assert run(seed=6, count=300) == 300
