"""Words of strangers within sentences of ours, and numbers for people."""

from __future__ import annotations

import re
from collections.abc import Sequence

from gateway.content_facts.attachment import extension_of

_NAMED = 2
_MOST = 80
# Controls, line ends, and what turns the direction of writing or is not seen.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_ENDING = re.compile(r"[a-z0-9_]{1,6}\Z")


def shown(text: str) -> str:
    """One line, of bounded length, in which everything is seen."""
    seen = _UNSEEN.sub("?", text)
    return seen if len(seen) <= _MOST else seen[: _MOST - 1] + "…"


def kind_of(path: str) -> str:
    """What a file is by the end of its name (".exe"), as far as that is a kind and not a word; "" if it says none.

    Names of files are content: sentences go into traces, and before those who see header lines only.
    """
    ending = extension_of(path.rpartition("/")[2])
    return f".{ending}" if _ENDING.match(ending) else ""


def listed(texts: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    named = [shown(text) for text in texts[:_NAMED]]
    if len(texts) > _NAMED:
        return f"{', '.join(named)} and {len(texts) - _NAMED} more"
    return " and ".join(named)


def scores(*values: float) -> tuple[str, ...]:
    """With as many places as it takes to tell them apart, at most three."""
    for places in (1, 2, 3):
        texts = tuple(f"{value:.{places}f}" for value in values)
        if len(set(texts)) == len(set(values)):
            break
    return texts
