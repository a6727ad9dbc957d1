"""Calendars elsewhere: fetched in the background, within limits, and only from the public internet."""
