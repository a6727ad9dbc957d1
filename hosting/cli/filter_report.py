"""cleanmail filter report: what the filter did, how much of it people had to look at, and whether the promise is kept.

The alarm is a gauge: it changes nothing, and the exit status is 0 either way.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from gateway.classifier.model import FILE, TRAINED_FROM, Maturity, Models, SharedModel, maturity_of
from hosting.cli import invocation
from hosting.review.shares import DAYS, Shares
from storage.clock import SystemClock
from storage.filter.counts import KEPT_DAYS, VERDICTS, Counted

_NAMES = {
    Counted.REPORTED: "reported as wrong",
    Counted.VIEWED: "reviewed by a person",
    Counted.WRONG: "found wrongly filtered",
}


def report(
    context: typer.Context,
    days: Annotated[int, typer.Option(help="Of the last so many days (UTC), today included.", min=1, max=KEPT_DAYS)] = (
        DAYS
    ),
    tenant: Annotated[str | None, typer.Option(help="Only of this tenant.")] = None,
) -> None:
    """Show how mail was judged, and the shares of reviewed and of wrongly filtered mail beside the promise."""
    run = invocation.of(context)
    with run.administration() as administration:
        owner = invocation.find_tenant(administration, tenant) if tenant else None
        sums = administration.control.judged.sums(days, owner.tenant_id if owner else None)
        model = Models(run.data / FILE, SystemClock()).current()
    shares = Shares(sums, run.config.filter.alarm_share)
    if run.output.as_json:
        run.output.record(_values(shares, days, owner.slug if owner else None, model))
        return
    rows = [_row(what.value, shares, what) for what in VERDICTS]
    rows.append({"what": "all", "messages": shares.judged, "share": _percent(100.0 if shares.judged else 0.0)})
    rows += [_row(name, shares, what) for what, name in _NAMES.items()]
    run.output.rows({"what": "what", "messages": "messages", "share": "share"}, rows, "")
    run.output.done(_sentence(shares), {})
    run.output.done(_model(model), {})


def _row(name: str, shares: Shares, what: Counted) -> dict[str, Any]:
    put_off = what is Counted.DEFER  # comes again and is counted then: no part of the traffic
    return {
        "what": name,
        "messages": shares.sums[what],
        "share": None if put_off else _percent(shares.percent(what)),
    }


def _percent(value: float) -> str:
    return f"{value:.4f} %"


def _sentence(shares: Shares) -> str:
    numbers = f"reviewed {_percent(shares.reviewed)}, wrongly filtered {_percent(shares.wrong)}"
    promised = f"promised is less than {shares.promised:g} %"
    return f"{'ALARM' if shares.alarm else 'OK'}: {numbers}; {promised} of all mail."


def _model(model: SharedModel | None) -> str:
    """Also why so much is only tagged, which is asked at a fresh installation."""
    state = maturity_of(model)
    if model is None:
        return f"Content model: {state.value}; make one with: cleanmail filter train CORPUS."
    learned = f"Content model: {state.value} ({model.learned.ham} wanted messages, {model.learned.spam} of spam)"
    if state is Maturity.TRAINED:
        return f"{learned}."
    return f"{learned}; until it has learned from {TRAINED_FROM} of each, what looks like spam is only tagged."


def _values(shares: Shares, days: int, tenant: str | None, model: SharedModel | None) -> dict[str, Any]:
    return {
        "days": days,
        "tenant": tenant,
        "judged": shares.judged,
        "counts": {what.value: shares.sums[what] for what in Counted},
        "percent": {what.value: round(shares.percent(what), 4) for what in Counted if what is not Counted.DEFER},
        "promised_percent": shares.promised,
        "alarm": shares.alarm,
        "model": maturity_of(model).value,
    }
