"""The states of a session (RFC 9051 §3), and what the answers to commands may tell besides their results (§7.5.1)."""

from __future__ import annotations

from enum import Enum, auto


class State(Enum):
    GREETED = auto()  # not authenticated (RFC 9051 §3.1)
    SIGNED_IN = auto()
    SELECTED = auto()
    ENDED = auto()


class News(Enum):
    """What the answer to a command may tell besides its own result."""

    NONE = auto()
    FLAGS = auto()  # never an EXPUNGE: FETCH, STORE, SEARCH by number (RFC 9051 §7.5.1)
    EXPUNGES = auto()  # and what the session itself brought
    ALL = auto()  # and new messages that others brought
