"""Every error that hashroute raises, as one tree.

::

    HashrouteError                           everything below; catch this to catch us
    ├── ConfigurationError     (ValueError)  what was asked for cannot be built: the caller's mistake
    │   ├── ArgumentTypeError  (TypeError)   an argument of a type that says nothing to us
    │   ├── EmptyViewError                   no pod at all, or none that takes traffic
    │   ├── DuplicatePodError                two pods with one id
    │   ├── PodIdError                       an id that is empty, too long or not text
    │   ├── WeightError                      a weight that is not finite, not positive or too large
    │   ├── ParameterError                   slots, epsilon or seed outside their range
    │   ├── TooManyPodsError                 more pods than slots
    │   ├── ViewFormatError                  text that is not a view
    │   └── PlanError                        two rings between which no plan of such steps exists
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
    │   └── DeadlineExceededError (TimeoutError) no answer in time: the outcome is unknown
    ├── StartError             (OSError)     the sidecar could not start: an address in use, ...
    ├── ClosedError                          the object was closed, or stopped, before the call
    └── InternalError                        our mistake: please report it

Each error answers four questions without anybody parsing its text:

- ``code``: a stable word, the same in Rust, Python and the documentation;
- who is to blame: the branch of the tree;
- ``retry``: whether the same call may succeed if it is made again, unchanged;
- ``outcome``: ``"not_applied"`` if the request certainly changed nothing, ``"unknown"`` if it may
  have been carried out, ``None`` where there was no request.

The text says what was wrong, where, what was expected and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

__all__ = [
    "CATALOGUE",
    "ArgumentTypeError",
    "ClosedError",
    "ConfigurationError",
    "DeadlineExceededError",
    "DuplicatePodError",
    "EmptyViewError",
    "HashrouteError",
    "InternalError",
    "InvalidKeyError",
    "KeyEncodingError",
    "KeyRangeError",
    "KeyShapeError",
    "KeyTypeError",
    "MalformedRequestError",
    "MissingKeyError",
    "NoPodError",
    "Outcome",
    "ParameterError",
    "PlanError",
    "PodIdError",
    "RequestError",
    "ResourceExhaustedError",
    "StartError",
    "TooManyPodsError",
    "UnavailableError",
    "UnknownPodError",
    "ViewFormatError",
    "WeightError",
    "of_code",
]

Outcome = Literal["not_applied", "unknown"]
"""What is known of a request that ended in an error."""


class HashrouteError(Exception):
    """Base of every error that hashroute raises.

    Instances keep all their attributes when pickled, so they cross process pools whole.
    """

    code: ClassVar[str] = "hashroute"
    """Stable name of the situation; never renamed once released."""
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


class DuplicatePodError(ConfigurationError):
    """Two pods have the same id. ``pod`` is that id."""

    code = "duplicate_pod"

    def __init__(self, message: str, *, pod: str) -> None:
        super().__init__(message)
        self.pod = pod


class PodIdError(ConfigurationError):
    """A pod id is empty, longer than 255 bytes of UTF-8, or not text. ``pod`` is what was given."""

    code = "pod_id"

    def __init__(self, message: str, *, pod: str) -> None:
        super().__init__(message)
        self.pod = pod


class WeightError(ConfigurationError):
    """A weight is not finite, not positive, or too large. ``pod`` and ``weight`` say which."""

    code = "weight"

    def __init__(self, message: str, *, weight: float, pod: str | None = None) -> None:
        super().__init__(message)
        self.weight = weight
        self.pod = pod


class ParameterError(ConfigurationError):
    """A number that shapes the ring or the router is out of range. ``parameter`` names it."""

    code = "parameter"

    def __init__(self, message: str, *, parameter: str) -> None:
        super().__init__(message)
        self.parameter = parameter


class TooManyPodsError(ConfigurationError):
    """There are more pods than slots, so some could own nothing."""

    code = "too_many_pods"

    def __init__(self, message: str, *, pods: int, pods_max: int) -> None:
        super().__init__(message)
        self.pods = pods
        self.pods_max = pods_max


class ViewFormatError(ConfigurationError):
    """A text is not a view: not JSON, a missing or unknown field, or another version."""

    code = "view_format"


class PlanError(ConfigurationError):
    """No plan of such steps exists between the two rings; the message says why."""

    code = "plan"


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
    outcome: Outcome | None = "unknown"


class StartError(HashrouteError, OSError):
    """A sidecar or server could not start. ``address`` is the address concerned, if one is."""

    code = "start"

    def __init__(self, message: str, *, address: str | None = None) -> None:
        super().__init__(message)
        self.address = address


class ClosedError(HashrouteError):
    """The object was closed or stopped before this call; make a new one."""

    code = "closed"


class InternalError(HashrouteError):
    """A defect of hashroute itself. Please report it with the text and the trace."""

    code = "internal"


def of_code(code: str, message: str, **data: Any) -> HashrouteError:
    """Returns the error that stands for ``code``, with its typed attributes.

    The extension raises through here, so the mapping of codes to classes exists once. A code
    without a class is a defect: it becomes an :class:`InternalError` that names it.
    """
    kind = CATALOGUE.get(code)
    if kind is None:
        return InternalError(f"error code {code!r} has no class (message: {message})")
    return kind(message, **data)


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
    {kind.code: kind for kind in _branch(HashrouteError)}
)
"""Every error of this module by its code."""
