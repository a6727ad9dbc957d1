"""Where an unexpected error arose, in a form that a log may keep.

Code positions only, never the error's message: it may hold content.
"""

from __future__ import annotations

import traceback
from pathlib import PurePath


def where(error: BaseException) -> str:
    """The error's type and the innermost frames, e.g. "KeyError at fetch.py:88 < session.py:210"."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = " < ".join(f"{PurePath(frame.filename).name}:{frame.lineno}" for frame in reversed(frames))
    return f"{type(error).__name__} at {places}"
