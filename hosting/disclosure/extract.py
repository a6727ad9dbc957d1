"""What is handed over in a disclosure: only the classes that the case names, only of its time, only of its accounts.

A folder with extract.jsonl, a line of JSON for each record, and manifest.json: the case, counts, the hash of the lines,
and an Ed25519 signature over that. It is written beside its place, and comes there whole, when it is durable. Of a
message to several recipients others' parts are left out of traces.

Raises: NotFound, Conflict (a named message is of another time), Unavailable, StorageFull.
Standards: RFC 8032 (Ed25519), RFC 8785 (canonical JSON).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from storage.certificates.certificate import canonical
from storage.directory.disclosures import Case, MessageName, Scope, What
from storage.directory.rows import AccountRow
from storage.errors import Conflict, Corrupt, NotFound
from storage.export.manifest import program
from storage.files import durable
from storage.installation import Installation
from storage.keys import signing
from storage.logs.trace import TO, TraceEvent
from storage.logs.traces import HORIZON, TraceQuery, details_for, submitted_by
from storage.logs.transcript_log import TranscriptQuery
from storage.values import MessageId

LINES, MANIFEST = "extract.jsonl", "manifest.json"
MANIFEST_MAX = 1 << 20  # octets


@dataclass(frozen=True, slots=True)
class Handed:
    """What an extract is, for the case and the records."""

    hash: bytes  # SHA-256 of the manifest's file
    items: int
    accounts: int


@dataclass(frozen=True, slots=True)
class _Source:
    """Where the records of a case come from."""

    installation: Installation
    scope: Scope
    auditor_key: bytes | None = field(repr=False)


Lines = Iterator[dict[str, Any]]


def write_extract(
    installation: Installation, case: Case, target: Path, accounts: Sequence[AccountRow], auditor_key: bytes | None
) -> Handed:
    """Durable in its place when it returns. What a crash left of an earlier attempt is removed."""
    assert case.scope is not None
    unfinished = target.parent / f".{target.name}.{case.case_id}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(mode=0o700)
        source = _Source(installation, case.scope, auditor_key)
        counts: Counter[str] = Counter()
        hashed, size, concerned = hashlib.sha256(), 0, 0
        with (unfinished / LINES).open("xb") as file:
            for account in accounts:
                before = counts.total()
                for what in sorted(case.scope.what):
                    for values in _CLASSES[what](source, case, account):
                        line = json.dumps({"class": what.value, "account": str(account.login), **values}) + "\n"
                        octets = line.encode("ascii")
                        file.write(octets)
                        hashed.update(octets)
                        size += len(octets)
                        counts[what.value] += 1
                concerned += counts.total() > before
            file.flush()
            durable.fsync_file(file.fileno())
        values = _manifest(installation, case, counts, concerned, size, hashed.hexdigest())
        document = _signed(installation, values)
        durable.write_file(unfinished / MANIFEST, document)
        durable.fsync_directory(unfinished)
        os.rename(unfinished, target)
        durable.fsync_directory(target.parent)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise durable.translated(error) from None
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return Handed(hashlib.sha256(document).digest(), counts.total(), concerned)


def read_extract(installation: Installation, case: Case, target: Path) -> Handed | None:
    """The extract of this case that is there already, whole and signed; None if there is none."""
    try:
        with (target / MANIFEST).open("rb") as file:
            document = file.read(MANIFEST_MAX)
        values = json.loads(document)
        manifest, signature = values["manifest"], values["signature"]
        public = installation.keys.verifying_key("manifest")
        signing.verify(public, canonical(manifest), bytes.fromhex(signature["value"]))
        named = manifest["files"][LINES]["sha256"]
        with (target / LINES).open("rb") as lines:
            whole = hashlib.file_digest(lines, "sha256").hexdigest() == named
    except (OSError, ValueError, KeyError, TypeError, RecursionError, Corrupt):
        return None
    if not whole or manifest["case"] != case.case_id:
        return None
    return Handed(hashlib.sha256(document).digest(), sum(manifest["counts"].values()), manifest["accounts"])


def _manifest(
    installation: Installation, case: Case, counts: Mapping[str, int], accounts: int, size: int, sha256: str
) -> dict[str, Any]:
    assert case.scope is not None
    return {
        "case": case.case_id,
        "authority": case.authority,
        "kind": case.kind.value,
        "legal_basis": case.legal_basis,
        "document_sha256": case.document.hex(),
        "what": sorted(case.scope.what),
        "since": _time(case.scope.since),
        "until": _time(case.scope.until),
        "installation": installation.control.installation_id(),
        "made": _time(installation.clock.now()),
        "program": program(),
        "counts": {what: counts.get(what, 0) for what in sorted(case.scope.what)},
        "accounts": accounts,
        "files": {LINES: {"size": size, "sha256": sha256}},
    }


def _signed(installation: Installation, values: Mapping[str, Any]) -> bytes:
    keys = installation.keys
    signature = {
        "algorithm": "Ed25519",
        "public_key": keys.verifying_key("manifest").hex(),
        "value": keys.sign("manifest", canonical(values)).hex(),
    }
    return canonical({"manifest": dict(values), "signature": signature}) + b"\n"


# Classes of data, an account at a time


def _account(source: _Source, case: Case, account: AccountRow) -> Lines:
    yield {"name": account.name, "state": account.state.value, "created": _time(account.created)}


def _access(source: _Source, case: Case, account: AccountRow) -> Lines:
    log, scope = source.installation.access_log, source.scope
    for event in log.read(scope.since, scope.until, tenant=case.tenant_id, account=account.account_id):
        yield {
            "time": _time(event.time),
            "type": event.type,
            "result": event.result,
            "protocol": event.protocol,
            "address": event.address,
        }


def _traces(source: _Source, case: Case, account: AccountRow) -> Lines:
    """Of what he sent all recipients, of what he got himself alone; older than traces are shown there is nothing.

    What others sent under his address is not his, and from where others sent to him is theirs.
    """
    scope, address = source.scope, str(account.login)
    since = max(scope.since, source.installation.clock.now() - HORIZON)
    if since >= scope.until:
        return
    log = source.installation.traces
    found = log.find(TraceQuery(sender=address), since, scope.until)
    sent = [trace for trace in found if any(submitted_by(event, account.account_id) for event in trace.events)]
    ids = {trace.id for trace in sent}
    got = [trace for trace in log.find(TraceQuery(recipient=address), since, scope.until) if trace.id not in ids]
    for trace in sorted([*sent, *got], key=lambda each: (each.begun, each.id)):
        for event in trace.events:
            own = trace.id in ids or event.recipient.casefold() in {"", address.casefold()}
            if own and since <= event.time < scope.until:
                yield _trace(event, account)


def _trace(event: TraceEvent, account: AccountRow) -> dict[str, Any]:
    return {
        "id": event.id,
        "time": _time(event.time),
        "kind": event.kind.value,
        "sender": event.sender,
        "recipient": event.recipient,
        "details": {name: value for name, value in details_for(event, account.account_id).items() if name != TO},
    }


def _transcripts(source: _Source, case: Case, account: AccountRow) -> Lines:
    assert source.auditor_key is not None
    query = TranscriptQuery(address=str(account.login))
    log, scope = source.installation.transcripts, source.scope
    for record in log.read(source.auditor_key, scope.since, scope.until, query):
        if record.tenants and int(case.tenant_id) not in record.tenants:
            continue  # others' dialogue, in which somebody wrote his address; of one without a message nobody knows
        yield {
            "id": record.id,
            "time": _time(record.time),
            "direction": record.direction.value,
            "peer": record.peer,
            "text": record.text,
        }


def _headers(source: _Source, case: Case, account: AccountRow) -> Lines:
    for name, time, octets in _messages_named(source, case, account):
        yield {**_called(name, time), "header": octets[: _end_of_header(octets)].decode("utf-8", "backslashreplace")}


def _messages(source: _Source, case: Case, account: AccountRow) -> Lines:
    for name, time, octets in _messages_named(source, case, account):
        yield {**_called(name, time), "base64": base64.b64encode(octets).decode("ascii")}


def _messages_named(source: _Source, case: Case, account: AccountRow) -> Iterator[tuple[MessageName, int, bytes]]:
    scope = source.scope
    with source.installation.account(case.tenant_id, account.account_id) as opened:
        for name in scope.messages:
            columns = ("message_id", "internal_date")
            rows = opened.messages.fetch_rows(opened.mailboxes.find(name.folder).id, name.uid, name.uid, columns)
            if not rows:
                raise NotFound(f"There is no message {name.folder}/{name.uid} any more.")
            message_id, time = rows[0][-2:]
            if not scope.since <= time < scope.until:
                raise Conflict(f"The message {name.folder}/{name.uid} is not of the time that the case names.")
            yield name, time, opened.messages.read_message(MessageId(message_id))


def _called(name: MessageName, time: int) -> dict[str, Any]:
    return {"folder": name.folder, "uid": name.uid, "time": _time(time)}


def _end_of_header(octets: bytes) -> int:
    found = octets.find(b"\r\n\r\n")
    return len(octets) if found < 0 else found + 2


_CLASSES: Mapping[What, Callable[[_Source, Case, AccountRow], Lines]] = MappingProxyType(
    {
        What.ACCOUNT: _account,
        What.ACCESS: _access,
        What.TRACES: _traces,
        What.TRANSCRIPTS: _transcripts,
        What.HEADERS: _headers,
        What.MESSAGES: _messages,
    }
)


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
