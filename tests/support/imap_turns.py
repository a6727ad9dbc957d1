"""What a session of `imap_model` does with messages: a command, what it does to the truth, what its answer owes."""

from __future__ import annotations

from collections.abc import Callable

from imap_pictures import Answer, Picture, members
from imap_town import mail
from imap_truth import Box, Flags
from imap_world import World

_FLAGS = ("\\Seen", "\\Deleted", "\\Flagged", "\\Answered", "$Forwarded", "$Junk", "work")
_MOST = 24  # messages of a mailbox, about


class Turn:
    """One command of one session."""

    def __init__(self, world: World, picture: Picture) -> None:
        self.world, self.picture, self.rng, self.truth = world, picture, world.rng, world.truth

    @property
    def box(self) -> Box:
        assert self.picture.box is not None
        return self.picture.box

    def do(self, command: str, *literals: bytes, effect: Callable[[Answer], None] | None = None) -> Answer:
        """With the truth sealed as soon as the effect was taken in."""

        def sealed(answer: Answer) -> None:
            if effect is not None:
                effect(answer)
                with self.world.account() as account:
                    self.truth.seal(account)

        return self.picture.do(command, *literals, effect=sealed)

    # --- what to name ---

    def some(self) -> tuple[bool, str, list[int]]:
        """Whether by UID, a sequence set, and the UIDs of the picture that it means."""
        uids, rng = self.picture.uids, self.rng
        first, last = sorted(rng.randrange(len(uids)) for _ in range(2))
        meant = uids[first : last + 1] if rng.random() < 0.4 else [uids[first]]
        if rng.random() < 0.15:
            meant = sorted(rng.sample(uids, rng.randint(1, len(uids))))
        by_uid = rng.random() < 0.5
        named = [str(uid if by_uid else uids.index(uid) + 1) for uid in meant]
        if meant == uids[first : last + 1] and len(meant) > 1:
            named = [f"{named[-1]}:{named[0]}" if rng.random() < 0.1 else f"{named[0]}:{named[-1]}"]
        if meant and meant[-1] == uids[-1] and len(named) == 1 and rng.random() < 0.5:
            named = [f"{named[0].partition(':')[0]}:*"] if int(named[0].partition(":")[0]) <= int(meant[0]) else named
            named = named if by_uid or len(meant) > 1 else ["*"]
        if by_uid and rng.random() < 0.1:
            named.append(str(self.box.uidnext + rng.randrange(1, 5)))
        return by_uid, ",".join(named), self.meant(by_uid, ",".join(named))

    def meant(self, by_uid: bool, named: str) -> list[int]:
        """RFC 9051 §9, seq-range: "*" is the last one, and the ends may stand in any order."""
        uids = self.picture.uids
        last = uids[-1] if by_uid else len(uids)
        found: set[int] = set()
        for part in named.replace("*", str(last)).split(","):
            ends = sorted(map(int, part.split(":")))
            found.update(range(ends[0], ends[-1] + 1))
        return [uid for number, uid in enumerate(uids, 1) if (uid if by_uid else number) in found]

    def some_flags(self, most: int = 3) -> list[str]:
        return self.rng.sample(_FLAGS, self.rng.randint(0, most))

    def missing(self, meant: list[int]) -> bool:
        return any(uid not in self.box.messages for uid in meant)

    def here(self, meant: list[int]) -> list[int]:
        return [uid for uid in meant if uid in self.box.messages]

    def prefix(self, by_uid: bool) -> str:
        return "UID " if by_uid else ""

    # --- commands ---

    def append(self) -> None:
        box = self.rng.choice(list(self.truth.boxes.values()))
        if self.picture.box is not None and not self.picture.box.deleted and self.rng.random() < 0.5:
            box = self.picture.box
        if len(box.messages) >= _MOST:
            return
        several = b"MULTIAPPEND" in self.picture.client.session.capabilities()
        new = [
            (self.some_flags(2), self.truth.new_token())
            for _ in range(self.rng.randint(1, 3) if several and self.rng.random() < 0.3 else 1)
        ]

        def effect(answer: Answer) -> None:
            code = answer.code("APPENDUID")
            assert code is not None, answer.done
            validity, uids = code.split()
            assert int(validity) == box.uidvalidity
            for uid, (flags, token) in zip(members(uids), new, strict=True):
                box.add(uid, token, flags)

        named = " ".join(f"({' '.join(flags)}) {{}}" for flags, _ in new)
        self.do(f"APPEND {box.name} {named}", *(mail(token) for _, token in new), effect=effect)
        if box is self.picture.box:
            self.picture.check_all()

    def replace(self) -> None:
        """RFC 8508: one comes and one goes, or neither."""
        picture, box = self.picture, self.box
        uid, by_uid = self.rng.choice(picture.uids), self.rng.random() < 0.5
        target = self.rng.choice([box, *self.truth.boxes.values()])
        flags, token = self.some_flags(2), self.truth.new_token()

        def effect(answer: Answer) -> None:
            code = answer.code("APPENDUID")
            if code is None:
                assert picture.read_only or uid not in box.messages, answer.done
                return
            assert uid in box.messages, answer.done
            target.add(int(code.split()[1]), token, flags)
            box.remove(uid)

        number = uid if by_uid else picture.uids.index(uid) + 1
        named = f"{self.prefix(by_uid)}REPLACE {number} {target.name} ({' '.join(flags)})"
        answer = self.do(named + " {}", mail(token), effect=effect)
        if answer.done.startswith("OK"):
            picture.check_all() if target is box else picture.check_old()

    def look(self) -> None:
        picture = self.picture
        if picture.idling:
            picture.client.look()
            picture.heard_in_idle()
            return
        self.do(self.rng.choice(["NOOP", "NOOP", "CHECK"] if picture.box else ["NOOP"]))
        picture.check_all()

    def notice(self) -> None:
        """The mailbox was deleted elsewhere."""
        if self.rng.random() < 0.3 and self.picture.uids:
            self.do(f"FETCH {self.rng.randint(1, len(self.picture.uids))} (FLAGS)")
        if not self.picture.ended:
            answer = self.do("NOOP")
            assert self.picture.ended and answer.done.startswith("NO [NONEXISTENT]"), answer.done

    def idle(self) -> None:
        self.picture.begin_idle()

    def status(self) -> None:
        box = self.rng.choice(list(self.truth.boxes.values()))
        if box is self.picture.box:
            return
        answer = self.do(f"STATUS {box.name} (MESSAGES UIDNEXT UIDVALIDITY UNSEEN DELETED HIGHESTMODSEQ)")
        self.picture.condstore = True  # RFC 7162 §3.1: asking for HIGHESTMODSEQ enables
        flags = [message.flags for message in box.messages.values()]
        expected = (
            f'* STATUS "{box.name}" (MESSAGES {len(flags)} UIDNEXT {box.uidnext} UIDVALIDITY {box.uidvalidity} '
            f"UNSEEN {sum(chr(92) + 'Seen' not in each for each in flags)} "
            f"DELETED {sum(chr(92) + 'Deleted' in each for each in flags)} HIGHESTMODSEQ {box.highest})"
        )
        assert expected in answer.lines, (answer.lines, expected)

    def fetch(self) -> None:
        by_uid, named, meant = self.some()
        read = self.rng.random() < 0.15
        if read:
            self.look()  # a server that has not heard yet that \\Seen went away need not set it again
            by_uid, named, meant = self.some() if self.picture.uids else (True, "1", [])
        items = self.rng.choice(["BODY[TEXT]", "RFC822", "(FLAGS BODY[HEADER])"] if read else [
            "(FLAGS)", "(UID FLAGS)", "(UID FLAGS MODSEQ)", "(UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])", "FAST",
        ])  # fmt: skip

        def effect(_: Answer) -> None:
            if read and not self.picture.read_only:
                for uid in self.here(meant):
                    self.box.set_flags(uid, self.box.messages[uid].flags | {"\\Seen"})

        answer = self.do(f"{self.prefix(by_uid)}FETCH {named} {items}", effect=effect)
        self.picture.condstore |= "MODSEQ" in items
        assert answer.fetched.keys() >= set(self.here(meant)), "FETCH left out messages"
        assert answer.done.startswith("OK") or ("[EXPUNGEISSUED]" in answer.done and self.missing(meant)), answer.done

    def learn(self) -> None:
        answer = self.do("UID FETCH 1:* (FLAGS)")
        assert answer.fetched.keys() >= set(self.here(self.picture.uids))

    def store(self) -> None:
        self.store_to(*self.some())

    def store_saved(self) -> None:
        """RFC 5182: "$" means what was found, as long as it is there."""
        flag = self.rng.choice(_FLAGS[:3])
        word = flag.removeprefix("\\").upper()
        answer = self.do(f"UID SEARCH RETURN (SAVE ALL) {self.rng.choice(['', 'NOT '])}{word}")
        self.picture.saved = list(answer.found or ())
        if self.rng.random() < 0.5 and self.picture.box is not None:
            self.do("NOOP")
        by_uid = self.rng.random() < 0.5
        if self.picture.saved:
            self.store_to(by_uid, "$", list(self.picture.saved))

    def store_to(self, by_uid: bool, named: str, meant: list[int]) -> None:
        picture, box, rng = self.picture, self.box, self.rng
        sign, silent, flags = rng.choice("+-" * 3 + " ").strip(), rng.random() < 0.4, frozenset(self.some_flags())
        if not flags and sign:
            flags = frozenset({"\\Seen"})
        since = None
        if rng.random() < 0.3:
            known = [message.modseq for message in box.messages.values()]
            since = rng.choice([*known, box.highest, 0])
        modified = {uid for uid in self.here(meant) if since is not None and box.messages[uid].modseq > since}

        def changed(old: Flags) -> Flags:
            return old | flags if sign == "+" else old - flags if sign == "-" else flags

        def effect(answer: Answer) -> None:
            if picture.read_only:
                assert "[READ-ONLY]" in answer.done
                return
            for uid in self.here(meant):
                if uid not in modified:
                    box.set_flags(uid, changed(box.messages[uid].flags))
                    if silent and (known := picture.known.get(uid)):
                        known.flags = changed(known.flags)  # what the client concludes without being told

        if since is not None and not picture.read_only:
            picture.condstore = True
        unless = f"(UNCHANGEDSINCE {since}) " if since is not None else ""
        item = f"{sign}FLAGS{'.SILENT' if silent else ''}"
        answer = self.do(
            f"{self.prefix(by_uid)}STORE {named} {unless}{item} ({' '.join(sorted(flags))})", effect=effect
        )
        if picture.read_only:
            return
        code = answer.code("MODIFIED")
        numbers = {uid if by_uid else number for number, uid in enumerate(self.before, 1) if uid in modified}
        assert set(members(code) if code else []) == numbers, (answer.done, numbers)
        assert answer.done.startswith("OK") or ("[EXPUNGEISSUED]" in answer.done and self.missing(meant)), answer.done

    @property
    def before(self) -> list[int]:
        return self.picture.uids

    def search(self) -> None:
        picture = self.picture
        exact = self.rng.random() < 0.5
        if exact:
            self.look()
        flag = self.rng.choice(_FLAGS)
        word = flag.removeprefix("\\").upper() if flag.startswith("\\") else f"KEYWORD {flag}"
        negated = self.rng.random() < 0.4
        by_uid = self.rng.random() < 0.5
        answer = self.do(f"{self.prefix(by_uid)}SEARCH {'NOT ' if negated else ''}{word}")
        assert answer.found is not None
        found = set(answer.found) if by_uid else {picture.uids[number - 1] for number in answer.found}
        assert found <= set(picture.uids) or by_uid
        if exact:
            matching = {uid for uid, each in self.box.messages.items() if (flag in each.flags) != negated}
            assert found == matching, (sorted(found), sorted(matching))

    def copy(self) -> None:
        self.transfer("COPY")

    def move(self) -> None:
        self.transfer("MOVE")

    def transfer(self, verb: str) -> None:
        picture, box = self.picture, self.box
        by_uid, named, meant = self.some()
        target = self.rng.choice(list(self.truth.boxes.values()))
        if len(target.messages) + len(meant) > 2 * _MOST:
            return
        here = self.here(meant)

        def effect(answer: Answer) -> None:
            code = answer.code("COPYUID")
            if code is None:
                assert not here or (verb == "MOVE" and picture.read_only), answer.done
                return
            validity, sources, copies = code.split()
            assert int(validity) == target.uidvalidity
            assert members(sources) == here, "COPYUID names other messages"
            for source, uid in zip(here, members(copies), strict=True):
                message = box.messages[source]
                if verb == "MOVE":
                    box.remove(source)
                target.add(uid, message.token, message.flags)

        self.do(f"{self.prefix(by_uid)}{verb} {named} {target.name}", effect=effect)
        if not picture.ended and here and not (verb == "MOVE" and picture.read_only):
            picture.check_all() if target is box else picture.check_old()

    def deleted(self, among: list[int]) -> list[int]:
        return [uid for uid in self.here(among) if "\\Deleted" in self.box.messages[uid].flags]

    def expunge(self) -> None:
        self.expunge_among("EXPUNGE", self.picture.uids)

    def uid_expunge(self) -> None:
        by_uid, named, meant = self.some()
        if by_uid:
            self.expunge_among(f"UID EXPUNGE {named}", meant)

    def expunge_among(self, command: str, among: list[int]) -> None:
        going = self.deleted(among)

        def effect(answer: Answer) -> None:
            if not self.picture.read_only:
                assert answer.done.startswith("OK"), answer.done
                for uid in going:
                    self.box.remove(uid)

        self.do(command, effect=effect)
        if not self.picture.read_only:
            self.picture.check_old()

    def close(self) -> None:
        going = [] if self.picture.read_only else self.deleted(self.picture.uids)
        box = self.box

        def effect(_: Answer) -> None:
            for uid in going:
                box.remove(uid)

        self.do("CLOSE", effect=effect)

    def unselect(self) -> None:
        self.do("UNSELECT")
        self.picture.forget()
