"""THREAD=REFERENCES says what the steps of RFC 5256 §3 say, taken one after the other (a model for few messages)."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from hosting.imap.searching.thread import ALGORITHMS, Threadable

Tree = tuple[int, list["Tree"]]  # a message's place, or -1, and what is below
LETTERS = st.tuples(
    st.integers(0, 9), st.lists(st.integers(1, 12), max_size=3), st.integers(0, 3), st.booleans(), st.integers()
)


@dataclass(frozen=True, slots=True)
class Letter:
    """Numbers for texts, 0 for the empty one."""

    own: int
    references: list[int]
    subject: int
    is_reply: bool
    rank: int  # by date


def threadable(letters: list[Letter]) -> Threadable:
    references: list[int] = []
    starts, ends = [], []
    for each in letters:
        starts.append(len(references))
        references += each.references
        ends.append(len(references))
    return Threadable(
        ids=[each.own for each in letters],
        references=references,
        starts=starts,
        ends=ends,
        subjects=[each.subject for each in letters],
        replies=[each.is_reply for each in letters],
        order=sorted(range(len(letters)), key=lambda place: letters[place].rank),
        texts=13,
    )


def linked(letters: list[Letter]) -> dict[int, int | None]:
    """Step 1; an id that no message has is a negative number."""
    first: dict[int, int] = {}
    for place, each in enumerate(letters):
        if each.own:
            first.setdefault(each.own, place)
    parents: dict[int, int | None] = dict.fromkeys(range(len(letters)))

    def is_free(child: int, parent: int | None) -> bool:
        node = parent
        while node is not None and node != child:
            node = parents[node]
        return parent is not None and node is None

    for place, each in enumerate(letters):
        previous: int | None = None
        for reference in each.references:
            node = first.get(reference, -1 - reference)
            if parents.setdefault(node, None) is None and is_free(node, previous):
                parents[node] = previous
            previous = node
        parents[place] = None
        if is_free(place, previous):
            parents[place] = previous
    return parents


def model(letters: list[Letter]) -> bytes:
    parents = linked(letters)

    def below(node: int) -> list[Tree]:  # steps 2 and 3
        trees: list[Tree] = []
        for child in [each for each, parent in parents.items() if parent == node]:
            trees += [(child, below(child))] if child >= 0 else below(child)
        return trees

    def date(tree: Tree) -> int:
        return letters[tree[0]].rank if tree[0] >= 0 else min(map(date, tree[1]))

    def by_date(trees: list[Tree]) -> list[Tree]:
        return sorted([(node, by_date(children)) for node, children in trees], key=date)

    roots: list[Tree] = []
    for node in [each for each, parent in parents.items() if parent is None]:
        children = below(node)
        if node >= 0 or len(children) > 1:
            roots.append((max(node, -1), children))
        else:
            roots += children
    roots = by_date(roots)  # step 4

    def letter(tree: Tree) -> Letter:
        return letters[tree[0] if tree[0] >= 0 else tree[1][0][0]]

    table: dict[int, Tree] = {}  # step 5
    for root in roots:
        there = table.setdefault(letter(root).subject, root)
        if there[0] >= 0 and (root[0] < 0 or (letter(there).is_reply and not letter(root).is_reply)):
            table[letter(root).subject] = root
    kept: list[Tree] = []
    for root in roots:
        subject = letter(root).subject
        there = table[subject]
        if there is root or not subject:
            kept.append(root)
        elif there[0] < 0:
            there[1].extend([root] if root[0] >= 0 else root[1])
        elif letter(root).is_reply and not letter(there).is_reply:
            there[1].append(root)
        else:
            table[subject] = (-1, [there, root])
            kept = [table[subject] if each is there else each for each in kept]
    return b"".join(b"(%b)" % written(tree) for tree in by_date(kept))  # step 6


def written(tree: Tree) -> bytes:
    node, children = tree
    own = b"%d" % node if node >= 0 else b""
    if len(children) == 1:
        return own + b" " + written(children[0])
    told = b"".join(b"(%b)" % written(child) for child in children)
    return own + b" " + told if own and told else own + told


@settings(max_examples=300)
@given(st.lists(LETTERS, max_size=9))
def test_references_are_threads_as_the_steps_say(drawn: list[tuple[int, list[int], int, bool, int]]) -> None:
    ranks = sorted(range(len(drawn)), key=lambda place: drawn[place][4])
    letters = [Letter(*each[:4], rank=ranks.index(place)) for place, each in enumerate(drawn)]
    answer = ALGORITHMS["REFERENCES"](threadable(letters), range(len(letters)))
    assert answer == model(letters)
