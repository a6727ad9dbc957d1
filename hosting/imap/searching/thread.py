"""Threads of messages: ORDEREDSUBJECT, REFERENCES and REFS, as pure functions over columns.

Messages are places 0 … n-1 in mailbox order; the result is the text after "* THREAD ". Depth costs no recursion: a
chain of 100,000 replies is a thread like any other.

Standards: RFC 5256 §3 (the algorithms), §4 (THREAD response); draft-ietf-morg-inthread-01 §4 (REFS).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from hosting.imap.searching.ordering import stable


@dataclass(frozen=True, slots=True)
class Threadable:
    """The columns that threading looks at, all in the same order."""

    ids: Sequence[str]  # Message-ID without brackets; empty: none
    references: Sequence[Sequence[str]]
    subjects: Sequence[str]  # base subjects
    replies: Sequence[bool]  # whether the subject said reply or forward
    dates: Sequence[int]


class _Forest:
    """Nodes 0 … n-1 are messages, from n on containers that no message fills ("dummies")."""

    def __init__(self, messages: Threadable) -> None:
        self.messages = messages
        self.size = len(messages.ids)
        self.children: dict[int, list[int]] = {}
        self.roots: list[int] = []
        self._next = self.size
        self._rank = [0] * self.size  # by date, then in mailbox order
        for rank, place in enumerate(stable(range(self.size), messages.dates.__getitem__)):
            self._rank[place] = rank

    def dummy(self, children: list[int]) -> int:
        node = self._next
        self._next += 1
        self.children[node] = children
        return node

    def first(self, node: int) -> int:
        """The message that stands for a node: itself, or a dummy's first child."""
        while node >= self.size:
            node = self.children[node][0]
        return node

    def by_date(self, node: int) -> int:
        return self._rank[node if node < self.size else self.first(node)]

    def sort(self) -> None:
        for siblings in self.children.values():
            if len(siblings) > 1:
                siblings.sort(key=self.by_date)
        self.roots = stable(self.roots, self.by_date)


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
    newest = {root: _newest(forest, root) for root in forest.roots}
    forest.roots = stable(forest.roots, newest.__getitem__)
    return _written(forest, names)


def ordered_subject(messages: Threadable, names: Sequence[int]) -> bytes:
    """THREAD=ORDEREDSUBJECT: one level of replies under the first message of each subject."""
    forest = _Forest(messages)
    order = stable(range(forest.size), forest.by_date)
    first: dict[str, int] = {}
    for place in order:
        root = first.setdefault(messages.subjects[place], place)
        if root == place:
            forest.roots.append(place)
        else:
            forest.children.setdefault(root, []).append(place)
    return _written(forest, names)


def _linked(messages: Threadable) -> list[int]:
    """Step 1: the parent of every node, messages and the ids that are only referred to; -1: none."""
    containers: dict[str, int] = {}
    for place, message_id in enumerate(messages.ids):
        if message_id:
            containers.setdefault(message_id, place)  # a second message of the same id stands alone
    parents = [-1] * len(messages.ids)
    has_child = bytearray(len(messages.ids))
    for place, chain in enumerate(messages.references):
        previous = -1
        for reference in chain:
            node = containers.get(reference)
            if node is None:
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
    newest, todo = -1, [root]
    while todo:
        node = todo.pop()
        if node < forest.size:
            newest = max(newest, forest.by_date(node))
        todo += forest.children.get(node, ())
    return newest


def _gather_subjects(forest: _Forest) -> None:
    """Step 5: roots of the same subject become one thread."""
    messages, size = forest.messages, forest.size
    chosen: dict[str, int] = {}
    for root in forest.roots:
        subject = messages.subjects[forest.first(root)]
        if not subject:
            continue
        other = chosen.get(subject)
        if (
            other is None
            or (root >= size > other)
            or (other < size and root < size and messages.replies[other] and not messages.replies[root])
        ):
            chosen[subject] = root
    roots: list[int] = []
    replaced: dict[int, int] = {}
    for root in forest.roots:
        subject = messages.subjects[forest.first(root)]
        other = chosen.get(subject, root) if subject else root
        if other == root:
            roots.append(root)
        elif other >= size and root >= size:
            forest.children[other] += forest.children.pop(root)
        elif other >= size:
            forest.children[other].append(root)
        elif root < size and messages.replies[root] and not messages.replies[other]:
            forest.children.setdefault(other, []).append(root)
        else:
            chosen[subject] = replaced[other] = forest.dummy([other, root])
    forest.roots = [replaced.get(root, root) for root in roots]


def _written(forest: _Forest, names: Sequence[int]) -> bytes:
    """`(1 2 (3)(4))`: the thread-list of RFC 5256 §5."""
    out: list[str] = []
    for root in forest.roots:
        stack: list[int | str] = [")", root, "("]
        while stack:
            item = stack.pop()
            if isinstance(item, str):
                out.append(item)
                continue
            children = forest.children.get(item, ())
            if item < forest.size:
                out.append(f"{names[item]} " if children else str(names[item]))
            if len(children) == 1:
                stack.append(children[0])
            else:
                for child in reversed(children):
                    stack += (")", child, "(")
    return "".join(out).encode("ascii")


ALGORITHMS: Final[Mapping[str, Callable[[Threadable, Sequence[int]], bytes]]] = {
    "ORDEREDSUBJECT": ordered_subject,
    "REFERENCES": references,
    "REFS": refs,
}
