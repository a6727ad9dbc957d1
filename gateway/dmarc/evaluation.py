"""Evaluates DMARC for a message: whose policy counts, and whether SPF or DKIM passed for a domain that is aligned.

A message with several author domains is evaluated for each of the first `AUTHORS_MAX`: it passes only if all of them
do, and the strictest policy among those that fail counts (§11.5). Each of them has its share of the time, so that
nobody escapes the policy of one domain by naming another whose DNS is slow.
What is temporarily unknown and could have made it a pass makes the result TEMPERROR, so that nobody's policy is applied
for a fault of DNS.

Questions: a walk for each author domain (eight), one whether it exists, and walks for the domains that authenticated
the message and stand at or below the author's organizational domain: nothing else could be aligned with it.

Raises: TimeoutError, and cancellation. Standards: RFC 9989 §4.10, §5.3, §11.5.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace

from gateway.dkim.result import Dkim, DkimResult
from gateway.dmarc.result import Aligned, Dmarc, DmarcResult, Policy
from gateway.dmarc.tree_walk import Found, TreeWalk, Walk, names_from
from gateway.dns.answers import Dns
from gateway.dns.names import normal
from gateway.spf import Spf, SpfResult

AUTHORS_MAX = 4
WALKS_MAX = 10  # for alignment with one author domain; SPF's is the first

_STRICTNESS = {Policy.NONE: 0, Policy.QUARANTINE: 1, Policy.REJECT: 2}


async def evaluate(
    dns: Dns,
    author_domains: Sequence[str],
    spf: SpfResult | None,
    dkim: Sequence[DkimResult] | None,
    *,
    tree: TreeWalk | None = None,
    limit: float | None = None,
) -> DmarcResult:
    """`author_domains` in lower-case A-labels. None: not known. `tree`: one that has begun to ask already (`begin`).

    Raises TimeoutError if a result that could matter is not there within `limit` seconds.
    """
    domains = tuple(dict.fromkeys(author_domains))
    if not domains:
        return DmarcResult(Dmarc.PERMERROR, reason="From names no domain")
    tree = tree or TreeWalk(dns)
    results: list[DmarcResult] = []
    late: TimeoutError | None = None
    looked_at, end = domains[:AUTHORS_MAX], None if limit is None else _now() + limit
    for left, domain in zip(range(len(looked_at), 0, -1), looked_at, strict=True):
        try:
            async with asyncio.timeout(None if end is None else (end - _now()) / left):
                results.append(await _evaluate(tree, domain, spf, dkim))
        except TimeoutError as error:
            late = error
    if late is not None and not any(each.result is Dmarc.FAIL for each in results):
        raise late
    return _worst(results, cut=len(domains) > AUTHORS_MAX)


async def begin(tree: TreeWalk, author_domains: Sequence[str]) -> None:
    """Asks for all policies at once, while SPF and DKIM ask for theirs."""
    await tree.ask(name for domain in dict.fromkeys(author_domains[:AUTHORS_MAX]) for name in names_from(domain))


def _now() -> float:
    return asyncio.get_running_loop().time()


async def _evaluate(
    tree: TreeWalk, author: str, spf: SpfResult | None, dkim: Sequence[DkimResult] | None
) -> DmarcResult:
    walk = await tree.walk(author)
    organizational, found = walk.organizational_domain, walk.policy
    if found is None:
        if walk.failed:
            return DmarcResult(Dmarc.TEMPERROR, author, reason="DNS did not answer for the policy")
        return DmarcResult(Dmarc.NONE, author, Policy.NONE, organizational, reason="there is no policy")
    record = found.record
    if record.policy is None:
        return DmarcResult(
            Dmarc.NONE,
            author,
            Policy.NONE,
            organizational,
            record_domain=found.domain,
            reason="the record has no valid policy",
        )
    result = DmarcResult(
        Dmarc.PASS,
        author,
        _policy(found, author, exists=True),
        organizational,
        record_domain=found.domain,
        published=record.policy,
        testing=record.testing,
    )
    alignment = _Alignment(tree, walk, found)
    aligned, unsure = await alignment.find(_identifiers(spf, dkim, passed=True))
    if aligned:
        return replace(result, aligned=aligned)
    if not unsure:
        maybe, unsure = await alignment.find(_identifiers(spf, dkim, passed=False))
        unsure = unsure or bool(maybe)
    if unsure:
        return replace(result, result=Dmarc.TEMPERROR, reason="DNS did not answer for all of SPF, DKIM and DMARC")
    if spf is None or dkim is None:
        return replace(result, result=Dmarc.TEMPERROR, reason="SPF or DKIM is not known")
    exists = await _exists(tree, found, author)
    if exists is None:
        return replace(result, result=Dmarc.TEMPERROR, reason="DNS did not say whether the domain exists")
    return replace(
        result,
        result=Dmarc.FAIL,
        policy=_policy(found, author, exists=exists),
        reason="neither SPF nor DKIM passed for the domain of the author",
    )


class _Alignment:
    """With one author domain (§4.10.2)."""

    def __init__(self, tree: TreeWalk, walk: Walk, found: Found) -> None:
        self._tree = tree
        self._author = walk.domain
        self._organizational = walk.organizational_domain  # empty: unknown
        self._strict = {"spf": found.record.strict_spf, "dkim": found.record.strict_dkim}
        self._walked: dict[str, str] = {}

    async def find(self, identifiers: Iterable[Aligned]) -> tuple[tuple[Aligned, ...], bool]:
        """Those that are aligned, and whether DNS left it open for another one."""
        aligned: list[Aligned] = []
        unsure = False
        for each in dict.fromkeys(identifiers):
            is_aligned = await self._is_aligned(each)
            if is_aligned:
                aligned.append(each)
            unsure = unsure or is_aligned is None
        return tuple(aligned), unsure

    async def _is_aligned(self, identifier: Aligned) -> bool | None:
        domain = identifier.domain
        if domain == self._author:
            return True
        if self._strict[identifier.method]:
            return False
        if not self._organizational:
            return None
        if domain != self._organizational and not domain.endswith("." + self._organizational):
            return False
        if domain not in self._walked:
            if len(self._walked) >= WALKS_MAX:
                return False
            self._walked[domain] = (await self._tree.walk(domain)).organizational_domain
        organizational = self._walked[domain]
        return organizational == self._organizational if organizational else None


def _identifiers(spf: SpfResult | None, dkim: Sequence[DkimResult] | None, *, passed: bool) -> list[Aligned]:
    """The domains that SPF and DKIM passed for; or those for which they are only temporarily unknown.

    SPF's is the domain of HELO where the reverse-path is null, as RFC 7208 §2.4 says.
    """
    found: list[Aligned] = []
    if spf is not None and spf.result is (Spf.PASS if passed else Spf.TEMPERROR):
        name = normal(spf.domain)
        if name:
            found.append(Aligned("spf", name))
    wanted = Dkim.PASS if passed else Dkim.TEMPERROR
    found += [Aligned("dkim", each.domain) for each in dkim or () if each.result is wanted and each.domain]
    return found


async def _exists(tree: TreeWalk, found: Found, author: str) -> bool | None:
    """Whether the author's domain exists, asked for only where it makes a difference."""
    record = found.record
    if found.domain == author or record.nonexistent in (None, record.subdomains or record.policy):
        return True
    return await tree.exists(author)


def _policy(found: Found, author: str, *, exists: bool) -> Policy:
    """§4.10.1."""
    record = found.record
    policy = record.policy or Policy.NONE
    if found.domain != author:
        policy = record.subdomains or policy
        if not exists:
            policy = record.nonexistent or policy
    return policy.lowered if record.testing else policy


def _worst(results: Sequence[DmarcResult], *, cut: bool) -> DmarcResult:
    of = {result: [each for each in results if each.result is result] for result in Dmarc}
    if of[Dmarc.FAIL]:
        return max(of[Dmarc.FAIL], key=_strictness)
    if cut:  # whose policy would have counted is not known
        return replace(results[0], result=Dmarc.PERMERROR, aligned=(), reason="From names too many domains")
    if of[Dmarc.TEMPERROR]:
        return max(of[Dmarc.TEMPERROR], key=_strictness)
    if of[Dmarc.NONE]:
        return of[Dmarc.NONE][0]
    # The one with the weaker proof: SPF's depends on who forwarded.
    return min(results, key=lambda each: any(aligned.method == "dkim" for aligned in each.aligned))


def _strictness(result: DmarcResult) -> int:
    return _STRICTNESS[result.policy]
