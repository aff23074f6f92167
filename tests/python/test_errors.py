"""The catalogue of errors: each has a code, is documented, keeps its data, and is reachable."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path

import hashroute
import pytest
from hashroute import Pod, Ring, _hashroute, errors
from hashroute.clients.zmq import Client
from hashroute.config import load
from hashroute.errors import CATALOGUE, HashrouteError, of_code

from tests.python import quorum_errors

DOCUMENT = (Path(__file__).parents[2] / "docs" / "errors.md").read_text(encoding="utf-8")

# What the branches of the tree share; only their leaves are raised.
BRANCHES = {"hashroute", "configuration", "invalid_key", "request", "start", "write_refused"}
# The general code of a class whose errors always carry the narrower code of their situation.
GENERAL = {"weight", "plan", "view_format"}

RING = Ring(["a", "b"])
VIEW = json.loads(RING.to_json())
SETTINGS = {
    "view": json.loads(Ring([Pod("a", grpc="127.0.0.1:1")]).to_json()),
    "listen": {"grpc": "127.0.0.1:0", "zmq": None},
    "routes": [],
    "zmq": {
        "key_frame": 0,
        "idempotent": True,
        "envelope": "delimited",
        "request_timeout_ms": 1000,
        "message_bytes_max": 1000,
        "on_missing": "reject",
    },
    "health": {"interval_ms": 50, "timeout_ms": 150, "probe": "grpc", "service": ""},
    "load": {"c": 1.25, "floor": 16},
    "retry": {"attempts_max": 3, "budget_ratio": 0.2, "budget_reserve": 9, "buffer_bytes": 1},
    "limits": {
        "connections_max": 9,
        "requests_max": 9,
        "header_list_bytes": 65536,
        "handshake_timeout_ms": 1000,
        "keepalive_ms": 1000,
        "stream_window_bytes": 65536,
    },
}


def view(**changes) -> str:
    return json.dumps(VIEW | changes)


def sidecar(**changes) -> None:
    running = _hashroute.Sidecar(json.dumps(SETTINGS | changes))
    running.stop(0)


def with_running(act) -> None:
    running = _hashroute.Sidecar(json.dumps(SETTINGS))
    try:
        act(running)
    finally:
        running.stop(0)


def occupied(running: _hashroute.Sidecar) -> None:
    sidecar(listen={"grpc": running.addresses()["grpc"], "zmq": None})


def stale(running: _hashroute.Sidecar) -> None:
    running.apply(json.dumps(SETTINGS | {"view": SETTINGS["view"] | {"epoch": 0}}))


def closed_client() -> None:
    client = Client(["tcp://127.0.0.1:1"])
    client.close()
    client.request("k")


def overtaken(ring: Ring) -> None:
    """Full pods that would have to exchange slots in a circle, one slot at a time."""
    pods = {f"pod-{number}": 1.0 for number in range(8)}
    source = Ring(pods, slots=64, epsilon=0.0)
    target = Ring(pods, slots=64, epsilon=0.0, seed=1)
    source.plan(target, slots_per_step=1)
    raise AssertionError(ring)


def reply(code: str):
    frame = f"HASHROUTE-ERROR {code} outcome=unknown the text".encode()
    return lambda: _hashroute.raise_error_reply(frame)


REACHED = {
    "argument_type": lambda: Ring(None),
    "empty_view": lambda: Ring([]),
    "no_eligible_pod": lambda: Ring([Pod("a", state="down")]),
    "duplicate_pod": lambda: Ring(["a", "a"]),
    "bad_id": lambda: Ring([""]),
    "weight_not_finite": lambda: Ring({"a": float("nan")}),
    "weight_not_positive": lambda: Ring({"a": 0.0}),
    "weight_out_of_range": lambda: Ring({"a": 1e300}),
    "parameter": lambda: Ring(["a"], seed=-1),
    "slots_not_power_of_two": lambda: Ring(["a"], slots=3),
    "slots_out_of_range": lambda: Ring(["a"], slots=1),
    "epsilon_not_finite": lambda: Ring(["a"], epsilon=float("inf")),
    "epsilon_out_of_range": lambda: Ring(["a"], epsilon=-1.0),
    "epoch_exhausted": lambda: Ring.from_json(view(epoch=2**64 - 1)).add("c"),
    "too_many_pods": lambda: Ring(map(str, range(65_536)), slots=2**17),
    "more_pods_than_slots": lambda: Ring(["a", "b", "c"], slots=2),
    "not_json": lambda: Ring.from_json("{"),
    "unsupported_version": lambda: Ring.from_json(view(version=2)),
    "missing_field": lambda: Ring.from_json("{}"),
    "unknown_field": lambda: Ring.from_json(view(wieght=1)),
    "wrong_value": lambda: Ring.from_json(view(slots="many")),
    "configuration_file": lambda: load(Path("no/such/file.toml")),
    "slots_differ": lambda: RING.plan(Ring(["a"], slots=1024)),
    "zero_slots_per_step": lambda: RING.plan(RING, slots_per_step=0),
    "zero_warm_up_steps": lambda: RING.plan(RING, warm_up_steps=0),
    "other_ring": lambda: RING.plan(RING).apply(Ring(["c"])),
    "no_slack": lambda: overtaken(RING),
    "settings_malformed": lambda: _hashroute.Sidecar("{}"),
    "setting_out_of_range": lambda: sidecar(load={"c": 0.5, "floor": 1}),
    "setting_fixed": lambda: with_running(
        lambda it: it.apply(json.dumps(SETTINGS | {"listen": {"grpc": None, "zmq": None}}))
    ),
    "stale_epoch": lambda: with_running(stale),
    "unknown_pod": lambda: RING.remove("z"),
    "key_type": lambda: RING.owner(None),
    "key_range": lambda: RING.owner(2**64),
    "key_encoding": lambda: RING.owner("\ud800"),
    "key_shape": lambda: RING.owner_indices(__import__("numpy").zeros((2, 2), "int64")),
    "missing_key": reply("MISSING_KEY"),
    "malformed": reply("MALFORMED"),
    "resource_exhausted": reply("RESOURCE_EXHAUSTED"),
    "unavailable": reply("UNAVAILABLE"),
    "deadline_exceeded": reply("DEADLINE_EXCEEDED"),
    "no_pod": lambda: hashroute.Router(["a"], transport="grpc").acquire("k"),
    "address_in_use": lambda: with_running(occupied),
    "address_not_usable": lambda: sidecar(listen={"grpc": "192.0.2.1:0", "zmq": None}),
    "closed": closed_client,
    # A process that may start no thread does not get as far as this test.
    "thread_not_started": lambda: raise_(of_code("thread_not_started", "no thread")),
    "internal": lambda: raise_(of_code("no such code", "a text")),
    **quorum_errors.REACHED,
}


def raise_(error: Exception) -> None:
    raise error


@pytest.mark.filterwarnings("ignore::hashroute.FewSlotsWarning")
@pytest.mark.parametrize("code", sorted(CATALOGUE.keys() - BRANCHES - GENERAL))
def test_every_error_is_reached_and_answers_the_four_questions(code):
    with pytest.raises(HashrouteError) as caught:
        REACHED[code]()
    error = caught.value
    assert type(error) is CATALOGUE[code]
    assert error.code == code
    assert str(error)
    assert isinstance(error.retry, bool)
    assert error.outcome in {None, "not_applied", "unknown"}
    # A request has an outcome, and nothing else has one.
    assert (error.outcome is not None) == isinstance(error, errors.RequestError)


def test_every_code_and_every_class_is_documented():
    rows = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", DOCUMENT, re.MULTILINE))
    documented = {code: kind.__name__ for code, kind in CATALOGUE.items()}
    assert rows == documented


def test_the_tree_in_the_module_is_the_tree_of_the_classes():
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__))
    assert drawn == {kind.__name__ for kind in CATALOGUE.values()} - {"HashrouteError"}


def test_every_class_is_public_and_derives_from_the_base():
    for kind in set(CATALOGUE.values()):
        assert getattr(hashroute, kind.__name__) is kind
        assert issubclass(kind, HashrouteError)


def test_codes_are_unique():
    codes = [
        code
        for kind in set(CATALOGUE.values())
        for code in (kind.code, *vars(kind).get("situations", ()))
    ]
    assert len(codes) == len(set(codes)) == len(CATALOGUE)


@pytest.mark.parametrize(
    "error",
    [
        errors.WeightError("text", weight=0.0, pod="a"),
        errors.UnknownPodError("text", pod="a"),
        errors.StartError("text", address="127.0.0.1:1"),
        errors.DeadlineExceededError("text", pod="a"),
        errors.UnavailableError("text", outcome="unknown"),
        errors.NotOwnerError("text", slot=5, epoch=9, owner="pod-b"),
        of_code("unknown_field", "text", path="pods[0].x"),
    ],
)
def test_an_error_survives_pickling_with_its_data(error):
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
    assert str(copy) == "text"
    assert (copy.code, copy.retry, copy.outcome) == (error.code, error.retry, error.outcome)


def test_an_error_is_what_python_programs_expect_of_its_kind():
    assert issubclass(errors.ConfigurationError, ValueError)
    assert issubclass(errors.UnknownPodError, KeyError)
    assert issubclass(errors.KeyTypeError, TypeError)
    assert issubclass(errors.KeyRangeError, OverflowError)
    assert issubclass(errors.DeadlineExceededError, TimeoutError)
    assert issubclass(errors.StartError, OSError)


def test_a_request_that_timed_out_is_unknown_and_never_failed():
    assert errors.DeadlineExceededError("late").outcome == "unknown"
    assert not errors.DeadlineExceededError("late").retry


def test_only_what_certainly_did_nothing_is_worth_a_retry():
    assert errors.UnavailableError("refused").retry
    assert not errors.UnavailableError("lost", outcome="unknown").retry
