"""Two servers over one account, their sessions, and the truth that `imap_model` compares them with."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from imap_pictures import Picture
from imap_town import MailTown
from imap_truth import Truth

from hosting.imap.registry import Registry
from storage.installation import Installation
from storage.mail.account import Account

_ENABLED = ("", "CONDSTORE", "QRESYNC", "QRESYNC IMAP4REV2")
_NAMES = ("INBOX", "Box", "Other", "Third")


class World:
    """The servers, the sessions and the truth."""

    def __init__(self, town: MailTown, seed: int) -> None:
        self.town = town
        self.rng = random.Random(seed)
        self.truth = Truth()
        self.said: deque[str] = deque(maxlen=120)
        self.pictures: list[Picture] = []
        self.steps = 0
        self.renamed = 0
        self.start()
        with self.account() as account:
            for name in _NAMES:
                if name != "INBOX":
                    account.mailboxes.create(name)
                box = self.truth.take(account, name)
                box.highest = account.mailboxes.by_id(box.mailbox_id).highest_modseq

    @contextmanager
    def account(self) -> Iterator[Account]:
        with self.servers[0].installation.account(*self.town.accounts["alice@example.test"]) as account:
            yield account

    def start(self) -> None:
        self.servers = []
        for _ in range(2):
            installation = Installation(self.town.data, self.town.keys, self.town.clock)
            self.servers.append(
                replace(self.town.services, installation=installation, registry=Registry(self.town.limits))
            )

    def stop(self) -> None:
        for picture in self.pictures:
            picture.client.close()
        for server in self.servers:
            server.installation.close()

    def restart(self) -> None:
        """All connections are lost; clients come back and remember."""
        self.said.append("-- restart")
        self.stop()
        self.start()
        self.pictures = [self.connected(number, old) for number, old in enumerate(self.pictures)]

    def connected(self, number: int, before: Picture | None = None) -> Picture:
        picture = Picture(self.servers[number % 2], f"{number}", _ENABLED[number], self.said.append)
        if before is not None:
            picture.states = [state for state in before.states if not state.box.deleted]
        return picture
