"""Removes what was kept for its time: one job for each class of data, computed from the register.

`remove_due` carries all of them out (engine.py); removers.py says how each class is removed and how its age is
measured; folders.py is what users choose for their folders. Receipts stand in control.db (storage.directory.receipts).
"""

from storage.retention.engine import Removed, Standing, measure, remove_due

__all__ = ["Removed", "Standing", "measure", "remove_due"]
