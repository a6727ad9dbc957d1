"""Verifies the DKIM signatures of a message.

`prepare` is pure and does what the message alone can decide; `verify` asks DNS for keys, each once and all at once, and
raises nothing but cancellation. A signature that cannot hold any more, because the body is another, costs no question.

At most `MOST` signatures are looked at, the first ones: servers on the way add theirs in front. Signatures with l= that
leave octets of the body unsigned are not accepted: anybody could have written what a reader sees (§8.2). Nor are those
that sign a field of which another one stands in the message: readers show the first, signers sign the last (§8.15).
A failure counts for as much as no signature at all (§6.1); while a domain only tests, it is `neutral` (§3.6.1).

Standards: RFC 6376 §6, RFC 8301, RFC 8463, RFC 8601 §2.7.1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gateway.dkim.digests import MessageDigests
from gateway.dkim.fields import OCTETS_MAX, Refused, SignatureField, name_of, read_signature
from gateway.dkim.public_keys import PublicKey, Rejected, fetch, find_key
from gateway.dkim.result import Dkim, DkimResult
from gateway.dkim.signature import ALWAYS
from gateway.dkim.tags import TagError, parse_tags, without_blanks
from gateway.dns.answers import Answer, Dns
from storage.mime.fields import Field, Header

MOST = 10
FUTURE = 86_400  # seconds that a signer's clock may be ahead
LATE = 300  # and ours, of the expiry of a signature

_SHOWN = 8  # RFC 6008 §4: characters of b= at least
_TEXT_MAX = 300  # of a value that is kept for people


@dataclass(frozen=True, slots=True)
class PreparedSignature:
    """`claims`: what is known without a key. `field` is None if that is the result already."""

    claims: DkimResult
    field: SignatureField | None = None
    digest: bytes = b""  # of the header fields


@dataclass(frozen=True, slots=True)
class Prepared:
    signatures: tuple[PreparedSignature, ...] = ()  # in the order of the header
    not_looked_at: int = 0


def prepare(data: bytes, header: Header, *, most: int = MOST, digests: MessageDigests | None = None) -> Prepared:
    """`digests`: those of the same message, where others need them too."""
    digests = digests or MessageDigests(data, header)
    fields = digests.named(b"dkim-signature")
    signatures = tuple(_prepare(digests, field) for field in fields[:most])
    return Prepared(_told_apart(signatures), max(0, len(fields) - most))


async def verify(prepared: Prepared, dns: Dns, now: int) -> tuple[DkimResult, ...]:
    """A result for each signature, in the order of the header. `now` is Unix seconds."""
    if not prepared.signatures:
        return ()
    fields = [each.field for each in prepared.signatures if each.field is not None and not untimely(each.field, now)]
    answers = await fetch(dns, dict.fromkeys((field.selector, field.domain) for field in fields))
    return tuple(_verified(each, answers, now) for each in prepared.signatures)


def untimely(field: SignatureField, now: int) -> str:
    """Why a signature does not count now; empty if it does."""
    if field.expires is not None and field.expires + LATE < now:
        return "the signature has expired"
    if field.time is not None and field.time > now + FUTURE:
        return "the signature is from the future"
    return ""


def check_body(field: SignatureField, digests: MessageDigests) -> None:
    """Raises Refused if the body is another, or not covered to its end."""
    body_hash, octets = digests.body(relaxed=field.body_relaxed)
    if field.length is not None and field.length < octets:
        raise Refused(Dkim.POLICY, "the signature leaves the end of the body open")
    if field.length is not None and field.length > octets:
        raise Refused(Dkim.FAIL, "the body is shorter than it was")
    if body_hash != field.body_hash:
        raise Refused(Dkim.FAIL, "the body was changed")


def check_fields(field: SignatureField, digests: MessageDigests) -> None:
    """Raises Refused if a field that a reader sees stands in the message more often than it was signed."""
    for name in ALWAYS:
        signed = field.names.count(name)
        if 0 < signed < len(digests.named(name)):
            raise Refused(Dkim.POLICY, f"another {name.decode('ascii').title()} field was not signed")


def _prepare(digests: MessageDigests, field: Field) -> PreparedSignature:
    if field.end - field.value > OCTETS_MAX:
        return PreparedSignature(DkimResult(Dkim.NEUTRAL, reason="the signature is too long"))
    try:
        tags = parse_tags(digests.value(field))
    except TagError as error:
        return PreparedSignature(DkimResult(Dkim.NEUTRAL, reason=f"the signature cannot be read: {error}"))
    domain = name_of(tags.get("d", ""))
    claims = DkimResult(
        Dkim.NEUTRAL,
        domain,
        name_of(tags.get("s", "")),
        tags.get("i", f"@{domain}" if domain else "")[:_TEXT_MAX],
        tags.get("a", "").lower()[:_TEXT_MAX],
        signature=without_blanks(tags.get("b", "")[: 2 * _TEXT_MAX])[:_TEXT_MAX],
    )
    try:
        signature = read_signature(tags)
        check_fields(signature, digests)
        check_body(signature, digests)
    except Refused as refused:
        return PreparedSignature(replace(claims, result=refused.result, reason=refused.reason))
    digest = digests.signed(signature.names, field, relaxed=signature.header_relaxed)
    return PreparedSignature(claims, signature, digest)


def _verified(each: PreparedSignature, answers: dict[tuple[str, str], Answer[bytes]], now: int) -> DkimResult:
    field, claims = each.field, each.claims
    if field is None:
        return claims
    reason = untimely(field, now)
    if reason:
        return replace(claims, result=Dkim.PERMERROR, reason=reason)
    key: PublicKey | Rejected = find_key(answers[field.selector, field.domain], field.key_type)
    if isinstance(key, Rejected):
        return replace(claims, result=key.result, reason=key.reason)
    if key.verifies(field.signature, each.digest):
        result, reason = Dkim.PASS, ""
        if key.strict and not field.same_domain:
            result, reason = Dkim.PERMERROR, "the key is not for domains below its own"
    else:
        result, reason = Dkim.FAIL, "the header or the signature was changed"
    if key.testing and result is not Dkim.PASS:
        result, reason = Dkim.NEUTRAL, f"{reason}, and its domain only tests"
    return replace(claims, result=result, reason=reason, testing=key.testing)


def _told_apart(signatures: Sequence[PreparedSignature]) -> tuple[PreparedSignature, ...]:
    """With only as much of each b= as tells it from the others (RFC 6008 §4)."""
    whole = [each.claims.signature for each in signatures]
    shown = _SHOWN
    while shown < _TEXT_MAX and len({text[:shown] for text in whole}) < len(set(whole)):
        shown *= 2
    return tuple(
        replace(each, claims=replace(each.claims, signature=each.claims.signature[:shown])) for each in signatures
    )
