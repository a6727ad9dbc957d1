"""Which entry of the lists counts for a message: the most specific one that may.

An allow entry may only if it is proven that the message comes from whom it names: the author by `author_is_proven`, the
envelope's sender by SPF (but not behind a forwarder), a client by its connection; or if the entry does not ask for it.
Of two that are as specific the one of the nearer scope counts, and of one scope the deny list.

Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import takewhile

from gateway.facts.values import ClientFacts, Facts
from gateway.policy.authorship import author_is_proven, path_is_proven
from storage.filter.rules import Hit, ListKind, Matcher
from storage.values import EmailAddress


@dataclass(frozen=True, slots=True)
class ListMatch:
    """An entry that names the message's sender. An allow entry that is not `proven` lets nothing through."""

    kind: ListKind
    pattern: str
    scope: str = ""
    proven: bool = True
    also: tuple[str, ...] = ()  # of a deny entry: the others that would take its place

    @property
    def patterns(self) -> tuple[str, ...]:
        return (self.pattern, *self.also)

    @property
    def allows(self) -> bool:
        return self.kind is ListKind.ALLOW and self.proven

    @property
    def denies(self) -> bool:
        return self.kind is ListKind.DENY


def list_match(matcher: Matcher, facts: Facts) -> ListMatch | None:
    """For a whole message; if nothing else counts, the allow entry that would have with proof."""
    return _best(
        [
            *_with_proof(_of_authors(matcher, facts), author_is_proven(facts)),
            *_with_proof(_of_path(matcher, facts.reverse_path), path_is_proven(facts)),
            *_with_proof(matcher.client(facts.client.address), True),
        ]
    )


def early_match(matcher: Matcher, client: ClientFacts, reverse_path: EmailAddress | None) -> ListMatch | None:
    """As far as it is known before the content. The sender may still prove himself: each allow entry counts."""
    return _best(
        [
            *_with_proof(_of_path(matcher, reverse_path), True),
            *_with_proof(matcher.client(client.address), True),
        ]
    )


def _of_authors(matcher: Matcher, facts: Facts) -> Iterator[Hit]:
    """Who has an address that no account could have is still of his domain."""
    for author in facts.authors:
        yield from matcher.sender(author)
    addressed = {author.domain.name for author in facts.authors}
    for domain in facts.authentication.authors.domains:
        if domain not in addressed:
            yield from matcher.domain(domain)


def _of_path(matcher: Matcher, reverse_path: EmailAddress | None) -> Iterable[Hit]:
    return () if reverse_path is None else matcher.sender(reverse_path)


def _with_proof(hits: Iterable[Hit], proven: bool) -> Iterable[tuple[Hit, bool]]:
    return ((hit, proven or hit.entry.unproven or hit.entry.kind is ListKind.DENY) for hit in hits)


def _best(found: list[tuple[Hit, bool]]) -> ListMatch | None:
    if not found:
        return None
    found = sorted(
        found,
        key=lambda each: (each[1], each[0].specific, each[0].nearness, each[0].entry.kind is ListKind.DENY),
        reverse=True,
    )
    hit, proven = found[0]
    denying = takewhile(lambda each: each[0].entry.kind is ListKind.DENY, found)
    also = dict.fromkeys(each.entry.pattern for each, _ in denying)
    also.pop(hit.entry.pattern, None)
    return ListMatch(hit.entry.kind, hit.entry.pattern, hit.entry.scope, proven, tuple(also))
