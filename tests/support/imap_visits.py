"""How a session of `imap_model` comes and goes, what it makes of mailboxes, and which command is its next."""

from __future__ import annotations

from imap_pictures import Answer, State, as_set
from imap_turns import Turn


class Visit(Turn):
    """One step of one session."""

    def take(self) -> None:
        picture, rng = self.picture, self.rng
        if picture.idling and picture.box is not None and picture.box.deleted:
            self.break_off()  # the connection ends an IDLE in a mailbox that is no more
            return
        if picture.idling:
            self.look()  # what the change feed does
            if not picture.ended and rng.random() < 0.4:
                picture.end_idle()
            return
        if picture.box is not None and picture.box.deleted:
            self.notice()
            return
        if picture.box is None:
            rng.choice([self.select, self.select, self.select, self.append, self.status])()
            return
        anywhere = [self.append, self.append, self.append, self.select, self.status, self.look, self.look, self.idle]
        if rng.random() < 0.03:
            anywhere = [self.rename, self.delete, self.break_off, self.rename_inbox]
        inside = [
            self.fetch, self.fetch, self.fetch, self.store, self.store, self.store, self.store, self.search,
            self.search, self.copy, self.move, self.expunge, self.uid_expunge, self.learn, self.changed_since,
            self.store_saved, self.replace,
        ]  # fmt: skip
        rng.choice(anywhere * 2 + inside if picture.uids else [*anywhere, self.close])()
        if rng.random() < 0.02 and picture.box is not None and not picture.idling and not picture.box.deleted:
            rng.choice([self.close, self.unselect])()

    # --- coming back ---

    def select(self) -> None:
        picture, rng = self.picture, self.rng
        state = None
        if picture.qresync and picture.states and rng.random() < 0.7:
            state = rng.choice(picture.states)
            state = None if state.box.deleted else state
        box = state.box if state else rng.choice(list(self.truth.boxes.values()))
        verb = rng.choice(["SELECT"] * 5 + ["EXAMINE"])
        known: list[int] | None = None
        words = ""
        if state is not None:
            words, known = self.resync_words(state)
        elif rng.random() < 0.1:
            words = " (CONDSTORE)"
            picture.condstore = True
        states = picture.states
        before = picture.do
        picture.forget()
        picture.box, picture.read_only, picture.states = box, verb == "EXAMINE", states
        answer = before(f"{verb} {box.name}{words}")
        assert answer.done.startswith("OK"), answer.done
        for code, value in (("UIDVALIDITY", box.uidvalidity), ("UIDNEXT", box.uidnext), ("HIGHESTMODSEQ", box.highest)):
            assert answer.code(code) == str(value), (code, answer.lines)
        if not picture.rev2:
            unseen = [number for number, each in enumerate(box.messages.values(), 1) if "\\Seen" not in each.flags]
            assert answer.code("UNSEEN") == (str(unseen[0]) if unseen else None), answer.lines
        if state is not None:
            self.check_resync(state, known, answer)
            for uid, flags in state.flags.items():
                if uid in box.messages and uid not in picture.known and (known is None or uid in known):
                    picture.note(uid, flags)
        picture.keep(answer.modseq)
        picture.check_all()

    def resync_words(self, state: State) -> tuple[str, list[int] | None]:
        rng = self.rng
        words = f" (QRESYNC ({state.box.uidvalidity} {state.modseq}"
        if not state.uids or rng.random() < 0.4:
            return words + "))", None
        known = (
            list(state.uids) if rng.random() < 0.7 else sorted(rng.sample(state.uids, rng.randint(1, len(state.uids))))
        )
        words += f" {as_set(known)}"
        if rng.random() < 0.5:
            sample = sorted(rng.sample(range(len(state.uids)), rng.randint(1, len(state.uids))))
            words += f" ({as_set(at + 1 for at in sample)} {as_set(state.uids[at] for at in sample)})"
        return words + "))", known

    def check_resync(self, state: State, known: list[int] | None, answer: Answer) -> None:
        """RFC 7162 §3.2.5: what went and what changed since, and nothing is missing."""
        messages = state.box.messages
        asked = set(state.uids if known is None else known)
        assert asked - answer.earlier == asked & messages.keys(), "VANISHED (EARLIER) is not what went"
        if known is None:
            assert messages.keys() - asked <= answer.fetched.keys(), "a new message was not told"
        for uid in asked & messages.keys() & state.flags.keys():
            told = uid in answer.fetched
            assert told or state.flags[uid] == messages[uid].flags, f"that UID {uid} changed was not told"
            assert not told or messages[uid].modseq > state.modseq, f"UID {uid} did not change"

    def changed_since(self) -> None:
        """UID FETCH … (CHANGEDSINCE … [VANISHED]) from an earlier state of the mailbox that is selected."""
        picture = self.picture
        states = [state for state in picture.states if state.box is picture.box]
        if not states or not picture.qresync:
            return
        state = self.rng.choice(states)
        self.look()
        answer = self.do(f"UID FETCH 1:* (FLAGS) (CHANGEDSINCE {state.modseq} VANISHED)")
        self.check_resync(state, None, answer)

    # --- mailboxes ---

    def rename(self) -> None:
        box = self.rng.choice([each for each in self.truth.boxes.values() if each.name != "INBOX"])
        self.world.renamed += 1
        name = f"Renamed{self.world.renamed}"

        def effect(answer: Answer) -> None:
            assert answer.done.startswith("OK"), answer.done
            self.truth.rename(box.name, name)

        self.do(f"RENAME {box.name} {name}", effect=effect)

    def rename_inbox(self) -> None:
        """RFC 9051 §6.3.6: all messages go to a new mailbox, and INBOX stays."""
        if len(self.truth.boxes) > 6:
            return
        self.world.renamed += 1
        inbox, name = self.truth.boxes["INBOX"], f"Renamed{self.world.renamed}"

        def effect(answer: Answer) -> None:
            assert answer.done.startswith("OK"), answer.done
            with self.world.account() as account:
                box = self.truth.take(account, name)
                if not inbox.messages:
                    box.highest = account.mailboxes.by_id(box.mailbox_id).highest_modseq
            for uid, old in enumerate(list(inbox.messages), 1):
                message = inbox.remove(old)
                box.add(uid, message.token, message.flags)

        self.do(f"RENAME INBOX {name}", effect=effect)

    def delete(self) -> None:
        """And makes one of that name anew, mostly."""
        box = self.rng.choice([each for each in self.truth.boxes.values() if each.name != "INBOX"])

        def effect(answer: Answer) -> None:
            assert answer.done.startswith("OK"), answer.done
            self.truth.delete(box.name)
            if box is self.picture.box:
                self.picture.forget()

        self.do(f"DELETE {box.name}", effect=effect)
        if self.rng.random() < 0.7 or len(self.truth.boxes) < 4:

            def created(answer: Answer) -> None:
                assert answer.done.startswith("OK"), answer.done
                with self.world.account() as account:
                    new = self.truth.take(account, box.name)
                    new.highest = account.mailboxes.by_id(new.mailbox_id).highest_modseq

            self.do(f"CREATE {box.name}", effect=created)

    def break_off(self) -> None:
        self.world.said.append(f"{self.picture.name} -- breaks off")
        self.picture.ended = True
