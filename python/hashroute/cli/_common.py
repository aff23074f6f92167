"""What several commands share: options, exit codes, tables, and the way to a running sidecar."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from google.protobuf.message import Message

    from hashroute._proto.v1 import control_pb2 as pb
    from hashroute._proto.v1.control_pb2_grpc import ControlStub
    from hashroute._ring import Ring

CONTROL_DEFAULT: Final = "127.0.0.1:9003"
CALL_SECONDS_MAX: Final = 10.0
"""Longer than a sidecar ever takes to answer an operator."""

EXIT_CODES: Final = """\b
Exit codes:
  0  {held}
  1  {failed}
  2  {unknown}
"""

_Decorated = TypeVar("_Decorated", bound="Callable[..., Any]")
_Answer = TypeVar("_Answer")


class Failed(click.ClickException):
    """What was asked for does not hold."""

    exit_code = 1


class CouldNotRun(click.ClickException):
    """What was asked for could not be found out."""

    exit_code = 2


def epilog(examples: str, *, held: str, failed: str, unknown: str) -> str:
    """Returns the end of a command's help: examples, then what its exit codes mean."""
    lines = "\n".join(f"  {line}" for line in examples.strip().splitlines())
    codes = EXIT_CODES.format(held=held, failed=failed, unknown=unknown)
    return f"\b\nExamples:\n{lines}\n\n{codes}"


UNREACHED: Final = "no sidecar answers there, or wrong usage"


def json_option(command: _Decorated) -> _Decorated:
    """Adds ``--json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")(command)


def control_option(command: _Decorated) -> _Decorated:
    """Adds ``--control``, where a running sidecar takes commands."""
    return click.option(
        "--control",
        metavar="ADDRESS",
        envvar="HASHROUTE_CONTROL",
        show_envvar=True,
        default=CONTROL_DEFAULT,
        show_default=True,
        help="Control address of the sidecar (listen.control).",
    )(command)


def ring_options(command: _Decorated) -> _Decorated:
    """Adds ``--config`` and ``--control``: the ring of a file, or the one in force."""
    option = click.option(
        "--config",
        "file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Take the ring of this configuration file instead of a running sidecar's.",
    )
    return option(control_option(command))


def load_ring(file: Path | None, control: str) -> Ring:
    """Returns the ring of ``file``, or of the sidecar at ``control`` if no file is given."""
    import warnings

    from hashroute import Ring
    from hashroute.errors import FewSlotsWarning, HashrouteError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewSlotsWarning)
        try:
            return Ring.from_json(json.dumps(_view_of(file) if file else view_at(control)))
        except HashrouteError as error:
            raise CouldNotRun(str(error)) from error


def _view_of(file: Path) -> dict[str, Any]:
    from hashroute.config import load, view_of

    return view_of(load(file).configuration, epoch=1)


def view_at(control: str) -> dict[str, Any]:
    """Returns the view in force at the sidecar, in the JSON form of a view."""
    from hashroute._proto.v1 import control_pb2 as pb

    with stub(control) as service:
        view = call(service.GetView, pb.GetViewRequest(), control).view
    return {
        "version": 1,
        **{name: getattr(view, name) for name in ("epoch", "slots", "epsilon", "seed")},
        "pods": [
            {
                **plain(pod),
                "state": pb.PodState.Name(pod.state).removeprefix("POD_STATE_").lower(),
            }
            for pod in view.pods
        ],
    }


@contextmanager
def stub(control: str) -> Iterator[ControlStub]:
    """Opens the control API at ``control``."""
    import grpc

    from hashroute._proto.v1.control_pb2_grpc import ControlStub

    # The sidecar is near: what the environment says of proxies is not meant for it.
    with grpc.insecure_channel(control, options=[("grpc.enable_http_proxy", 0)]) as channel:
        yield ControlStub(channel)


def call(method: Callable[..., _Answer], request: Message, control: str) -> _Answer:
    """Makes one call of the control API; its errors become those of the command."""
    import grpc

    try:
        return method(request, timeout=CALL_SECONDS_MAX)
    except grpc.RpcError as error:
        raise as_exit(error, control) from error


def as_exit(error: Any, control: str) -> click.ClickException:
    """Returns what an error of the control API means for the command: refused, or not reached."""
    import grpc

    refusals = {
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
    if error.code() in refusals:
        return Failed(error.details())
    if any(name == "hashroute-error" for name, _ in error.trailing_metadata() or ()):
        # The sidecar answered: it is the quorum that did not.
        return CouldNotRun(error.details())
    if error.code() == grpc.StatusCode.UNAVAILABLE:
        return CouldNotRun(
            f"no sidecar answers at {control}: start one with `hashroute proxy`, or give the "
            "address of its listen.control with --control or HASHROUTE_CONTROL"
        )
    return CouldNotRun(f"{control}: {error.code().name}: {error.details()}")


def plain(message: Message) -> dict[str, Any]:
    """Returns a message as JSON has it: every field, absent ones as null, numbers as numbers."""
    fields: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.has_presence and not message.HasField(field.name):
            fields[field.name] = None
        elif field.message_type is not None and field.message_type.GetOptions().map_entry:
            fields[field.name] = {key: _plain_value(value[key]) for key in sorted(value)}
        elif field.is_repeated:
            fields[field.name] = [_plain_value(item) for item in value]
        else:
            fields[field.name] = _plain_value(value)
    return fields


def _plain_value(value: Any) -> Any:
    return plain(value) if hasattr(value, "DESCRIPTOR") else value


def show_change(done: str, change: pb.Change, slots: int, *, as_json: bool) -> None:
    """Prints what a change of the view did."""
    if as_json:
        print_json(plain(change))
        return
    if change.epoch == change.epoch_before:
        click.echo(f"{done}: it was so already; nothing changed (epoch {change.epoch})")
        return
    moved = f"{change.moved_slots:,} of {slots:,} slots moved ({change.moved_slots / slots:.2%})"
    click.echo(f"{done}: {moved}, at least {change.least_slots:,} had to; epoch {change.epoch}")
    rows = [(pod, f"{share:.2%}") for pod, share in sorted(change.shares.items())]
    click.echo(table(("pod", "share"), rows, right={1}))


def print_json(value: object) -> None:
    """Prints ``value`` as JSON."""
    click.echo(json.dumps(value, indent=2))


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: set[int]) -> str:
    """Returns rows in columns, those of ``right`` aligned to the right; nothing is cut off."""
    lines = [tuple(head), *(tuple(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            text.rjust(width) if column in right else text.ljust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def weight_of(text: str, parameter: str) -> float:
    """Reads a weight from the command line."""
    try:
        return float(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a number", param_hint=parameter) from None
