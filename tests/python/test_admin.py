"""The admin pages tell the truth, to GET and HEAD alone, within bounds."""

from __future__ import annotations

import http.client
import json
import re
import socket
from typing import TYPE_CHECKING

import pytest
from hashroute import Ring, admin
from hashroute.admin import AdminServer
from hashroute.errors import StartError
from hashroute.pages import SidecarPages
from prometheus_client.parser import text_string_to_metric_families

from tests.python.sidecar_double import CONFIGURATION, SidecarDouble, controller_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from hashroute.control import Controller

SECONDS_MAX = 20


class Site:
    """A served stand-in, and a client of it."""

    def __init__(self, controller: Controller, sidecar: SidecarDouble) -> None:
        self.controller, self.sidecar = controller, sidecar
        self.server = AdminServer(SidecarPages(controller), "127.0.0.1:0")
        host, _, port = self.server.address.rpartition(":")
        self.place = (host, int(port))

    def ask(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[int, dict[str, str], str]:
        connection = http.client.HTTPConnection(*self.place, timeout=SECONDS_MAX)
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, {k.lower(): v for k, v in answer.getheaders()}, body

    def json(self, path: str) -> tuple[int, dict[str, object]]:
        status, headers, body = self.ask(path)
        assert headers["content-type"] == "application/json"
        return status, json.loads(body)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(*controller_of(tmp_path / "hashroute.toml"))
    yield site
    site.server.stop()


def test_it_is_live_while_its_loops_turn(site: Site) -> None:
    assert site.json("/livez") == (200, {"live": True, "reasons": []})
    site.sidecar.loop_age_ms["zmq"] = 1_001
    status, answer = site.json("/livez")
    assert status == 503
    assert answer["reasons"] == ["zmq has not turned for 1001 ms"]


def test_it_is_ready_while_each_transport_has_a_pod_that_takes_requests(site: Site) -> None:
    assert site.json("/readyz") == (200, {"ready": True, "reasons": []})
    site.sidecar.health = {(f"pod-{name}", "zmq"): "down" for name in "abc"}
    assert site.json("/readyz") == (503, {"ready": False, "reasons": ["no pod is up for zmq"]})
    site.sidecar.health = {("pod-a", "grpc"): "down", ("pod-b", "zmq"): "down"}
    assert site.json("/readyz")[0] == 200
    site.controller.drain("pod-b")
    site.controller.drain("pod-c")
    assert site.json("/readyz")[1]["reasons"] == ["no pod is up for grpc"]


def test_a_sidecar_that_stops_is_not_ready_and_still_live(site: Site) -> None:
    site.controller.stop(0.0)
    assert site.json("/readyz")[1]["reasons"] == ["the sidecar is stopping"]
    assert site.json("/livez")[0] == 200


def test_metrics_have_the_names_and_values_of_the_contract(site: Site) -> None:
    site.sidecar.health[("pod-b", "grpc")] = "down"
    site.sidecar.in_flight["pod-a"] = 9
    status, headers, text = site.ask("/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    samples = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }

    def value(name: str, **labels: str) -> float:
        return samples[(name, tuple(sorted(labels.items())))]

    assert value("hashroute_requests_total", transport="grpc", code="OK") == 5
    assert value("hashroute_requests_total", transport="zmq", code="UNAVAILABLE") == 2
    seconds = "hashroute_request_duration_seconds"
    assert value(f"{seconds}_bucket", transport="grpc", le="0.01") == 5
    assert value(f"{seconds}_bucket", transport="grpc", le="+Inf") == 6
    assert value(f"{seconds}_count", transport="grpc") == 6
    assert value(f"{seconds}_sum", transport="grpc") == 0.025
    assert value("hashroute_pod_up", pod="pod-a", transport="grpc") == 1
    assert value("hashroute_pod_up", pod="pod-b", transport="grpc") == 0
    assert value("hashroute_pod_up", pod="pod-b", transport="zmq") == 1
    assert value("hashroute_pod_in_flight", pod="pod-a", transport="grpc") == 9
    assert value("hashroute_pod_share", pod="pod-a") == site.controller.ring.shares()["pod-a"]
    assert value("hashroute_pod_state", pod="pod-a", state="active") == 1
    requests = {"pod": "pod-a", "transport": "grpc"}
    assert value("hashroute_pod_requests_total", result="error", **requests) == 1
    assert value("hashroute_retries_total") == 3
    assert value("hashroute_retry_budget_exhausted_total") == 1
    assert value("hashroute_refused_total") == 4
    assert value("hashroute_connections", transport="zmq") == 2
    assert value("hashroute_view_epoch") == 1
    assert value("hashroute_loop_age_seconds", loop="probe") == 0.003
    site.controller.drain("pod-a")
    assert "hashroute_view_epoch 2.0" in site.ask("/metrics")[2]


def test_metrics_come_as_openmetrics_to_who_asks(site: Site) -> None:
    _, headers, text = site.ask("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


def test_names_of_pods_cannot_break_the_metrics(tmp_path: Path) -> None:
    name = 'a"}\\x{b'
    table = f"[pods.'{name}']\ngrpc = '127.0.0.1:1'\n"
    site = Site(*controller_of(tmp_path / "hashroute.toml", CONFIGURATION + table))
    families = text_string_to_metric_families(site.ask("/metrics")[2])
    names = {s.labels.get("pod") for family in families for s in family.samples}
    site.server.stop()
    assert name in names


def test_the_ring_is_what_decides_the_mapping(site: Site) -> None:
    status, answer = site.json("/ring")
    assert status == 200
    ring = Ring.from_json(json.dumps(answer["view"]))
    assert ring == site.controller.ring
    assert answer["digest"] == ring.digest
    assert answer["shares"] == ring.shares()


def test_the_status_page_is_the_status(site: Site) -> None:
    status, answer = site.json("/status")
    assert status == 200
    assert answer.keys() == site.controller.status().keys()


def test_the_live_page_is_self_contained_and_writes_no_markup(site: Site) -> None:
    status, headers, page = site.ask("/")
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert re.findall(r"""(?:src|href)\s*=\s*["']?(?!/)[^"'\s>]+""", page) == []
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", page) == []
    used = set(re.findall(r"(?:pod|status|status\.totals)\.([a-z_]+)", page)) - {"totals"}
    known = {*site.controller.status(), *site.controller.status()["pods"][0]}
    known |= {*site.controller.status()["totals"]}
    assert used <= known, "the page reads a figure that the status does not have"


@pytest.mark.parametrize("path", ["/nope", "/ring/", "/../etc/passwd", "/%2e%2e"])
def test_another_path_is_not_found(site: Site, path: str) -> None:
    assert site.ask(path)[0] == 404


def test_a_query_changes_nothing(site: Site) -> None:
    assert site.ask("/livez?verbose=1")[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "BREW"])
def test_another_method_is_not_allowed(site: Site, method: str) -> None:
    status, headers, _ = site.ask("/ring", method)
    assert status == 405
    assert headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/", "/livez", "/readyz", "/metrics", "/ring", "/nope"])
def test_head_has_the_head_of_get_and_no_body(site: Site, path: str) -> None:
    def exchanged(method: str) -> tuple[bytes, bytes]:
        with socket.create_connection(site.place, timeout=SECONDS_MAX) as connection:
            connection.sendall(f"{method} {path} HTTP/1.0\r\n\r\n".encode())
            head, _, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(
                b"\r\n\r\n"
            )
        return re.sub(rb"(Date|Content-Length): [^\r]*", rb"\1", head), body

    head, body = exchanged("GET")
    assert body
    assert exchanged("HEAD") == (head, b"")


def test_connections_are_bounded_and_silent_ones_make_room(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admin, "CONNECTION_SECONDS_MAX", 1.0)
    # A caller that sends a byte now and then never runs into the time of one read.
    monkeypatch.setattr(admin._Handler, "timeout", None)
    silent = [
        socket.create_connection(site.place, timeout=SECONDS_MAX)
        for _ in range(admin.CONNECTIONS_MAX)
    ]
    assert site.ask("/livez")[0] == 200, "it waited for a place"
    assert silent[0].recv(1) == b"", "the oldest was cut to make one"
    for connection in silent:
        connection.close()


def test_stopping_does_not_wait_for_silent_connections(site: Site) -> None:
    silent = [
        socket.create_connection(site.place, timeout=SECONDS_MAX)
        for _ in range(2 * admin.CONNECTIONS_MAX)
    ]
    site.server.stop()
    assert silent[0].recv(1) == b""
    for connection in silent:
        connection.close()


@pytest.mark.parametrize(
    "garbage", [b"\x00\xff\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"]
)
def test_garbage_is_answered_or_cut_and_disturbs_nobody(site: Site, garbage: bytes) -> None:
    with socket.create_connection(site.place, timeout=SECONDS_MAX) as connection:
        connection.sendall(garbage)
        while connection.recv(4096):
            pass
    assert site.ask("/livez")[0] == 200


def test_a_port_in_use_is_a_clear_error(site: Site) -> None:
    with pytest.raises(StartError, match=r"listen\.admin") as raised:
        AdminServer(SidecarPages(site.controller), site.server.address)
    assert raised.value.address == site.server.address


def test_stopping_frees_the_port(site: Site) -> None:
    site.server.stop()
    again = AdminServer(SidecarPages(site.controller), site.server.address)
    again.stop()
