"""What the commands of ``hashroute quorum`` share: which cluster, and the calls to it."""

from __future__ import annotations

import json
import signal
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import click

from hashroute.cli._common import CouldNotRun, Failed, print_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from hashroute.cli.quorum._cluster import Cluster
    from hashroute.config import Loaded

TIMEOUT_SECONDS_DEFAULT: Final = 5.0
"""Longer than a change takes on a cluster that works, several times over."""

UNREACHED: Final = "no voter answers, whether the change was made is not known, or wrong usage"

_NO_RECORD: Final[dict[str, Any]] = {"epoch": 0, "voters": []}

_Decorated = TypeVar("_Decorated", bound="Callable[..., Any]")


class NativeOperator(Protocol):
    """The calls of the native operator."""

    def describe(self) -> str:
        """Returns what every process says of itself, or why it says nothing, as JSON."""

    def found(self, view_json: str, lease_json: str, groups_json: str) -> str:
        """Founds the cluster; returns the first record as JSON."""

    def change(self, change_json: str) -> int:
        """Makes one change of the record; returns its epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A cluster as it was named on the command line."""

    settings: dict[str, Any]
    loaded: Loaded | None
    """The configuration it was named by, if it was."""

    @property
    def voters(self) -> tuple[str, ...]:
        """The addresses to ask."""
        return tuple(self.settings["voters"])

    def operator(self, voters: tuple[str, ...] | None = None) -> NativeOperator:
        """Returns an operator that asks ``voters``, or those that were named."""
        asked = self.settings | {"voters": list(voters or self.voters)}
        with errors_as_exit():
            return native(json.dumps(asked))

    def describe(self) -> list[dict[str, Any]]:
        """Returns what each process says of itself: those named, then other voters of theirs."""
        cluster = self.settings["cluster"]
        answers = _described(self.operator(), cluster)
        records = [it["record"] for it in answers if it.get("record")]
        newest = max(records, key=lambda record: int(record["epoch"]), default=_NO_RECORD)
        found = {it.get("voter_id") for it in answers}
        more = tuple(it["address"] for it in newest["voters"] if it["id"] not in found)
        unasked = tuple(address for address in more if address not in self.voters)
        return answers + (_described(self.operator(unasked), cluster) if unasked else [])

    def change(self, change: dict[str, Any]) -> int:
        """Makes one change of the record and returns its epoch.

        On etcd, where what is wanted is written down until a member takes it up, SIGINT and SIGTERM
        withdraw it; the error says whether that came in time.
        """
        is_written_down = "etcd" in self.settings
        with errors_as_exit(), called_off_by_signals() if is_written_down else nullcontext():
            return self.operator().change(json.dumps(change))


def look(target: Target) -> Cluster:
    """Returns the cluster at this moment.

    Raises:
        CouldNotRun: nobody answers.

    """
    from hashroute.cli.quorum._cluster import cluster_of

    answers = target.describe()
    if all("error" in answer for answer in answers):
        reasons = "; ".join(f"{it['address']}: {it['error']}" for it in answers)
        raise CouldNotRun(f"no voter of {target.settings['cluster']} answers: {reasons}")
    etcd = frozenset(target.settings.get("etcd", {}).get("endpoints", ()))
    return cluster_of(target.settings["cluster"], answers, etcd)


def native(settings_json: str) -> NativeOperator:
    """Returns the native operator."""
    from hashroute import _hashroute

    operator: NativeOperator = _hashroute.Operator(settings_json)
    return operator


def _described(operator: NativeOperator, cluster: str) -> list[dict[str, Any]]:
    with errors_as_exit():
        answers: list[dict[str, Any]] = json.loads(operator.describe())
    return [_understood(answer, cluster) for answer in answers]


def _understood(answer: dict[str, Any], cluster: str) -> dict[str, Any]:
    """The answer, or why it says nothing of this cluster."""
    if "error" in answer:
        return answer
    problem = None
    if answer["cluster"] != cluster:
        problem = f"belongs to cluster {answer['cluster']!r}"
    elif answer["snapshot"] is None:
        problem = "shows no figures that this release can read"
    return answer if problem is None else {"address": answer["address"], "error": problem}


@contextmanager
def errors_as_exit() -> Iterator[None]:
    """Lets refusals exit with 1, and what could not be found out with 2."""
    from hashroute.errors import ChangeRefusedError, HashrouteError, UnknownPodError, WeightError

    try:
        yield
    except (ChangeRefusedError, UnknownPodError, WeightError) as error:
        raise Failed(str(error)) from error
    except HashrouteError as error:
        raise CouldNotRun(str(error)) from error


@contextmanager
def called_off_by_signals() -> Iterator[None]:
    """Lets SIGINT and SIGTERM end what waits inside, and turns what came of it into the error."""

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    except KeyboardInterrupt as interrupted:
        if interrupted.__cause__ is None:
            raise
        raise CouldNotRun(f"interrupted: {interrupted.__cause__}") from interrupted
    finally:
        signal.signal(signal.SIGTERM, before)


def target_options(command: _Decorated) -> _Decorated:
    """Adds ``--config``, ``--target``, ``--cluster`` and ``--timeout-seconds``."""
    options = (
        config_option(required=False),
        click.option(
            "--target",
            "targets",
            metavar="HOST:PORT",
            multiple=True,
            help="Ask this voter (quorum.listen) instead; may be given several times.",
        ),
        click.option("--cluster", metavar="NAME", help="The name of its cluster, with --target."),
        timeout_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


def config_option(*, required: bool) -> Callable[[_Decorated], _Decorated]:
    """Returns ``--config``."""
    return click.option(
        "--config",
        "file",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar="HASHROUTE_CONFIG",
        show_envvar=True,
        required=required,
        help="A configuration with the [quorum] of the cluster; its certificates are used too.",
    )


def timeout_option(command: _Decorated) -> _Decorated:
    """Adds ``--timeout-seconds``."""
    return click.option(
        "--timeout-seconds",
        default=TIMEOUT_SECONDS_DEFAULT,
        show_default=True,
        type=click.FloatRange(0.05, 600),
        help="How long one call may take.",
    )(command)


def target_of(
    file: Path | None, targets: tuple[str, ...], cluster: str | None, timeout_seconds: float
) -> Target:
    """Returns the cluster that the options name."""
    timeout_ms = round(timeout_seconds * 1_000)
    if targets:
        if cluster is None:
            raise click.UsageError("with --target, give the name of its cluster: --cluster NAME")
        settings = {"cluster": cluster, "voters": [*targets], "tls": None}
        return Target(settings=settings | {"timeout_ms": timeout_ms}, loaded=None)
    if file is None:
        raise click.UsageError(
            "which cluster? give --config FILE with its [quorum], or --target HOST:PORT and "
            "--cluster NAME"
        )
    return target_of_file(file, timeout_ms)


def target_of_file(file: Path, timeout_ms: int) -> Target:
    """Returns the cluster of ``[quorum]`` in a configuration."""
    from hashroute.config import ConfigurationFileError, load, node_settings_of

    try:
        loaded = load(file)
    except ConfigurationFileError as error:
        raise CouldNotRun(str(error)) from error
    quorum = loaded.configuration.quorum
    if quorum is None:
        raise CouldNotRun(f"{file} has no table [quorum], so it says nothing of a cluster")
    if not quorum.voters and quorum.etcd is None:
        raise CouldNotRun(f"{file}: quorum.voters names nobody to ask")
    node = node_settings_of(loaded)
    settings = {name: node[name] for name in ("cluster", "voters", "tls")}
    if isinstance(node["engine"], dict):
        settings |= node["engine"]
    return Target(settings=settings | {"timeout_ms": timeout_ms}, loaded=loaded)


def show_epoch(done: str, epoch: int, facts: dict[str, Any], *, as_json: bool) -> None:
    """Prints what a change of the record did."""
    if as_json:
        print_json({"epoch": epoch, **facts})
    else:
        click.echo(f"{done} (epoch {epoch})")
