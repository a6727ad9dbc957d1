"""How many statements something costs."""

from __future__ import annotations

from typing import Any

import pytest

from storage.database.prepared import Prepared


class Statements:
    """Counts the statements that run."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.count = 0
        bound = Prepared._bound

        def counting(prepared: Prepared, parameters: Any) -> tuple[Any, ...]:
            self.count += 1
            return bound(prepared, parameters)

        patch.setattr(Prepared, "_bound", counting)

    def of(self, do: Any) -> int:
        self.count = 0
        do()
        return self.count
