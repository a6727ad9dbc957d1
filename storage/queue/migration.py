"""The way of queue.db from version 1, which delivered nothing elsewhere, to version 2: lanes, counters, destinations.

The old tables are set aside and their rows moved in slices, oldest entries first; what was settled already of an entry
stays so.
"""

from __future__ import annotations

from storage.database.migrations import Step, new_tables
from storage.database.prepared import Connection
from storage.schema import queue as schema

_SLICE = 500  # entries
_MAKE = new_tables(2, *(table for table in schema.metadata.sorted_tables if table is not schema.info))

_OLD_INDEXES = ("entry_by_tenant", "recipient_due", "recipient_by_destination")
_MOVE_ENTRIES = """
    INSERT INTO entry (queue_id, tenant_id, account_id, origin, file, size, reverse_path, parameters, arrived, expires,
                       held, given_up, waiting)
    SELECT queue_id, tenant_id, account_id, origin, file, size, reverse_path, parameters, arrived, expires, 0, 0,
           (SELECT count(*) FROM old_recipient AS r WHERE r.queue_id = e.queue_id AND r.state = 'queued')
    FROM old_entry AS e WHERE queue_id IN (SELECT queue_id FROM moving)
"""
_MOVE_RECIPIENTS = """
    INSERT INTO recipient (queue_id, position, address, parameters, account_id, destination, lane, state, attempts,
                           next_attempt, warned, news, reply)
    SELECT r.queue_id, r.position, r.address, r.parameters, r.account_id, r.destination,
           coalesce(e.account_id, -e.tenant_id), r.state, r.attempts, r.next_attempt, 0, 1, r.reply
    FROM old_recipient AS r JOIN old_entry AS e USING (queue_id) WHERE r.queue_id IN (SELECT queue_id FROM moving)
"""


def _move(connection: Connection) -> bool:
    driver = connection.driver
    if not _has(connection, "counter"):
        for index in _OLD_INDEXES:
            driver.execute(f"DROP INDEX {index}")
        driver.execute("ALTER TABLE entry RENAME TO old_entry")
        driver.execute("ALTER TABLE recipient RENAME TO old_recipient")
        _MAKE.work(connection)
        driver.execute("INSERT INTO counter (name, value) VALUES ('news', 1)")
        return True
    driver.execute(
        f"CREATE TEMP TABLE moving AS SELECT queue_id FROM old_entry ORDER BY queue_id LIMIT {_SLICE}"  # noqa: S608
    )
    moved = driver.execute(_MOVE_ENTRIES).rowcount
    driver.execute(_MOVE_RECIPIENTS)
    for table in ("old_recipient", "old_entry"):
        driver.execute(f"DELETE FROM {table} WHERE queue_id IN (SELECT queue_id FROM moving)")  # noqa: S608
    driver.execute("DROP TABLE moving")
    if moved:
        return True
    driver.execute("DROP TABLE old_recipient")
    driver.execute("DROP TABLE old_entry")
    return False


def _has(connection: Connection, table: str) -> bool:
    found = connection.driver.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,))
    return found.fetchone() is not None


STEPS = (Step(2, _move),)
