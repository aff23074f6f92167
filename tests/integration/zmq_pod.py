"""A ZeroMQ pod for the tests, as a program of its own: `python zmq_pod.py NAME ADDRESS`.

Prints the address it serves. Answers as the pods of `zmq_peers.py` do.
"""

from __future__ import annotations

import sys

import zmq


def main(name: str, address: str) -> None:
    server = zmq.Context().socket(zmq.ROUTER)
    server.bind(address)
    print(server.last_endpoint.decode(), flush=True)  # noqa: T201
    while True:
        frames = server.recv_multipart()
        end = frames.index(b"", 1) + 1
        if frames[-1] != b"hold":
            server.send_multipart([*frames[:end], name.encode(), *frames[end:]])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
