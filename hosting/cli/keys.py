"""cleanmail keys: how the keys stand, generations of the master and who saved them, dated copies, keys that come back.

Whatever is changed or copied is an audit record. Restoring is for a data directory whose keys are lost; keys that were
destroyed since the copy was made are destroyed again.
"""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from hosting import composition, keys_round
from hosting.auth.client import AuthClient
from hosting.cli import invocation
from hosting.cli.invocation import Invocation
from hosting.cli.output import moment
from hosting.roles import privileges
from storage.clock import SystemClock
from storage.directory.key_backups import KeyBackup
from storage.directory.marks import MasterSaved
from storage.ending.steps import Step
from storage.errors import CleanmailError, Conflict, InvalidInput, NotFound
from storage.installation import Installation
from storage.keys import copies
from storage.keys.mirror import Mirror
from storage.keys.source import KeySource, LocalKeys
from storage.register.values import Kept

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="The wrapped keys: their state, a new generation of the master, copies.",
)

_DAYS_MAX = 90


@app.command()
def status(context: typer.Context) -> None:
    """Show the master's generation and place, the mirror, the newest copy, and what somebody has to do."""
    run = invocation.of(context)
    keys, settings, now = run.data / "keys", run.config.keys, int(time.time())
    generation = copies.master_generation(keys)
    with run.administration() as administration:
        state = keys_round.state_of(keys, administration.control.key_backups, settings, now)
        saved = administration.control.marks.master_saved(generation)
    place = composition.place_of_master(run.data, run.config)
    mirror, wrong = _mirror(keys, settings.backup)
    alarms = [*state.alarms, *([mirror] if wrong else [])]
    if keys_round.kept_by_people(settings) and (alarm := keys_round.unsaved(saved, generation, settings, now)):
        alarms.append(alarm)
    if not place.can_store():
        alarms.append(
            "The master cannot be replaced where it lives, so that destroyed keys stay openable to whoever has it "
            "and an old copy: set [keys] master_store_command, or let the server write its file, on a disk."
        )
    kind, reached = place.describe(keys)
    newest = state.newest
    run.output.record(
        {
            "master_generation": generation,
            "master": composition.master_place(run.data, run.config),
            "kind": kind,
            "destroying_reaches": reached if place.can_store() else "clear",
            "saved": _saved(saved) if keys_round.kept_by_people(settings) else "by the key store that it comes from",
            "mirror": mirror,
            "newest_copy": str(newest.folder) if newest is not None else None,
            "expires": moment(newest.expires) if newest is not None else None,
            "alarms": alarms,
        }
    )


@app.command()
def saved(
    context: typer.Context,
    generation: Annotated[
        int | None, typer.Argument(help="The number before the colon in what you saved; the one in use if not given.")
    ] = None,
) -> None:
    """Say that you have saved the master key that is in use, in a place that outlives this machine.

    With a master that is a file each erasure makes a new generation, and copies of before open nothing any more.
    """
    run = invocation.of(context)
    place = composition.master_place(run.data, run.config)
    if not keys_round.kept_by_people(run.config.keys):
        raise Conflict(f"The master is {place}: the key store that it comes from keeps it, and nobody has to save it.")
    with run.administration() as administration:
        in_use = copies.master_generation(run.data / "keys")
        number = in_use if generation is None else generation
        if number != in_use:
            raise Conflict(f"Generation {number} of the master opens nothing; save generation {in_use} of {place}.")
        installation = administration.installation
        record = installation.audit.append("keys.saved", run.operator, details={"generation": str(number)})
        installation.control.marks.save_master(number, in_use)
    run.output.done(
        f"Generation {number} of the master, from {place}, counts as saved; this is audit record {record}. Destroy "
        "copies of generations before.",
        {"generation": number, "master": place, "audit_record": record},
    )


@app.command()
def rotate(context: typer.Context) -> None:
    """Wrap all keys under a new generation of the master and destroy the old one where it lives."""
    run = invocation.of(context)
    with run.administration() as administration:
        installation = administration.installation
        before = copies.master_generation(run.data / "keys")
        number = installation.audit.append("keys.rotate", run.operator, details={"before": str(before)})
        generation = _rotate(installation.keys)
        backups = installation.control.key_backups
        renewed = None
        try:
            keys_round.remove_due(run.data / "keys", backups, None)
            renewed = keys_round.renew(run.data / "keys", backups, run.config.keys, installation.clock)
        except CleanmailError as error:
            run.output.note(error.public)
    if renewed is None:
        run.output.note("Copies of keys from before open with no master any more; make a new one.")
    run.output.done(
        f"All keys are under generation {generation} of the master; this is audit record {number}.",
        {
            "generation": generation,
            "before": before,
            "copy": str(renewed.folder) if renewed is not None else None,
            "audit_record": number,
        },
    )
    if (replace := replace_saved(run)) is not None:
        run.output.note(replace)


@app.command()
def backup(
    context: typer.Context,
    to: Annotated[Path, typer.Argument(help="A folder on another disk; the copy is a new folder in it.")],
    days: Annotated[int, typer.Option(help="After how many days the copy is removed.", min=1, max=_DAYS_MAX)] = 7,
) -> None:
    """Make a dated copy of the wrapped keys, without the master, which is removed when its time is over."""
    run = invocation.of(context)
    place = to.absolute()
    if place.is_relative_to(run.data):
        raise InvalidInput(f"{to} is in the data directory; a copy of the keys belongs on another disk.")
    most = run.config.retention.periods.of(Kept.KEY_BACKUPS).floor_days
    if most is not None and days > most:
        raise InvalidInput(f"Copies of keys are kept for at most {most} days ([retention] key_backups).")
    with run.administration() as administration:
        installation = administration.installation
        number = installation.audit.append("keys.backup", run.operator, details={"days": str(days)})
        made = keys_round.make(run.data / "keys", installation.control.key_backups, place, days, installation.clock)
    run.output.done(
        f"The keys are copied to {made.folder}, until {moment(made.expires)}; generation {made.master} of the master "
        f"opens them, which is not in the copy. This is audit record {number}.",
        {**_values(made), "audit_record": number},
    )


@app.command()
def backups(context: typer.Context) -> None:
    """List copies of the keys, also those that were removed."""
    run = invocation.of(context)
    with run.administration() as administration:
        found = administration.control.key_backups.all()
    columns = {
        "id": "id",
        "made": "made",
        "expires": "expires",
        "master": "master",
        "removed": "removed",
        "folder": "folder",
    }
    run.output.rows(columns, [_values(each) for each in found], "There is no copy of the keys.")


@app.command()
def restore(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="The folder of a copy, with its manifest.json.")],
) -> None:
    """Put a copy of the keys into a data directory whose keys are lost, after the master has opened all of it."""
    run = invocation.of(context)
    privileges.become_owner(run.data)
    place = composition.place_of_master(run.data, run.config)
    folder = source.absolute()

    def begin() -> None:
        run.output.note("The copy is as it was made; every key of it is opened before anything is changed.")

    manifest = copies.restore(folder, run.data / "keys", place, SystemClock(), tell=begin)
    number = None
    if composition.is_initialised(run.data):
        with run.administration() as administration:
            details = {"made": str(moment(manifest.made)), "master": str(manifest.master)}
            number = administration.installation.audit.append("keys.restore", run.operator, details=details)
            _destroy_again(administration.installation)
    run.output.done(
        f"{len(manifest.files)} files of keys are back as they were at {moment(manifest.made)}.",
        {
            "files": len(manifest.files),
            "made": moment(manifest.made),
            "master": manifest.master,
            "audit_record": number,
        },
    )


def _destroy_again(installation: Installation) -> None:
    """What was destroyed since the copy was made, and came back with it: where the master could not be replaced."""
    for ending in installation.control.endings.all():
        if not ending.has(Step.KEYS_DESTROYED):
            continue
        with suppress(NotFound):  # made after the copy
            if ending.account_id is None:
                installation.keys.destroy_tenant_key(ending.tenant_id)
            else:
                installation.keys.destroy_account_key(ending.tenant_id, ending.account_id)


def replace_saved(run: Invocation) -> str | None:
    """What people have to do after a generation of the master, if they keep copies of it."""
    place = composition.place_of_master(run.data, run.config)
    if not keys_round.kept_by_people(run.config.keys) or not place.can_store():
        return None
    file = composition.master_place(run.data, run.config)
    return (
        f"The master key in {file} gets a new generation with each erasure and rotation: save it in the place of your "
        "saved copy, which opens nothing any more, then say so: cleanmail keys saved."
    )


def _saved(saved: MasterSaved) -> str:
    had = "never" if saved.generation is None else f"generation {saved.generation}, {moment(saved.at)}"
    return had if saved.unsaved_since is None else f"{had}; not the one in use, since {moment(saved.unsaved_since)}"


def _rotate(keys: KeySource) -> int:
    assert isinstance(keys, (AuthClient, LocalKeys))
    return keys.rotate_keys()


def _mirror(keys: Path, place: str) -> tuple[str, bool]:
    """What to say of it, and whether that is an alarm; that its folder is missing is one of the round's."""
    if not place:
        return "none ([keys] backup)", False
    if not Path(place).is_dir():
        return f"missing: {place}", False
    try:
        differing = len(Mirror(Path(place)).differences(keys))
    except CleanmailError as error:
        return error.public, True
    if differing:
        return (
            f"{differing} files in {place} differ from keys/; cleanmail keys rotate or the next round repairs it.",
            True,
        )
    return f"the same in {place}", False


def _values(backup: KeyBackup) -> dict[str, Any]:
    return {
        "id": backup.backup_id,
        "made": moment(backup.made),
        "expires": moment(backup.expires),
        "master": backup.master,
        "removed": moment(backup.removed),
        "folder": str(backup.folder),
    }
