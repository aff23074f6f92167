"""What a `Router` finds out by probing: frozen pods, pods that return, ports without a pod."""

from __future__ import annotations

import socket

from hashroute import HealthOptions, Pod, Router

from tests.integration.processes import Pod as PodProcess
from tests.integration.processes import until


def health(router: Router, pod: str) -> str:
    return next(status.health for status in router.status().pods if status.pod == pod)


def test_probes_find_a_frozen_pod_and_its_return():
    pod = PodProcess("pod-a")
    try:
        with Router([Pod("pod-a", grpc=pod.address)]) as router:
            assert router.is_probing
            pod.freeze()
            until(lambda: health(router, "pod-a") == "down", "the frozen pod is found")
            pod.thaw()
            until(lambda: health(router, "pod-a") == "up", "the pod is back")
    finally:
        pod.close()


def test_a_connect_probe_asks_no_more_than_a_connection():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        options = HealthOptions(probe="connect", interval_seconds=0.01)
        with Router([Pod("pod-a", grpc=address)], health=options) as router:
            listener.settimeout(30)
            for _ in range(3):
                listener.accept()[0].close()
            assert health(router, "pod-a") == "up"
            listener.close()
            until(lambda: health(router, "pod-a") == "down", "nobody listens")


def test_closing_ends_the_probes_and_nothing_else():
    router = Router([Pod("pod-a", grpc="127.0.0.1:1")])
    until(lambda: not router.has_pod_up, "nobody listens at port 1")
    router.close()
    router.close()
    router.report("pod-a", "alive")
    with router.acquire("k") as route:
        assert route.reason == "owner"
