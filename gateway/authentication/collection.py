"""Collects who stands behind a message: SPF, DKIM, ARC and DMARC side by side, within a time limit.

`prepare` is pure: what the octets of the message alone can say. A body of many megabytes takes longer than an event
loop should wait; it belongs into a worker thread then. `collect` ends within `limit` seconds and raises nothing but
cancellation: what is late or breaks is unknown, with its reason, and takes nothing else with it.

DMARC's questions begin with the others'. Its evaluation keeps the last part of the time for itself, so that a signature
that was verified counts also where SPF never ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from gateway.arc import validation as arc
from gateway.authentication.authorship import Authors, authors
from gateway.authentication.facts import AuthenticationFacts, Method, Unknown
from gateway.dkim import verification as dkim
from gateway.dkim.digests import MessageDigests
from gateway.dkim.result import Dkim, DkimResult
from gateway.dmarc.evaluation import begin, evaluate
from gateway.dmarc.result import Dmarc, DmarcResult
from gateway.dmarc.tree_walk import TreeWalk
from gateway.dns.answers import Dns
from gateway.spf import SpfResult
from storage.mime.fields import Header

LIMIT = 20.0  # seconds
KEPT = 5.0  # seconds of them for DMARC's evaluation, but not more than a quarter

LATE = "not known in time"
BROKEN = "the check did not work"
_UNCLEAR = "it is not clear who the author is"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PreparedMessage:
    authors: Authors
    dkim: dkim.Prepared
    chain: arc.PreparedChain


def prepare(data: bytes, header: Header) -> PreparedMessage:
    """Of a whole message with CRLF line ends, as it came over the wire, and its header."""
    digests = MessageDigests(data, header)
    return PreparedMessage(
        authors(header), dkim.prepare(data, header, digests=digests), arc.prepare(data, header, digests=digests)
    )


async def collect(
    prepared: PreparedMessage,
    dns: Dns,
    spf: Awaitable[SpfResult],
    now: int,
    limit: float = LIMIT,
    *,
    unanswered: SpfResult | None = None,
) -> AuthenticationFacts:
    """`now` is Unix seconds. `spf` may have begun long before; if it is a future of the caller's, it goes on.

    `unanswered`: what DMARC takes for SPF's result if that is not known in time. It says whose it would have been, so
    that nobody suspends the policy of a domain by a reverse-path elsewhere whose DNS is slow.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + limit
    tree = TreeWalk(dns)
    known: dict[str, Any] = {}
    asked: dict[Method, Awaitable[Any]] = {"spf": spf}
    # What needs no waiting costs no task.
    if prepared.dkim.signatures:
        asked["dkim"] = dkim.verify(prepared.dkim, dns, now)
    else:
        known["dkim"] = ()
    if prepared.chain.early is None:
        asked["arc"] = arc.validate(prepared.chain, dns, now)
    else:
        known["arc"] = prepared.chain.early
    if len(asked) > 1 or not (isinstance(spf, asyncio.Future) and spf.done()):
        asked["dmarc"] = begin(tree, prepared.authors.domains)
    found, unknown = await _together(asked, limit - min(KEPT, limit / 4))
    unknown = [each for each in unknown if each.method != "dmarc"]  # its evaluation asks again
    known |= found
    facts = AuthenticationFacts(
        prepared.authors,
        known.get("spf"),
        known.get("dkim"),
        known.get("arc"),
        None,
        prepared.dkim.not_looked_at,
    )
    signatures = _unanswered(prepared.dkim) if facts.dkim is None else facts.dkim
    result = await _dmarc(tree, dns, facts.authors, facts.spf or unanswered, signatures, end - loop.time())
    if isinstance(result, Unknown):
        unknown.append(result)
        return replace(facts, unknown=tuple(unknown))
    return replace(facts, dmarc=result, unknown=tuple(unknown))


def _unanswered(prepared: dkim.Prepared) -> tuple[DkimResult, ...]:
    """What DMARC takes for signatures whose keys are late: only those of the author's domain leave its policy open."""
    return tuple(
        each.claims if each.field is None else replace(each.claims, result=Dkim.TEMPERROR)
        for each in prepared.signatures
    )


async def _dmarc(
    tree: TreeWalk,
    dns: Dns,
    found: Authors,
    spf: SpfResult | None,
    signatures: tuple[DkimResult, ...] | None,
    limit: float,
) -> DmarcResult | Unknown:
    try:
        result = await evaluate(dns, found.domains, spf, signatures, tree=tree, limit=max(limit, 0.0))
    except TimeoutError:
        return Unknown("dmarc", LATE)
    except Exception as error:  # noqa: BLE001 - a fault of ours loses no message
        return _broken("dmarc", error)
    if result.passed and not found.are_clear:
        return replace(result, result=Dmarc.PERMERROR, reason=_UNCLEAR)
    return result


async def _together(asked: Mapping[Method, Awaitable[Any]], limit: float) -> tuple[dict[str, Any], list[Unknown]]:
    """The results that came in time, and for each other one why there is none."""
    tasks = {name: asyncio.ensure_future(each) for name, each in asked.items()}
    try:
        if not all(task.done() for task in tasks.values()):
            await asyncio.wait(tasks.values(), timeout=limit)
    finally:
        for name, task in tasks.items():
            if task is not asked[name]:
                task.cancel()  # without effect on what is done
    results: dict[str, Any] = {}
    unknown: list[Unknown] = []
    for name, task in tasks.items():
        if not task.done() or task.cancelled():
            unknown.append(Unknown(name, LATE))
        elif (error := task.exception()) is not None:
            unknown.append(_broken(name, error))
        else:
            results[name] = task.result()
    return results, unknown


def _broken(method: Method, error: BaseException) -> Unknown:
    _log.error("the check of %s failed: %s", method, type(error).__name__)
    return Unknown(method, BROKEN)
