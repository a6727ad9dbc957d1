"""What the web role counts, for the metrics. Everything here belongs to the event loop."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    answers: dict[str, int] = field(default_factory=dict)  # by kind of status, such as "2xx"
    turned_away: int = 0  # connections beyond a limit
    too_slow: int = 0  # connections whose client did not send, or take, what it should have in time
    malformed: int = 0  # requests that are no HTTP, or whose head is beyond the limits
    remembered: int = 0  # requests whose sign-in was known already
    failures: int = 0  # answered with 500
    links: int = 0  # public links that were answered
    wrong_links: int = 0  # requests under /public/ that were none

    def answered(self, status: int) -> None:
        kind = f"{status // 100}xx"
        self.answers[kind] = self.answers.get(kind, 0) + 1

    def totals(self) -> dict[str, int]:
        """By kind of event; they only grow."""
        growing = ("turned_away", "too_slow", "malformed", "remembered", "failures", "links", "wrong_links")
        return {
            **{f"answer_{kind}": count for kind, count in self.answers.items()},
            **{kind: getattr(self, kind) for kind in growing},
        }
