"""Validates the ARC chain of a message.

`prepare` is pure and does what the message alone can decide: a chain with a hole, or with a body that is another since
the newest sealer, costs no question. `validate` asks DNS for all keys at once, and raises nothing but cancellation.

Bounds: 50 sets (§4.2.1), all seals hashed in one pass over the chain, `MESSAGE_SIGNATURES` message signatures and the
results of `RESULTS_READ` sets from the newest one on, each key once.

Standards: RFC 8617 §4.1, §5.1.1, §5.2.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.arc.result import Arc, ArcResult, SealedSet
from gateway.arc.results import OCTETS, read_results
from gateway.dkim.digests import MessageDigests
from gateway.dkim.fields import (
    OCTETS_MAX,
    Refused,
    SignatureField,
    read_domain,
    read_key_type,
    read_message_signature,
    read_octets,
    read_selector,
)
from gateway.dkim.public_keys import PublicKey, Rejected, fetch, find_key
from gateway.dkim.result import Dkim
from gateway.dkim.tags import TagError, parse_tags
from gateway.dkim.verification import check_body, check_fields, untimely
from gateway.dns.answers import Answer, Dns
from gateway.dns.names import normal
from storage.mime.fields import Field, Header, unfold

SETS_MAX = 50
RESULTS_READ = 10  # sets whose results are read, the newest ones: nobody relies on a longer way
MESSAGE_SIGNATURES = 10  # that are verified, from the newest one on, to say since when the message is unchanged

RESULTS = b"arc-authentication-results"
MESSAGE_SIGNATURE = b"arc-message-signature"
SEAL = b"arc-seal"

_INSTANCE = re.compile(r"0*([0-9]{1,2})\Z")
_RESULTS_INSTANCE = re.compile(rb"[ \t\r\n]*+i[ \t\r\n]*+=[ \t\r\n]*+0*+([0-9]{1,2})[ \t\r\n]*+(?:;|\()")


class Broken(Exception):  # noqa: N818 - an answer, not a fault of ours
    """The chain fails; the text says why, in short words of ours, ASCII without quotes."""


@dataclass(frozen=True, slots=True)
class Seal:
    domain: str
    selector: str
    key_type: str
    signature: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class MessageSignature:
    field: SignatureField
    digest: bytes


@dataclass(frozen=True, slots=True)
class PreparedChain:
    """`early`: the result that needs no key."""

    early: ArcResult | None = None
    sets: tuple[SealedSet, ...] = ()  # the newest first, and so in the other two
    seals: tuple[Seal, ...] = ()
    signatures: tuple[MessageSignature, ...] = ()  # the ones that may still hold


@dataclass(slots=True)
class _Set:
    fields: dict[bytes, Field] = field(default_factory=dict)
    tags: dict[bytes, Mapping[str, str]] = field(default_factory=dict)


def prepare(data: bytes, header: Header, *, digests: MessageDigests | None = None) -> PreparedChain:
    """`digests`: those of the same message, where others need them too."""
    digests = digests or MessageDigests(data, header)
    try:
        sets = _collect(digests)
        if not sets:
            return PreparedChain(ArcResult(Arc.NONE))
        _check_seals(sets)
        signatures = _message_signatures(sets, digests)
        seals = _seals(sets, digests)
    except (Broken, Refused, TagError) as error:
        return PreparedChain(ArcResult(Arc.FAIL, reason=str(error)))
    described: list[SealedSet] = []
    for number, (each, seal) in enumerate(zip(sets, seals, strict=True), 1):
        read = number > len(sets) - RESULTS_READ
        results = read_results(_text(digests.value(each.fields[RESULTS]))) if read else ()
        described.append(SealedSet(number, seal.domain, results))
    return PreparedChain(None, tuple(reversed(described)), tuple(reversed(seals)), signatures)


async def validate(prepared: PreparedChain, dns: Dns, now: int) -> ArcResult:
    """`now` is Unix seconds."""
    if prepared.early is not None:
        return prepared.early
    newest = prepared.signatures[0]
    late = untimely(newest.field, now)
    if late:
        return ArcResult(Arc.FAIL, reason=late)
    places = [(each.domain, each.selector) for each in prepared.seals]
    places += [(each.field.domain, each.field.selector) for each in prepared.signatures]
    answers = await fetch(dns, dict.fromkeys((selector, domain) for domain, selector in places))
    reason = _failure(newest.field, newest.digest, answers)
    if reason:
        return ArcResult(Arc.FAIL, reason=f"the newest message signature: {reason}")
    for sealed, seal in zip(prepared.sets, prepared.seals, strict=True):
        reason = _failure(seal, seal.digest, answers)
        if reason:
            return ArcResult(Arc.FAIL, reason=f"seal {sealed.instance}: {reason}")
    return ArcResult(Arc.PASS, prepared.sets, _oldest_pass(prepared, answers, now))


def _collect(digests: MessageDigests) -> list[_Set]:
    """The sets in the order of their instances; raises Broken unless these are 1 to N, each whole (§5.2, 3A and 3B)."""
    if digests.header.is_cut:
        raise Broken("the header has too many fields")
    found: dict[int, _Set] = {}
    total = 0
    for name in (RESULTS, MESSAGE_SIGNATURE, SEAL):
        fields = digests.named(name)
        total += len(fields)
        if len(fields) > SETS_MAX:
            raise Broken(f"the chain has more than {SETS_MAX} sets")
        for each in fields:
            value = digests.value(each)
            if each.end - each.value > OCTETS_MAX:
                raise Broken("a field of the chain is too long")
            tags = {} if name == RESULTS else parse_tags(value)
            instance = _results_instance(value) if name == RESULTS else _instance(tags)
            sealed = found.setdefault(instance, _Set())
            if name in sealed.fields:
                raise Broken(f"set {instance} of the chain has two fields of one kind")
            sealed.fields[name] = each
            sealed.tags[name] = tags
    if total != 3 * len(found) or any(instance not in found for instance in range(1, len(found) + 1)):
        raise Broken("a field of the chain is missing")
    return [found[instance] for instance in range(1, len(found) + 1)]


def _instance(tags: Mapping[str, str]) -> int:
    return _checked(_INSTANCE.match(tags.get("i", "")))


def _results_instance(value: bytes) -> int:
    return _checked(_RESULTS_INSTANCE.match(value))


def _checked(found: re.Match[str] | re.Match[bytes] | None) -> int:
    instance = int(found[1]) if found is not None else 0
    if not 1 <= instance <= SETS_MAX:
        raise Broken("a field of the chain has no instance")
    return instance


def _check_seals(sets: list[_Set]) -> None:
    """What the seals say of the chain before them (§5.2, 2 and 3C)."""
    for number, each in enumerate(sets, 1):
        tags = each.tags[SEAL]
        if "h" in tags:  # §4.1.3
            raise Broken(f"seal {number} has h=")
        if tags.get("cv", "").lower() != ("none" if number == 1 else "pass"):
            raise Broken(f"seal {number} says that the chain was broken")


def _message_signatures(sets: list[_Set], digests: MessageDigests) -> tuple[MessageSignature, ...]:
    """The newest message signature, and those before it as far as the body is the same. Raises Refused."""
    signatures: list[MessageSignature] = []
    for each in sets[: -MESSAGE_SIGNATURES - 1 : -1]:
        try:
            signature = read_message_signature(each.tags[MESSAGE_SIGNATURE])
            check_fields(signature, digests)
            check_body(signature, digests)
        except Refused:
            if not signatures:
                raise
            break
        own = each.fields[MESSAGE_SIGNATURE]
        signatures.append(
            MessageSignature(signature, digests.signed(signature.names, own, relaxed=signature.header_relaxed))
        )
    return tuple(signatures)


def _seals(sets: list[_Set], digests: MessageDigests) -> list[Seal]:
    """Each seal signs all sets before it, and its own (§5.1.1). Raises Refused."""
    seals: list[Seal] = []
    chain = hashlib.sha256()
    for each in sets:
        tags = each.tags[SEAL]
        chain.update(digests.relaxed(each.fields[RESULTS]) + digests.relaxed(each.fields[MESSAGE_SIGNATURE]))
        sealed = chain.copy()
        sealed.update(digests.unsigned(each.fields[SEAL], relaxed=True))
        chain.update(digests.relaxed(each.fields[SEAL]))
        domain, selector = read_domain(tags), read_selector(tags)
        if normal(f"{selector}._domainkey.{domain}") is None:
            raise Refused(Dkim.PERMERROR, "selector and domain are too long")
        seals.append(Seal(domain, selector, read_key_type(tags), read_octets(tags), sealed.digest()))
    return seals


def _failure(signed: Seal | SignatureField, digest: bytes, answers: Mapping[tuple[str, str], Answer[bytes]]) -> str:
    """Why this does not hold; empty if it does."""
    key: PublicKey | Rejected = find_key(answers[signed.selector, signed.domain], signed.key_type)
    if isinstance(key, Rejected):
        return key.reason
    return "" if key.verifies(signed.signature, digest) else "what it signs was changed"


def _oldest_pass(prepared: PreparedChain, answers: Mapping[tuple[str, str], Answer[bytes]], now: int) -> int:
    """The oldest set since which the message is unchanged; 0 if that is the first (§5.2, 5)."""
    oldest = prepared.sets[0].instance
    for sealed, each in zip(prepared.sets[1:], prepared.signatures[1:], strict=False):
        if untimely(each.field, now) or _failure(each.field, each.digest, answers):
            break
        oldest = sealed.instance
    return 0 if oldest == 1 else oldest


def _text(value: bytes) -> str:
    return unfold(value[:OCTETS]).decode("utf-8", "replace")
