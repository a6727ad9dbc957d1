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

    Dummies are roots, and their children messages. Siblings and roots stand by date, a dummy where its first child
    would: the steps take messages in that order, so little is left to be sorted.
    """

    def __init__(self, messages: Threadable) -> None:
        self.messages = messages
        self.size = len(messages.ids)
        self.children: dict[int, list[int]] = {}
        self.roots: list[int] = []
        self.next = self.size  # the number of the next dummy

    def dummy(self, children: list[int]) -> int:
        node = self.next
        self.next += 1
        self.children[node] = children
        return node

    def ranks(self) -> list[int]:
        """By date, then in mailbox order."""
        ranks = [0] * self.size
        for rank, place in enumerate(self.messages.order):
            ranks[place] = rank
        return ranks


def references(messages: Threadable, names: Sequence[int]) -> bytes:
    """THREAD=REFERENCES; `names` are the UIDs or numbers to write."""
    forest = _Forest(messages)
    _without_dummies(forest, _linked(messages))
    _gather_subjects(forest)
    return _written(forest, names)


def refs(messages: Threadable, names: Sequence[int]) -> bytes:
    """THREAD=REFS: by references alone, and the thread with the newest message last."""
    forest = _Forest(messages)
    _without_dummies(forest, _linked(messages))
    _by_newest(forest)
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
    size, references = len(messages.ids), messages.references
    containers = [-1] * messages.texts
    for place, number in zip(range(size - 1, -1, -1), reversed(messages.ids), strict=True):
        containers[number] = place  # the first one; a second message of the same id stands alone
    containers[0] = -1
    parents = [-1] * size
    has_child = bytearray(size)
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
            if parents[node] < 0 <= previous and _may_link(parents, has_child, previous, node):
                parents[node] = previous
                has_child[previous] = 1
            previous = node
        parents[place] = -1  # what others said of this message was a guess
        if previous != place and (not has_child[place] or _may_link(parents, has_child, previous, place)):
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
    size, roots, below = forest.size, forest.roots, forest.children
    forest.next = len(parents)
    top: dict[int, int] = {}  # dummy to the message or root dummy above it
    stands: dict[int, int] = {}  # where a root dummy stands among the roots
    for place in forest.messages.order:
        above = parents[place]
        if above < 0:
            roots.append(place)
            continue
        if above >= size:
            passed = []
            while above >= size and parents[above] >= 0 and above not in top:
                passed.append(above)
                above = parents[above]
            above = top.get(above, above)
            for dummy in passed:
                top[dummy] = above
            if above >= size and above not in stands:
                stands[above] = len(roots)
                roots.append(above)
        siblings = below.get(above)
        if siblings is None:
            below[above] = [place]
        else:
            siblings.append(place)
    for dummy, at in stands.items():
        if len(below[dummy]) == 1:
            roots[at] = below.pop(dummy)[0]


def _by_newest(forest: _Forest) -> None:
    """Roots by the newest message of each thread; no two have the same."""
    ranks = forest.ranks()
    placed = [-1] * forest.size
    for root in forest.roots:
        placed[_newest(forest, ranks, root)] = root
    forest.roots = [root for root in placed if root >= 0]


def _newest(forest: _Forest, ranks: Sequence[int], root: int) -> int:
    """The rank of the newest message in a thread."""
    children, size = forest.children, forest.size
    if root not in children:
        return ranks[root]
    newest, todo = -1, [root]
    while todo:
        node = todo.pop()
        if node < size:
            newest = max(newest, ranks[node])
        todo += children.get(node, ())
    return newest


def _gather_subjects(forest: _Forest) -> None:
    """Step 5: roots of the same subject become one thread.

    Those of a subject come to its first dummy, else to its first message that is no reply, else to its first reply. A
    dummy moves to where the first that comes to it stood; nothing else moves.
    """
    size, roots, children, replies = forest.size, forest.roots, forest.children, forest.messages.replies
    of_message, texts = forest.messages.subjects, forest.messages.texts
    subjects = [of_message[root if root < size else children[root][0]] for root in roots]
    first, chosen = [-1] * texts, [-1] * texts
    moving: list[int] = []  # subjects
    for root, subject in zip(roots, subjects, strict=True):
        other = chosen[subject]
        if other < 0:
            first[subject] = chosen[subject] = root
        elif root >= size:
            if other < size:
                chosen[subject] = root
                moving.append(subject)
        elif other < size and replies[other] and not replies[root]:
            chosen[subject] = root
    stands = chosen.copy()
    for subject in moving:
        stands[subject] = first[subject]
    stands[0] = -1
    kept: list[int] = []
    joining: dict[int, list[int]] = {}  # by subject, those that stand elsewhere
    for root, subject in zip(roots, subjects, strict=True):
        if stands[subject] == root or not subject:
            kept.append(root)
        else:
            others = joining.get(subject)
            if others is None:
                joining[subject] = [root]
            else:
                others.append(root)
    ranks = forest.ranks() if joining else ()
    replaced: dict[int, int] = {}
    for subject, others in joining.items():
        root = stands[subject]
        node = _joined(forest, ranks, root, chosen[subject], others)
        if node != root:
            replaced[root] = node
    forest.roots = [replaced.get(root, root) for root in kept] if replaced else kept


def _joined(forest: _Forest, ranks: Sequence[int], root: int, chosen: int, others: list[int]) -> int:
    """What stands in the place of `root`, the first of a subject, or the only one that may be, once `others` have come.

    If `chosen` is a dummy `root` may be before it, which is then one of the others.
    """
    size, children, replies = forest.size, forest.children, forest.messages.replies
    if chosen >= size:
        siblings = children[chosen]
        for each in others if root == chosen else [root, *others]:
            if each < size:
                siblings.append(each)
            elif each != chosen:
                siblings += children.pop(each)
        children[chosen] = stable(siblings, ranks.__getitem__)
        return chosen
    if replies[chosen]:
        return forest.dummy([chosen, *others])
    count = next((at for at, each in enumerate(others) if not replies[each]), len(others))
    if count:  # replies that come before anything else does
        children[chosen] = stable([*children.get(chosen, ()), *others[:count]], ranks.__getitem__)
    return forest.dummy([chosen, *others[count:]]) if count < len(others) else chosen


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
