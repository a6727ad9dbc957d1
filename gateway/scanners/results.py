"""What scanners say, as values. A scanner that is silent, slow or broken says "unknown", never "clean"."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MalwareResult:
    """`malware`: its name, "" if nothing was found. `unknown`: why nothing is known; then `malware` says nothing."""

    malware: str = ""
    unknown: str = ""

    @property
    def clean(self) -> bool:
        return not self.malware and not self.unknown

    @property
    def heuristic(self) -> bool:
        """Of clamd: a suspicion, or a thing that somebody may want, rather than a known piece of malware."""
        return self.malware.startswith(("Heuristics.", "PUA."))


@dataclass(frozen=True, slots=True)
class RspamdResult:
    """`unknown`: why nothing is known; then the rest says nothing."""

    action: str = ""  # Rspamd's own word: "no action", "add header", "reject", ...
    score: float = 0.0
    required_score: float = 0.0
    symbols: tuple[str, ...] = ()  # names of the rules that fitted, sorted
    unknown: str = ""
