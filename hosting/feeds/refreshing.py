"""One feed brought up to date: fetched, split into objects, checked, and put in place of what changed.

Whatever fails stands with the feed in a sentence, for its owner; what is in the calendar stays. Logs have ids only.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from hosting.faults import describe
from hosting.feeds.fetch import Fetched, Fetcher, FetchFailed
from storage.collections.feeds import Feed, Replaced
from storage.errors import CleanmailError
from storage.icalendar.content import calendar_content
from storage.icalendar.splitting import split_calendar
from storage.mail.account import Account

log = logging.getLogger("feeds")

_NO_CALENDAR = "What is there is no calendar."


def refresh_due(account: Account, make_fetcher: Callable[[], Fetcher], stopping: Callable[[], bool]) -> int:
    """All feeds of an account that are due; how many. Blocking: each is fetched on an event loop of its own."""
    done = 0
    for feed in account.feeds.claim_due():
        if stopping():
            break
        refresh(account, feed, make_fetcher)
        done += 1
    return done


def refresh(account: Account, feed: Feed, make_fetcher: Callable[[], Fetcher]) -> None:
    """Raises nothing that is about the feed; what storage cannot do is raised."""

    async def fetching() -> Fetched:
        return await make_fetcher().fetch(feed.url, feed.validators)

    try:
        fetched = asyncio.run(fetching())
        if fetched.body is None:
            account.feeds.succeeded(feed, feed.validators, feed.problem)
            return
        replaced = _take(account, feed, fetched.body)
        account.feeds.succeeded(feed, fetched.validators, _words(replaced))
    except FetchFailed as failed:
        account.feeds.failed(feed, str(failed))
    except CleanmailError as error:
        account.feeds.failed(feed, error.public)
        log.error("account %d: feed %d: %s", account.account_id, feed.collection_id, describe(error))


def _take(account: Account, feed: Feed, body: bytes) -> Replaced:
    if b"BEGIN:VCALENDAR" not in body[:100_000].upper():
        raise FetchFailed(_NO_CALENDAR)
    return account.feeds.replace(feed.collection_id, split_calendar(body), calendar_content)


def _words(replaced: Replaced) -> str:
    if not replaced.left_out:
        return ""
    many = replaced.left_out != 1
    return (
        f"{replaced.left_out} {'entries were' if many else 'entry was'} left out: broken, or of a kind not shown here."
    )
