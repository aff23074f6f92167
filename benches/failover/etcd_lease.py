"""An owner by etcd's own lease: what ``etcdctl lock`` and etcd's election recipe are made of.

A program: ``python -m benches.failover.etcd_lease MEMBER``, with the URL of a member of etcd. It
asks for the shortest lease that etcd gives, keeps it alive three times in its length, as etcd's own
client does, and puts the key under it if nobody has it; else it watches the key until it is gone,
and tries again. It prints a line of JSON when it begins to wait, and one when it owns the key, with
the time by this machine's monotonic clock. It owns the key until it is killed.
"""

from __future__ import annotations

import base64
import http
import http.client
import json
import sys
import threading
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = base64.b64encode(b"bench/owner").decode()
TTL_SECONDS_ASKED = 1
"""The least that can be asked for; etcd gives its own least if that is longer."""
TIMEOUT_SECONDS = 60.0
RETRY_SECONDS = 0.01


class RefusedError(Exception):
    """etcd has no leader at the moment, or not the lease any more."""


class Member:
    """A member of etcd, through its JSON gateway: the same calls as over gRPC."""

    def __init__(self, url: str) -> None:
        address = urllib.parse.urlsplit(url).netloc
        self._connection = http.client.HTTPConnection(address, timeout=TIMEOUT_SECONDS)

    def call(self, path: str, **words: Any) -> dict[str, Any]:
        """Makes a call and returns its answer."""
        answer: dict[str, Any] = json.loads(self._open(path, words).read())
        return answer

    def stream(self, path: str, **words: Any) -> Iterator[dict[str, Any]]:
        """Makes a call and yields its answers, as they come."""
        response = self._open(path, words)
        while line := response.readline():
            yield json.loads(line)

    def _open(self, path: str, words: dict[str, Any]) -> http.client.HTTPResponse:
        self._connection.request("POST", f"/v3/{path}", json.dumps(words))
        response = self._connection.getresponse()
        if response.status != http.HTTPStatus.OK:
            raise RefusedError(f"etcd refuses {path}: {response.read().decode()}")
        return response


def keep_alive(url: str, lease: str, ttl_seconds: int) -> None:
    """Renews the lease for as long as etcd has it."""
    member, due = Member(url), time.monotonic()
    while True:
        due = max(due + ttl_seconds / 3, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        try:
            answer = member.call("lease/keepalive", ID=lease)["result"]
        except RefusedError:
            continue
        if int(answer.get("TTL", 0)) <= 0:
            return


def grant(url: str) -> tuple[str, int]:
    """Asks for a lease, and keeps it alive; returns its id and the length that etcd gave it."""
    granted = Member(url).call("lease/grant", TTL=TTL_SECONDS_ASKED)
    lease, ttl = str(granted["ID"]), int(granted["TTL"])
    threading.Thread(target=keep_alive, args=(url, lease, ttl), daemon=True).start()
    return lease, ttl


def acquire(member: Member, lease: str) -> int | None:
    """Puts the key under the lease; returns None, or the revision at which another had it."""
    answer = member.call(
        "kv/txn",
        compare=[{"key": KEY, "target": "CREATE", "result": "EQUAL", "create_revision": "0"}],
        success=[{"request_put": {"key": KEY, "value": KEY, "lease": lease}}],
    )
    return None if answer.get("succeeded") else int(answer["header"]["revision"])


def await_deletion(url: str, revision: int) -> None:
    """Returns when the key was deleted after that revision."""
    wish = {"key": KEY, "start_revision": str(revision + 1), "filters": ["NOPUT"]}
    for answer in Member(url).stream("watch", create_request=wish):
        if answer["result"].get("events"):
            return


def main(url: str) -> None:
    """Owns the key, sooner or later, and then until it is killed."""
    member = Member(url)
    lease, ttl = grant(url)
    while True:
        try:
            revision = acquire(member, lease)
            if revision is None:
                break
            print(json.dumps({"waits": True, "ttl_seconds": ttl}), flush=True)
            await_deletion(url, revision)
        except RefusedError:
            # On a busy machine a renewal may be late, and then the lease is gone.
            time.sleep(RETRY_SECONDS)
            lease, ttl = grant(url)
    print(json.dumps({"owns_at": time.monotonic(), "ttl_seconds": ttl}), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(*sys.argv[1:])
