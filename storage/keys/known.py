"""The generations of the master that this process knows: read where it lives, again when one is missing.

Another process may replace the master at any time; what is not there any more is forgotten here too, as soon as
something is read that is under a newer generation. Raises: Unavailable (the generation is not there), Corrupt.
"""

from __future__ import annotations

from storage.errors import Unavailable
from storage.keys.places import MasterPlace
from storage.keys.wrapping import generation_of


class GenerationMissingError(Unavailable):
    """It was destroyed, or is kept back; or what names it was read just before it was replaced."""


class KnownMaster:
    def __init__(self, place: MasterPlace) -> None:
        self.place = place
        self._master = place.read()

    @property
    def generation(self) -> int:
        return self._master.generation

    @property
    def under(self) -> str:
        """The name of the generation that wraps."""
        return f"master:{self._master.generation}"

    def secret(self, under: str) -> bytes:
        """What a name like "master:2" stands for."""
        number = generation_of(under)
        if number not in self._master.secrets:
            self.look_again()
        try:
            return self._master.secrets[number]
        except KeyError:
            raise GenerationMissingError(f"Generation {number} of the master key is needed and not there.") from None

    def look_again(self) -> None:
        self._master = self.place.read()

    def add_generation(self) -> None:
        """A new one, durable beside those that are there, which wraps from now on."""
        following = self._master.succeeded()
        self.place.store(following)
        self._master = following

    def keep_newest(self) -> None:
        """The others are destroyed where they live, and forgotten."""
        newest = self._master.newest_only()
        self.place.store(newest)
        self._master = newest
