"""Threads of messages: ORDEREDSUBJECT, REFERENCES and REFS, as pure functions over columns.

Messages are places 0 … n-1 in mailbox order; the result is the text after "* THREAD ". Depth costs no recursion: a
chain of 100,000 replies is a thread like any other.

Standards: RFC 5256 §3 (the algorithms), §4 (THREAD response); draft-ietf-morg-inthread-01 §4 (REFS).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hosting.imap.searching.ordering import stable

_SINGLE = 2000  # messages that are written by one call


@dataclass(frozen=True, slots=True)
class Threadable:
    """The columns that threading looks at, all in the same order. Texts are numbers from 1 on; 0 is the empty one."""

    ids: Sequence[int]  # Message-ID without brackets
    references: Sequence[int]  # of the same numbers, for each message those …
    starts: Sequence[int]  # … from here
    ends: Sequence[int]
    subjects: Sequence[int]  # base subjects; messages that have gone have one of their own
    replies: Sequence[int]  # whether the subject said reply or forward
    order: Sequence[int]  # places by date, then in mailbox order
    texts: int  # above each number of an id and of a subject
    gone: Collection[int] = ()  # places of which nothing is told


class _Forest:
    """Nodes 0 … n-1 are messages, from n on containers that no message fills ("dummies").

    Dummies are roots, and their children messages.
    """

    def __init__(self, messages: Threadable) -> None:
        self.messages = messages
        self.size = len(messages.ids)
        self.children: dict[int, list[int]] = {}
        self.roots: list[int] = []
        self._next = self.size
        self.rank = [0] * self.size  # by date, then in mailbox order
        for rank, place in enumerate(messages.order):
            self.rank[place] = rank

    def dummy(self, children: list[int]) -> int:
        node = self._next
        self._next += 1
        self.children[node] = children
        return node

    def sort(self) -> None:
        by_date = self.rank.__getitem__
        for siblings in self.children.values():
            if len(siblings) > 1:
                siblings[:] = stable(siblings, by_date)
        size, children, rank = self.size, self.children, self.rank
        self.place_roots([rank[root if root < size else children[root][0]] for root in self.roots])

    def place_roots(self, ranks: Sequence[int]) -> None:
        """Puts each root where it belongs by its rank; no two have the same."""
        placed = [-1] * self.size
        for rank, root in zip(ranks, self.roots, strict=True):
            placed[rank] = root
        self.roots = [root for root in placed if root >= 0]


def references(messages: Threadable, names: Sequence[int]) -> bytes:
    """THREAD=REFERENCES; `names` are the UIDs or numbers to write."""
    forest = _Forest(messages)
    parents = _linked(messages)
    forest._next = len(parents)
    _without_dummies(forest, parents)
    forest.sort()
    _gather_subjects(forest)
    forest.sort()
    return _written(forest, names)


def refs(messages: Threadable, names: Sequence[int]) -> bytes:
    """THREAD=REFS: by references alone, and the thread with the newest message last."""
    forest = _Forest(messages)
    parents = _linked(messages)
    forest._next = len(parents)
    _without_dummies(forest, parents)
    forest.sort()
    forest.place_roots([_newest(forest, root) for root in forest.roots])
    return _written(forest, names)


def ordered_subject(messages: Threadable, names: Sequence[int]) -> bytes:
    """THREAD=ORDEREDSUBJECT: one level of replies under the first message of each subject."""
    forest = _Forest(messages)
    first = [-1] * messages.texts
    for place in messages.order:
        subject = messages.subjects[place]
        root = first[subject]
        if root < 0:
            first[subject] = place
            forest.roots.append(place)
        else:
            forest.children.setdefault(root, []).append(place)
    return _written(forest, names)


def _linked(messages: Threadable) -> list[int]:
    """Step 1: the parent of every node, messages and the ids that are only referred to; -1: none."""
    containers = [-1] * messages.texts
    for place, number in enumerate(messages.ids):
        if number and containers[number] < 0:  # a second message of the same id stands alone
            containers[number] = place
    parents = [-1] * len(messages.ids)
    has_child = bytearray(len(messages.ids))
    references = messages.references
    for place, (start, end) in enumerate(zip(messages.starts, messages.ends, strict=True)):
        if start == end:
            parents[place] = -1
            continue
        previous = -1
        for reference in references[start:end]:
            node = containers[reference]
            if node < 0:
                node = containers[reference] = len(parents)
                parents.append(-1)
                has_child.append(0)
            if previous >= 0 and parents[node] < 0 and _may_link(parents, has_child, previous, node):
                parents[node] = previous
                has_child[previous] = 1
            previous = node
        parents[place] = -1  # what others said of this message was a guess
        if previous >= 0 and _may_link(parents, has_child, previous, place):
            parents[place] = previous
            has_child[previous] = 1
    return parents


def _may_link(parents: list[int], has_child: bytearray, parent: int, child: int) -> bool:
    """Whether the link makes no loop; a node without children is nobody's ancestor."""
    if parent == child:
        return False
    if not has_child[child]:
        return True
    node = parent
    while node >= 0:
        if node == child:
            return False
        node = parents[node]
    return True


def _without_dummies(forest: _Forest, parents: list[int]) -> None:
    """Steps 2 and 3: children of empty containers move up; at the root a container stays if it joins several."""
    size = forest.size
    top: dict[int, int] = {}  # dummy to the message or root dummy above it
    joined: dict[int, list[int]] = {}
    for place in range(size):
        above = parents[place]
        passed = []
        while above >= size and parents[above] >= 0 and above not in top:
            passed.append(above)
            above = parents[above]
        above = top.get(above, above)
        for dummy in passed:
            top[dummy] = above
        if above < 0:
            forest.roots.append(place)
        elif above < size:
            forest.children.setdefault(above, []).append(place)
        else:
            joined.setdefault(above, []).append(place)
    for dummy, children in joined.items():
        if len(children) == 1:
            forest.roots.append(children[0])
        else:
            forest.children[dummy] = children
            forest.roots.append(dummy)


def _newest(forest: _Forest, root: int) -> int:
    """The rank of the newest message in a thread."""
    children, size, rank = forest.children, forest.size, forest.rank
    if root not in children:
        return rank[root]
    newest, todo = -1, [root]
    while todo:
        node = todo.pop()
        if node < size:
            newest = max(newest, rank[node])
        todo += children.get(node, ())
    return newest


def _gather_subjects(forest: _Forest) -> None:
    """Step 5: roots of the same subject become one thread."""
    messages, size, children = forest.messages, forest.size, forest.children
    replies, roots = messages.replies, forest.roots
    of_message = messages.subjects
    subjects = [of_message[root if root < size else children[root][0]] for root in roots]
    chosen = [-1] * messages.texts
    for root, subject in zip(roots, subjects, strict=True):
        other = chosen[subject]
        if other < 0:
            chosen[subject] = root
        elif root >= size:
            if other < size:
                chosen[subject] = root
        elif other < size and replies[other] and not replies[root]:
            chosen[subject] = root
    kept: list[int] = []
    replaced: dict[int, int] = {}
    for root, subject in zip(roots, subjects, strict=True):
        other = chosen[subject] if subject else root
        if other == root:
            kept.append(root)
        elif other >= size and root >= size:
            children[other] += children.pop(root)
        elif other >= size:
            children[other].append(root)
        elif root < size and replies[root] and not replies[other]:
            children.setdefault(other, []).append(root)
        else:
            chosen[subject] = replaced[other] = forest.dummy([other, root])
    forest.roots = [replaced.get(root, root) for root in kept] if replaced else kept


def _written(forest: _Forest, names: Sequence[int]) -> bytes:
    """`(1 2 (3)(4))`: the thread-list of RFC 5256 §5."""
    below, size, gone = forest.children.get, forest.size, forest.messages.gone
    out: list[bytes] = []
    single: list[int] = []  # names of neighbours without children
    levels: list[Iterator[int]] = [
        iter(root for root in forest.roots if root not in gone) if gone else iter(forest.roots)
    ]
    while levels:
        for sibling in levels[-1]:
            children = below(sibling)
            if not children:
                single.append(names[sibling])
                if len(single) < _SINGLE:
                    continue
            if single:
                out.append((b"(%d)" * len(single)) % tuple(single))
                single.clear()
            if not children:
                continue
            out.append(b"(")
            node = sibling
            while children:
                if node < size:
                    out.append(b"%d " % names[node])
                if len(children) > 1:
                    levels.append(iter(children))
                    break
                node = children[0]
                children = below(node)
            else:
                out.append(b"%d)" % names[node])
                continue
            break  # to its children, then to the next one here
        else:
            if single:
                out.append((b"(%d)" * len(single)) % tuple(single))
                single.clear()
            levels.pop()
            if levels:
                out.append(b")")
    return b"".join(out)


ALGORITHMS: Final[Mapping[str, Callable[[Threadable, Sequence[int]], bytes]]] = {
    "ORDEREDSUBJECT": ordered_subject,
    "REFERENCES": references,
    "REFS": refs,
}
