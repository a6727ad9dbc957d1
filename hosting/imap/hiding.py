"""Which capabilities a client is not told of, by how it calls itself in ID.

For programs that turn on what they see and then fail. The name is a hint that anybody may give: nothing is allowed or
refused by it but what is told and enabled.

Standards: RFC 2971 §3.3.
"""

from __future__ import annotations

from collections.abc import Mapping


def hidden_from(name: str, settings: Mapping[str, str]) -> frozenset[str]:
    """The words, in capitals, that are hidden from whoever calls himself `name` ([imap] hidden)."""
    if not settings or not name:
        return frozenset()
    called = name.casefold()
    return frozenset(
        word
        for beginning, words in settings.items()
        if called.startswith(beginning.casefold())
        for word in words.upper().split()
    )
