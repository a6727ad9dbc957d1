"""cleanmail filter train, evaluate, export, import and status: the shared model of the content classifier.

It learns from corpora that the operator names and from nothing else; what people say of mail here becomes a correction
of their own tenant (`gateway.classifier.correction`). Corpora are read as the user who runs the command, the model is
written as the owner of the data directory. Running servers take a new model up within seconds.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gateway.classifier.corpus import Corpus
from gateway.classifier.evaluation import Figures, figures
from gateway.classifier.features import features_of
from gateway.classifier.model import (
    FILE,
    JUNK_FROM,
    QUARANTINE_FROM,
    TAG_FROM,
    TRAINED_FROM,
    Maturity,
    SharedModel,
    encode_model,
    map_model,
    write_model,
)
from gateway.classifier.trainer import Trainer
from hosting import composition
from hosting.cli import invocation
from hosting.cli.invocation import Invocation
from hosting.cli.output import moment
from hosting.roles import privileges
from storage.clock import SystemClock
from storage.errors import AlreadyExists, Conflict, Corrupt, InvalidInput, NotFound
from storage.files.durable import write_file

_THRESHOLDS = (0.0, 2.0, TAG_FROM, JUNK_FROM, QUARANTINE_FROM)

Corpora = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="CORPUS",
        help="A folder or tar with an index (TREC), or with Maildirs, mboxes or folders of files called ham and spam.",
        show_default=False,
    ),
]
Ham = Annotated[list[Path] | None, typer.Option(help="A Maildir, mbox or folder of wanted mail; may be repeated.")]
Spam = Annotated[list[Path] | None, typer.Option(help="A Maildir, mbox or folder of spam; may be repeated.")]


def train(
    context: typer.Context,
    corpora: Corpora = None,
    ham: Ham = None,
    spam: Spam = None,
    passes: Annotated[
        int,
        typer.Option(
            help="How often the messages are gone through; more catches more spam and filters more ham.", min=1, max=100
        ),
    ] = 1,
    fresh: Annotated[bool, typer.Option("--fresh", help="Begin anew instead of going on from the model here.")] = False,
) -> None:
    """Teach the shared model from labelled corpora, in the order in which their messages arrived.

    The shared model never learns from the mail of this installation's tenants: name corpora that you may use for all.
    """
    run = _run(context)
    path = run.data / FILE
    before = None if fresh else _installed(run)
    identity = _identity(path)
    trainer = Trainer() if before is None else Trainer.of(before)
    with _corpus(run, corpora, ham, spam) as corpus, run.output.progress() as bar:
        task = bar.add_task("learning", total=passes * len(corpus))
        for number in range(passes):
            for message, is_spam in corpus.messages():
                trainer.learn(features_of(message), is_spam, again=number > 0)
                bar.advance(task)
        learned_ham, learned_spam, left_out = corpus.ham, corpus.spam, corpus.left_out
    model = trainer.model(SystemClock().now())
    with privileges.acting_as_owner(run.data):
        if _identity(path) != identity:
            raise Conflict("Another command has replaced the model meanwhile; nothing was kept. Repeat the training.")
        write_model(path, model)
    run.output.done(
        f"The model learned from {learned_ham} ham and {learned_spam} spam messages. "
        f"Before: {_sentence(before)} Now: {_sentence(model)}",
        {
            "ham": learned_ham,
            "spam": learned_spam,
            "left_out": left_out,
            "before": _values(before),
            "after": _values(model),
        },
    )
    _note_left_out(run, left_out)
    _note_untrained(run, model)


def evaluate(
    context: typer.Context,
    corpora: Corpora = None,
    ham: Ham = None,
    spam: Spam = None,
    with_model: Annotated[
        bool, typer.Option("--with-model", help="Score with the model here, which learns nothing from it.")
    ] = False,
) -> None:
    """Measure the classifier on labelled corpora: each message is scored first and learned then, from nothing.

    The model of this installation is not changed.
    """
    run = _run(context)
    model = _installed(run) if with_model else None
    if with_model and model is None:
        raise NotFound("There is no model yet; make one with: cleanmail filter train CORPUS.")
    trainer = Trainer()
    scores: list[float] = []
    labels: list[bool] = []
    with _corpus(run, corpora, ham, spam) as corpus, run.output.progress() as bar:
        task = bar.add_task("scoring", total=len(corpus))
        for message, is_spam in corpus.messages():
            features = features_of(message)
            scores.append(trainer.score(features) if model is None else model.score(features))
            labels.append(is_spam)
            if model is None:
                trainer.learn(features, is_spam)
            bar.advance(task)
        left_out = corpus.left_out
    measured = figures(scores, labels, _THRESHOLDS)
    _show(run, measured, left_out, "model" if with_model else "online")


def export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Where the model goes; the file must not exist.")],
) -> None:
    """Write the shared model to a file, for another installation."""
    run = _run(context)
    model = _installed(run)
    if model is None:
        raise NotFound("There is no model yet.")
    if file.exists():
        raise AlreadyExists(f"{file} is there already.")
    if not file.absolute().parent.is_dir():
        raise InvalidInput(f"There is no folder {file.absolute().parent}.")
    write_file(file, encode_model(model))
    run.output.done(f"The model was written to {file}: {_sentence(model)}", _values(model))


def import_(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A file that `cleanmail filter export` wrote.")],
) -> None:
    """Put an exported model in the place of the shared model; a damaged or foreign file is refused."""
    run = _run(context)
    try:
        model = map_model(file, whole=True)
    except NotFound:
        raise NotFound(f"There is nothing at {file}.") from None
    except Corrupt as error:
        raise InvalidInput(error.public) from None
    try:
        before = _installed(run)
        sentence, values = _sentence(before), _values(before)
    except InvalidInput:  # importing is what mends it
        sentence, values = "damaged.", {**_values(None), "state": "damaged"}
    with privileges.acting_as_owner(run.data):
        write_model(run.data / FILE, model)
    run.output.done(
        f"The model was imported. Before: {sentence} Now: {_sentence(model)}", {**_values(model), "before": values}
    )
    _note_untrained(run, model)


def status(context: typer.Context) -> None:
    """Show how far the shared model is: none, learning or trained, from how many messages, and since when."""
    run = _run(context)
    run.output.record({**_values(_installed(run)), "trained_from": TRAINED_FROM})


def _run(context: typer.Context) -> Invocation:
    run = invocation.of(context)
    composition.check_initialised(run.data)
    return run


def _corpus(run: Invocation, corpora: list[Path] | None, ham: list[Path] | None, spam: list[Path] | None) -> Corpus:
    """All that was named, read."""
    if not corpora and not ham and not spam:
        raise InvalidInput("Name a corpus, or wanted mail and spam by --ham and --spam.")
    with run.output.progress() as bar:
        task = bar.add_task("reading", total=None)
        corpus = Corpus(progress=lambda count: bar.update(task, completed=count))
        try:
            for path in corpora or ():
                corpus.add(path)
            for path in ham or ():
                corpus.add_archive(path, is_spam=False)
            for path in spam or ():
                corpus.add_archive(path, is_spam=True)
            if not len(corpus):
                raise InvalidInput("There is no message in what was named.")
        except BaseException:
            corpus.close()
            raise
    return corpus


def _installed(run: Invocation) -> SharedModel | None:
    """The model of this installation, verified as a whole. Raises InvalidInput for a damaged one."""
    with privileges.acting_as_owner(run.data):
        try:
            return map_model(run.data / FILE, whole=True)
        except NotFound:
            return None
        except Corrupt as error:
            raise InvalidInput(
                f"The model here is damaged; import it again or train with --fresh. {error.public}"
            ) from None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _show(run: Invocation, measured: Figures, left_out: int, mode: str) -> None:
    if run.output.as_json:
        run.output.record({"mode": mode, "left_out": left_out, **asdict(measured)})
        return
    run.output.record(
        {
            "ham": measured.ham,
            "spam": measured.spam,
            "1-ROCA %": _number(measured.one_minus_roca_percent, 4),
            "spam missed % where 0.1 % of ham is filtered": _number(measured.spam_missed_percent, 2),
        }
    )
    names = {TAG_FROM: "tag", JUNK_FROM: "Junk", QUARANTINE_FROM: "quarantine"}
    rows = [
        {
            "threshold": f"{at.threshold:g}",
            "name": names.get(at.threshold),
            "ham": at.ham_filtered,
            "ham_share": f"{at.ham_filtered_percent:.3f} %",
            "spam": at.spam_filtered,
            "spam_share": f"{at.spam_filtered_percent:.2f} %",
        }
        for at in measured.thresholds
    ]
    columns = {"threshold": "score from", "name": "used for", "ham": "ham filtered", "ham_share": "of ham"}
    run.output.rows(columns | {"spam": "spam filtered", "spam_share": "of spam"}, rows, "")
    _note_left_out(run, left_out)


def _note_left_out(run: Invocation, left_out: int) -> None:
    if left_out:
        run.output.note(f"{left_out} entries were left out: they are missing or no messages.")


def _note_untrained(run: Invocation, model: SharedModel) -> None:
    if model.maturity is not Maturity.TRAINED:
        run.output.note(
            f"It counts as trained from {TRAINED_FROM} messages of each kind on; until then mail is only tagged."
        )


def _number(value: float | None, digits: int) -> str | None:
    return None if value is None else f"{value:.{digits}f}"


def _values(model: SharedModel | None) -> dict[str, object]:
    if model is None:
        return {"state": Maturity.NONE, "ham": 0, "spam": 0, "trained_at": None}
    return {
        "state": model.maturity,
        "ham": model.learned.ham,
        "spam": model.learned.spam,
        "trained_at": moment(model.trained_at),
    }


def _sentence(model: SharedModel | None) -> str:
    if model is None:
        return "none."
    return f"{model.maturity.value}, {model.learned.ham} ham and {model.learned.spam} spam learned in all."
