"""One file in an archive, before it is looked into."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.content_facts.attachment import Incomplete, Trait
from gateway.content_facts.flow import Flow


@dataclass(frozen=True, slots=True)
class Member:
    """`flow`: its content, None if only the name is known; `incomplete` says why."""

    name: str
    size: int | None = None
    flow: Flow | None = None
    encrypted: bool = False
    traits: frozenset[Trait] = frozenset()
    incomplete: Incomplete | None = None
