"""Whole messages as they are read most: without what else their files say, and with keys that are derived at once."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import Corrupt, NotFound
from storage.files.format import CHUNK
from storage.files.maildir import Maildir
from storage.files.metadata import FileMeta
from storage.keys.sealing import Key, derivation, derive
from storage.values import AccountId, MessageId

KEY = Key("ab" * 16, b"k" * 32)
META = FileMeta(AccountId(12), MessageId(345), 1_750_000_000, mailbox="Entwürfe", keywords=("a",), delivery_id="3f")
PREFIX = b"Received: from a\r\n\tby b\r\n"


@pytest.mark.parametrize("size", [0, 100, CHUNK, 3 * CHUNK + 17])
@pytest.mark.parametrize("prefix", [b"", PREFIX])
@pytest.mark.parametrize("settled", [False, True])
def test_a_message_begins_with_what_was_added(tmp_path: Path, size: int, prefix: bytes, settled: bool) -> None:
    maildir, name, data = Maildir(tmp_path), Maildir.new_name("w1"), os.urandom(size)
    maildir.create()
    maildir.write(name, KEY, replace(META, prefix=prefix), data)
    maildir.link(name)
    if settled:
        maildir.settle(name)
    assert maildir.read_message(name, KEY) == prefix + data
    assert maildir.remove(name)
    with pytest.raises(NotFound):
        maildir.read_message(name, KEY)


@given(st.text(max_size=9), st.none() | st.text(max_size=9), st.binary(max_size=9))
def test_added_fields_are_found_without_the_rest(mailbox: str, delivery: str | None, prefix: bytes) -> None:
    meta = replace(META, mailbox=mailbox, delivery_id=delivery, prefix=prefix)
    assert FileMeta.prefix_of(meta.pack()) == prefix


@given(st.integers(0, len(replace(META, prefix=PREFIX).pack()) - 1))
def test_cut_metadata_have_no_added_fields(length: int) -> None:
    with pytest.raises(Corrupt):
        FileMeta.prefix_of(replace(META, prefix=PREFIX).pack()[:length])


@given(st.binary(min_size=32, max_size=32), st.binary(min_size=16, max_size=16), st.text(max_size=20))
def test_a_derivation_gives_the_keys_that_derive_gives(key: bytes, last: bytes, purpose: str) -> None:
    assert derivation(purpose, 16)(key, last) == derive(key, purpose, last)
