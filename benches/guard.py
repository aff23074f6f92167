"""What the guard of a pod costs: CPU time of one admission, by a real member of a real cluster.

    python -m benches.guard [--json FILE]

CPU time (``time.thread_time``: of this thread alone, so that neither other processes nor
the thread that keeps the lease are in it), the median of several rounds, and the spread between the
fastest and the slowest. The peer in the same run is a lock that is taken and released.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import socket
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import hashroute
import hashroute.pod
import hashroute.pod.grpc
from hashroute import Pod, Router, _hashroute
from hashroute.bench import machine_facts
from hashroute.cluster import node_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CLUSTER, KEY = "bench", "AAPL"
ROUNDS = 21
CALLS = 20_000


def main() -> None:
    """Measures, and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    path = parser.parse_args().json
    with member() as (one, router):
        rows = {name: measure(call) for name, call in cases(one, router).items()}
    width = max(map(len, rows))
    print(
        f"{'CPU time of one call, in microseconds':{width}}   median      fastest - slowest round"
    )
    for name, (median, fastest, slowest) in rows.items():
        print(f"{name:{width}}  {median:7.2f}   {fastest:7.2f} - {slowest:.2f}")
    if path is not None:
        facts = {"facts": machine_facts(), "rounds": ROUNDS, "calls": CALLS, "us": rows}
        path.write_text(json.dumps(facts, indent=1), encoding="utf-8")


def cases(one: hashroute.pod.Member, router: Router) -> dict[str, Callable[[], object]]:
    """What is measured, by its name."""
    guard, lock = one.guard, threading.Lock()
    with router.acquire(KEY, write=True) as route:
        tag = route.tag
    admission = guard.admit(KEY)

    def locked() -> None:
        with lock:
            pass

    def admitted() -> None:
        with guard.admit(KEY):
            pass

    def tagged() -> None:
        with guard.admit(slot=tag.slot, epoch=tag.epoch, term=tag.term):
            pass

    def refused() -> None:
        with contextlib.suppress(hashroute.BehindError):
            guard.admit(slot=tag.slot, epoch=tag.epoch + 1, term=tag.term)

    def routed() -> None:
        with router.acquire(KEY, write=True):
            pass

    return {
        "a lock, taken and released (the peer)": locked,
        "admit(key), and the end of the write": admitted,
        "admit(slot, epoch, term), and its end": tagged,
        "the same, refused": refused,
        "a second look: admission.is_valid": lambda: admission.is_valid,
        "the gRPC interceptor around a handler": intercepted(guard, tag.to_metadata()),
        "router.acquire(key, write=True), and its end": routed,
    }


def intercepted(guard: hashroute.pod.Guard, metadata: Any) -> Callable[[], object]:
    """Calls a handler through the interceptor, without a server: what that adds to each call."""
    handler = grpc.unary_unary_rpc_method_handler(lambda request, _context: request)
    interceptor = hashroute.pod.grpc.interceptor(guard, writes=True)

    class Details:
        method = "/orders.Orders/Write"
        invocation_metadata = metadata

    def call() -> object:
        guarded = interceptor.intercept_service(lambda _: handler, Details)
        return guarded.unary_unary(b"", None)

    return call


def measure(call: Callable[[], object]) -> tuple[float, float, float]:
    """Returns the median of the rounds, the fastest and the slowest, in microseconds a call."""
    rounds = []
    for _ in range(ROUNDS):
        begun = time.thread_time()
        for _ in range(CALLS):
            call()
        rounds.append((time.thread_time() - begun) / CALLS * 1e6)
    return statistics.median(rounds), min(rounds), max(rounds)


@contextlib.contextmanager
def member() -> Iterator[tuple[hashroute.pod.Member, Router]]:
    """A member that owns every key, its voter beside it, and a router that follows."""
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        # A lease that no other process of this machine ends.
        settings = node_settings(
            cluster=CLUSTER,
            voters=[address],
            tls=None,
            stale_after_seconds=10.0,
            listen=address,
            data=directory,
            lease="slow",
            force=True,
        )
        voter = _hashroute.Node(settings)
        stack.callback(voter.stop, 0.0)
        told = {"cluster": CLUSTER, "voters": [address], "tls": None, "timeout_ms": 10_000}
        view, lease = hashroute.Ring(["pod-a"]).to_json(), json.loads(settings)["lease"]
        _hashroute.Operator(json.dumps(told)).found(view, json.dumps(lease), "{}")
        pod = Pod("pod-a", grpc="127.0.0.1:1")
        one = stack.enter_context(
            hashroute.pod.join(
                cluster=CLUSTER,
                voters=[address],
                pod=pod,
                lease="slow",
                stall_check_seconds=0,
                force=True,
            )
        )
        one.wait_until_writing(30)
        yield one, stack.enter_context(Router.connect([address], cluster=CLUSTER, health=None))


if __name__ == "__main__":
    main()
