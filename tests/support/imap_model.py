"""Four IMAP sessions at random against a reference: every number, flag, modseq and VANISHED must fit.

    scripts/imap_model [--seed N] [--steps N] [--seeds N]

Two processes serve one account (two installations over the same data; here in one thread, so that a seed always plays
the same game), each two sessions: one with plain IMAP4rev1, one with CONDSTORE, one with QRESYNC, one with QRESYNC and
IMAP4rev2. They append, replace, store (all kinds, UNCHANGEDSINCE), copy, move, expunge, search, idle, close, and come
back with QRESYNC or CHANGEDSINCE from what they knew earlier; mailboxes are renamed, deleted and made anew under them;
sessions break off, and servers are started again. After each command `imap_truth` is changed as the answer says, and
each session's `imap_pictures` is held to it.

Exits with 1 at the first contradiction; the seed and the last lines that were said are printed.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from imap_town import new_mail_town
from imap_visits import Visit
from imap_world import World

from storage.mail import view, views


def play(world: World, steps: int) -> None:
    world.pictures = world.pictures or [world.connected(number) for number in range(4)]
    for _ in range(steps):
        world.steps += 1
        number = world.rng.randrange(4)
        Visit(world, world.pictures[number]).take()
        if world.pictures[number].ended:
            world.pictures[number].client.close()
            world.pictures[number] = world.connected(number, world.pictures[number])
        chance = world.rng.random()
        if chance < 0.002:
            world.restart()
        elif chance < 0.01:
            world.town.clock.advance(61)
    for picture in world.pictures:
        if picture.box is None or not picture.box.deleted:
            Visit(world, picture).look()


@contextmanager
def small_memories() -> Iterator[None]:
    """Snapshots, the log of changes and what waits in memory are worth it for a few messages already."""
    with (
        mock.patch.object(views, "_WORTH_IT", 8),
        mock.patch.object(views, "_MANY", 16),
        mock.patch.object(view, "_LOG_MAX", 30),
        mock.patch.object(view, "_PENDING_MAX", 5),
        mock.patch.object(view, "_STALE", 15),
    ):
        yield


def run(folder: Path, seed: int, steps: int, *, tell: Callable[[str], None] = lambda _: None) -> None:
    """Raises AssertionError with the end of the conversation."""
    with small_memories(), new_mail_town(folder) as town:
        world = World(town, seed)
        try:
            for start in range(0, steps, 1000):
                began = time.monotonic()
                play(world, min(1000, steps - start))
                tell(f"seed {seed}: {world.steps} steps, {time.monotonic() - began:.2f} ms each")
        except Exception as error:
            said = "\n".join(world.said)
            raise AssertionError(f"{said}\n\nseed {seed}, step {world.steps}: {error!r}") from error
        finally:
            world.stop()


def main() -> int:
    logging.basicConfig(level=logging.ERROR)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=1, help="so many games, from --seed on")
    parser.add_argument("--steps", type=int, default=100_000)
    options = parser.parse_args()
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    for seed in range(options.seed, options.seed + options.seeds):
        with tempfile.TemporaryDirectory(dir=memory) as folder:
            try:
                run(Path(folder), seed, options.steps, tell=lambda text: print(text, flush=True))
            except AssertionError as error:
                print(error)
                print(f"again: scripts/imap_model --seed {seed} --steps {options.steps}")
                return 1
    print("every picture agreed with the reference")
    return 0


if __name__ == "__main__":
    sys.exit(main())
