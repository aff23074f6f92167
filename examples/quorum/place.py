"""Sends one order through a sidecar, and shows who has it.

python place.py 127.0.0.1:9100 EURUSD
python place.py 127.0.0.1:9100             # no key: to the leader of the gateway's group
"""

from __future__ import annotations

import sys

import grpc


def main(sidecar: str, key: str | None = None) -> int:
    """Returns 0 if the order was taken, 1 if it was not."""
    method = "/desk.Gateway/Send" if key is None else "/desk.Orders/Place"
    metadata = () if key is None else (("x-hashroute-key", key),)
    with grpc.insecure_channel(sidecar) as channel:
        try:
            answer: bytes = channel.unary_unary(method)(b"buy 1", metadata=metadata, timeout=5)
        except grpc.RpcError as error:
            outcome = dict(error.trailing_metadata() or ()).get("x-hashroute-outcome", "unknown")
            print(f"{error.code().name}, {outcome}: {error.details()}")
            return 1
    print(answer.decode())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
