"""Every error that hashroute raises, as one tree.

::

    HashrouteError                           everything below; catch this to catch us
    ├── ConfigurationError     (ValueError)  what was asked for cannot be built: the caller errs
    │   ├── ArgumentTypeError  (TypeError)   an argument of a type that says nothing to us
    │   ├── EmptyViewError                   no pod at all, or none that takes traffic
    │   ├── DuplicatePodError                two pods with one id
    │   ├── PodIdError                       an id that is empty or too long
    │   ├── WeightError                      a weight that is not finite, not positive or too large
    │   ├── ParameterError                   slots, epsilon, c, ... outside their range
    │   ├── TooManyPodsError                 more pods than slots, or than a view holds
    │   ├── ViewFormatError                  text that is not a view
    │   ├── ConfigurationFileError           a file that cannot be read, or holds errors
    │   ├── PlanError                        two rings between which no plan of such steps exists
    │   └── SettingError                     a setting of the sidecar that cannot be used
    ├── UnknownPodError        (KeyError)    an id that the view does not hold
    ├── InvalidKeyError        (ValueError)  a value that is not a key
    │   ├── KeyTypeError       (TypeError)   neither str, bytes-like nor int
    │   ├── KeyRangeError      (OverflowError) an int that does not fit 8 bytes
    │   ├── KeyEncodingError                 a str with lone surrogates: it has no UTF-8 form
    │   └── KeyShapeError                    an array of keys that is not one-dimensional
    ├── RequestError                         one request ended without an answer
    │   ├── MissingKeyError                  it carried no key, and its route demands one
    │   ├── MalformedRequestError            it could not be read
    │   ├── ResourceExhaustedError           a stated limit was reached
    │   ├── UnavailableError                 no pod took it; or it was lost on the way
    │   │   └── NoPodError                   no pod is left to try
    │   ├── WriteRefusedError                the pod may not write that now: nothing was applied
    │   │   ├── NotOwnerError                another process owns it
    │   │   ├── StaleTermError               it was routed by an older owner's term
    │   │   ├── BehindError                  it was routed by a record that the pod has not seen yet
    │   │   ├── MovingError                  it is on its way to another owner
    │   │   ├── NoLeaseError                 no majority of voters answers the pod
    │   │   └── UntaggedError                it does not say by which record it was routed
    │   ├── ChangeRefusedError               a change of the record cannot be made
    │   └── DeadlineExceededError (TimeoutError) no answer in time: the outcome is unknown
    ├── StartError             (OSError)     the sidecar could not start: an address in use, ...
    ├── ClosedError            (ValueError)  the object was closed, or stopped, before the call
    └── InternalError                        our mistake: please report it

    FewSlotsWarning          (UserWarning)   a ring whose slots are few for its pods; it works

Each error answers four questions without anybody parsing its text:

- ``code``: a stable word, the same in Rust, Python and the documentation;
- who is to blame: the branch of the tree;
- ``retry``: whether the same call may succeed if it is made again, unchanged;
- ``outcome``: ``"not_applied"`` if the request certainly changed nothing, ``"unknown"`` if it may
  have been carried out, ``None`` where there was no request.

The text says what was wrong, where, what was expected and what to do about it.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "CATALOGUE",
    "ArgumentTypeError",
    "BehindError",
    "ChangeRefusedError",
    "ClosedError",
    "ConfigurationError",
    "ConfigurationFileError",
    "DeadlineExceededError",
    "DuplicatePodError",
    "EmptyViewError",
    "FewSlotsWarning",
    "HashrouteError",
    "InternalError",
    "InvalidKeyError",
    "KeyEncodingError",
    "KeyRangeError",
    "KeyShapeError",
    "KeyTypeError",
    "MalformedRequestError",
    "MissingKeyError",
    "MovingError",
    "NoLeaseError",
    "NoPodError",
    "NotOwnerError",
    "Outcome",
    "ParameterError",
    "PlanError",
    "PodIdError",
    "RequestError",
    "ResourceExhaustedError",
    "SettingError",
    "StaleTermError",
    "StartError",
    "TooManyPodsError",
    "UnavailableError",
    "UnknownPodError",
    "UntaggedError",
    "ViewFormatError",
    "WeightError",
    "WriteRefusedError",
    "of_code",
]

Outcome = Literal["not_applied", "unknown"]
"""What is known of a request that ended in an error."""


class HashrouteError(Exception):
    """Base of every error that hashroute raises.

    Instances keep all their attributes when pickled, so they cross process pools whole.
    """

    code: str = "hashroute"
    """Stable name of the situation; never renamed once released."""
    situations: ClassVar[tuple[str, ...]] = ()
    """The narrower codes that an instance of this class may carry instead of the class's own."""
    retry: bool = False
    """Whether the same call, unchanged, may succeed later."""
    outcome: Outcome | None = None
    """Whether the request certainly changed nothing, or may have; None without a request."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    # KeyError would show the repr of its argument and OSError its errno: ours are texts.
    def __str__(self) -> str:
        return self.message

    # The default calls the class with `args` alone, which loses keyword-only data.
    def __reduce__(self) -> tuple[Any, ...]:
        return (_restored, (type(self), self.args, self.__dict__))


class ConfigurationError(HashrouteError, ValueError):
    """What was asked for cannot be built; nothing was started or changed."""

    code = "configuration"


class ArgumentTypeError(ConfigurationError, TypeError):
    """An argument has a type that says nothing to us."""

    code = "argument_type"


class EmptyViewError(ConfigurationError):
    """The view holds no pod, or none that takes traffic."""

    code = "empty_view"
    situations = ("no_eligible_pod",)


class DuplicatePodError(ConfigurationError):
    """Two pods have the same id. ``pod`` is that id."""

    code = "duplicate_pod"

    def __init__(self, message: str, *, pod: str) -> None:
        super().__init__(message)
        self.pod = pod


class PodIdError(ConfigurationError):
    """A pod id is empty or longer than 255 bytes of UTF-8. ``length_bytes`` is what it has."""

    code = "bad_id"

    def __init__(self, message: str, *, length_bytes: int) -> None:
        super().__init__(message)
        self.length_bytes = length_bytes


class WeightError(ConfigurationError):
    """A weight is not finite, not positive, or too large. ``pod`` and ``weight`` say which."""

    code = "weight"
    situations = ("weight_not_finite", "weight_not_positive", "weight_out_of_range")

    def __init__(self, message: str, *, weight: float, pod: str | None = None) -> None:
        super().__init__(message)
        self.weight = weight
        self.pod = pod


class ParameterError(ConfigurationError):
    """A number that shapes the ring or the router is out of range. ``parameter`` names it."""

    code = "parameter"
    situations = (
        "slots_not_power_of_two",
        "slots_out_of_range",
        "epsilon_not_finite",
        "epsilon_out_of_range",
        "epoch_exhausted",
    )

    def __init__(self, message: str, *, parameter: str) -> None:
        super().__init__(message)
        self.parameter = parameter


class TooManyPodsError(ConfigurationError):
    """There are more pods than the view can hold, or than slots: some would own nothing."""

    code = "too_many_pods"
    situations = ("more_pods_than_slots",)

    def __init__(self, message: str, *, pods: int, pods_max: int) -> None:
        super().__init__(message)
        self.pods = pods
        self.pods_max = pods_max


class ViewFormatError(ConfigurationError):
    """A text is not a view. ``path`` is the field concerned, such as ``pods[3].weight``."""

    code = "view_format"
    situations = (
        "not_json",
        "unsupported_version",
        "missing_field",
        "unknown_field",
        "wrong_value",
    )

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class ConfigurationFileError(ConfigurationError):
    """A configuration file cannot be read, or holds errors; nothing was started or changed.

    ``findings`` are all errors and warnings in it, in the order of the file (each a
    :class:`hashroute.config.Finding`); empty if the file could not be read at all.
    """

    code = "configuration_file"

    def __init__(self, message: str, *, file: str, findings: tuple[Any, ...]) -> None:
        super().__init__(message)
        self.file = file
        self.findings = findings


class PlanError(ConfigurationError):
    """No such plan exists, or this one belongs to another ring; the message says why."""

    code = "plan"
    situations = (
        "slots_differ",
        "zero_slots_per_step",
        "zero_warm_up_steps",
        "no_slack",
        "other_ring",
    )


class SettingError(ConfigurationError):
    """A setting cannot be used. ``setting`` names it, such as ``load.c`` or ``quorum.voters``."""

    code = "setting"
    situations = (
        "settings_malformed",
        "setting_out_of_range",
        "setting_fixed",
        "stale_epoch",
        "lease_unsafe",
        "tls",
    )

    def __init__(self, message: str, *, setting: str | None = None) -> None:
        super().__init__(message)
        self.setting = setting


class UnknownPodError(HashrouteError, KeyError):
    """The view holds no pod of this id. ``pod`` is the id that was asked for."""

    code = "unknown_pod"

    def __init__(self, message: str, *, pod: str) -> None:
        super().__init__(message)
        self.pod = pod


class InvalidKeyError(HashrouteError, ValueError):
    """A value is not a key."""

    code = "invalid_key"


class KeyTypeError(InvalidKeyError, TypeError):
    """A key is neither str, bytes-like nor int, or an array of keys has another dtype."""

    code = "key_type"


class KeyRangeError(InvalidKeyError, OverflowError):
    """An int key lies outside -2**63 .. 2**64-1, so it has no form of 8 bytes."""

    code = "key_range"


class KeyEncodingError(InvalidKeyError):
    """A str key holds lone surrogates, so it has no UTF-8 form."""

    code = "key_encoding"


class KeyShapeError(InvalidKeyError):
    """An array of keys is not one-dimensional."""

    code = "key_shape"


class RequestError(HashrouteError):
    """One request ended without an answer. ``outcome`` says what is known of its effect."""

    code = "request"
    outcome: Outcome | None = "not_applied"

    def __init__(
        self, message: str, *, outcome: Outcome | None = None, pod: str | None = None
    ) -> None:
        super().__init__(message)
        if outcome is not None:
            self.outcome = outcome
        self.pod = pod
        """The last pod that the request was sent to; None if it was sent to none."""


class MissingKeyError(RequestError):
    """The request carries no key, and its route demands one."""

    code = "missing_key"


class MalformedRequestError(RequestError):
    """The request cannot be read: no envelope, no such frame, a truncated field."""

    code = "malformed"


class ResourceExhaustedError(RequestError):
    """A stated limit was reached; nothing was sent. Retry after backing off."""

    code = "resource_exhausted"
    retry = True


class UnavailableError(RequestError):
    """No pod answered.

    ``outcome`` is ``"not_applied"`` and ``retry`` true if the request certainly reached no pod;
    a request that was lost on the way may have been carried out: ``"unknown"``, ``retry`` false.
    """

    code = "unavailable"
    situations = ("quorum_unreachable",)

    def __init__(
        self, message: str, *, outcome: Outcome | None = None, pod: str | None = None
    ) -> None:
        super().__init__(message, outcome=outcome, pod=pod)
        self.retry = self.outcome == "not_applied"


class NoPodError(UnavailableError):
    """Every pod was tried, or none takes traffic; nothing was applied."""

    code = "no_pod"


class DeadlineExceededError(RequestError, TimeoutError):
    """No answer came in time. The request may have been carried out: never treat it as failed."""

    code = "deadline_exceeded"
    situations = ("change_unknown",)
    outcome: Outcome | None = "unknown"


class WriteRefusedError(RequestError):
    """A write was not accepted where it arrived; nothing was applied.

    Routers repeat what may be repeated; who sees this has no router in between, or one whose
    patience is over.

    Attributes:
        slot: what was to be written; None if it was a group, or is not known.
        group: the same for a group.
        epoch: the record by which the pod decided; None if it has none or did not say.
        owner: the pod that owns it by that record; None if nobody does, or it is not known.
        term: the term of what was to be written by that record, where that is the reason.
        got: the term or epoch that came with the write, where that is the reason.
    """

    code = "write_refused"
    retry = True

    def __init__(
        self,
        message: str,
        *,
        outcome: Outcome | None = None,
        pod: str | None = None,
        slot: int | None = None,
        group: str | None = None,
        epoch: int | None = None,
        owner: str | None = None,
        term: int | None = None,
        got: int | None = None,
    ) -> None:
        super().__init__(message, outcome=outcome, pod=pod)
        self.slot = slot
        self.group = group
        self.epoch = epoch
        self.owner = owner
        self.term = term
        self.got = got


class NotOwnerError(WriteRefusedError):
    """Another process owns what was to be written: ``owner``, at ``epoch``."""

    code = "not_owner"


class StaleTermError(WriteRefusedError):
    """The write was routed by an older owner's term: ``got``, and the present one is ``term``."""

    code = "stale_term"


class BehindError(WriteRefusedError):
    """The write was routed by epoch ``got``, and the pod knows ``epoch``: it is catching up."""

    code = "behind"


class MovingError(WriteRefusedError):
    """What was to be written is on its way to another owner: try again in a moment."""

    code = "moving"


class NoLeaseError(WriteRefusedError):
    """No majority of voters answers the pod, so it may write nothing."""

    code = "no_lease"


class UntaggedError(WriteRefusedError):
    """The write does not say by which record it was routed: it has to come through a router."""

    code = "untagged"
    retry = False


class ChangeRefusedError(RequestError):
    """A change of the quorum's record cannot be made, or was not agreed on; nothing was changed."""

    code = "change_refused"
    situations = (
        "voters",
        "unknown_voter",
        "unknown_group",
        "duplicate_group",
        "not_a_candidate",
        "not_the_leader",
        "no_other_candidate",
        "voters_unheard",
        "no_writer",
        "already_writer",
        "changes_waiting",
        "not_agreed",
        "record_malformed",
        "change_malformed",
        "no_record",
        "not_a_voter",
        "already_a_voter",
        "same_voter",
        "founded_already",
        "found_refused",
    )


class StartError(HashrouteError, OSError):
    """A sidecar, a server or a quorum's node could not start; nothing of it is left running.

    ``address`` and ``path`` are the address and the file concerned, if one is.
    """

    code = "start"
    situations = (
        "address_in_use",
        "address_not_usable",
        "thread_not_started",
        "disk",
        "disk_damaged",
        "disk_in_use",
        "other_cluster",
        "stalls_too_long",
    )

    def __init__(
        self, message: str, *, address: str | None = None, path: str | None = None
    ) -> None:
        super().__init__(message)
        self.address = address
        self.path = path


class ClosedError(HashrouteError, ValueError):
    """The object was closed or stopped before this call; make a new one.

    A ValueError, as Python's own files and gRPC's own channels raise it.
    """

    code = "closed"


class InternalError(HashrouteError):
    """A defect of hashroute itself. Please report it with the text and the trace."""

    code = "internal"


class FewSlotsWarning(UserWarning):
    """The ring works, but a change of its pods will move more keys than it must."""


def of_code(code: str, message: str, **data: Any) -> HashrouteError:
    """Returns the error that stands for ``code``, with its typed attributes.

    The extension raises through here, so the mapping of codes to classes exists once. A code
    without a class is a defect: it becomes an :class:`InternalError` that names it.
    """
    kind = CATALOGUE.get(code)
    if kind is None:
        return InternalError(f"error code {code!r} has no class (message: {message})")
    error = kind(message, **data)
    error.code = code
    return error


def _restored(
    kind: type[HashrouteError], args: tuple[Any, ...], attributes: dict[str, Any]
) -> HashrouteError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


def _branch(kind: type[HashrouteError]) -> Iterator[type[HashrouteError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _branch(narrower)


CATALOGUE: Mapping[str, type[HashrouteError]] = MappingProxyType(
    {
        code: kind
        for kind in _branch(HashrouteError)
        for code in (kind.code, *vars(kind).get("situations", ()))
    }
)
"""The class that stands for each code."""
