"""The native sidecar as Python holds it: its life, and what each call says after its end."""

from __future__ import annotations

import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import hashroute
import pytest
from hashroute._hashroute import Sidecar

from tests.integration.processes import SECONDS_MAX
from tests.integration.zmq_peers import Pod, settings


@pytest.fixture
def pod():
    pod = Pod("pod-a")
    yield pod
    pod.close()


@pytest.fixture
def sidecar(pod):
    sidecar = Sidecar(json.dumps(both(pod)))
    yield sidecar
    sidecar.stop(0)


def both(pod, **changes):
    return settings([pod], listen={"grpc": "127.0.0.1:0"}, **changes)


def test_the_addresses_are_those_really_listened_on(sidecar):
    addresses = sidecar.addresses()
    for address in (addresses["grpc"], addresses["zmq"].removeprefix("tcp://")):
        host, port = address.split(":")
        assert port != "0"
        socket.create_connection((host, int(port)), SECONDS_MAX).close()


def test_a_transport_that_is_off_has_no_address(pod):
    sidecar = Sidecar(json.dumps(settings([pod], listen={"grpc": None})))
    assert sidecar.addresses()["grpc"] is None
    assert sidecar.stop(1.0)


def test_the_snapshot_shows_the_view_in_force(pod, sidecar):
    before = json.loads(sidecar.snapshot())
    assert (before["epoch"], [entry["id"] for entry in before["pods"]]) == (1, ["pod-a"])
    changed = both(pod)
    changed["view"]["epoch"] = 7
    sidecar.apply(json.dumps(changed))
    assert json.loads(sidecar.snapshot())["epoch"] == 7


def test_bad_settings_change_nothing(pod, sidecar):
    for bad in ("{", json.dumps(both(pod, load={"c": 0.1}))):
        with pytest.raises(hashroute.SettingError):
            sidecar.apply(bad)
    assert json.loads(sidecar.snapshot())["epoch"] == 1


def test_an_error_of_the_view_keeps_its_own_class(pod):
    bad = both(pod)
    bad["view"]["pods"][0]["state"] = "down"
    with pytest.raises(hashroute.EmptyViewError, match="settings: view: none of the 1 pods"):
        Sidecar(json.dumps(bad))


def test_an_address_in_use_is_named(pod, sidecar):
    taken = sidecar.addresses()["grpc"]
    with pytest.raises(hashroute.StartError) as caught:
        Sidecar(json.dumps(both(pod) | {"listen": {"grpc": taken, "zmq": None}}))
    assert (caught.value.code, caught.value.address) == ("address_in_use", taken)


def test_a_stopped_sidecar_says_so_and_may_be_stopped_again(pod, sidecar):
    assert sidecar.stop(1.0)
    assert sidecar.stop(1.0)
    for call in (sidecar.snapshot, lambda: sidecar.apply(json.dumps(both(pod)))):
        with pytest.raises(hashroute.ClosedError, match="stopped"):
            call()
    # Where it listened is still worth saying.
    assert sidecar.addresses()["zmq"]


@pytest.mark.parametrize("grace", [-1, float("nan"), float("inf"), "long"])
def test_a_grace_is_a_time(sidecar, grace):
    with pytest.raises(hashroute.ConfigurationError):
        sidecar.stop(grace)


def test_many_threads_may_call_it_at_once(pod, sidecar):
    together = threading.Barrier(4)

    def call(number):
        together.wait(SECONDS_MAX)
        for _ in range(50):
            if number % 2:
                sidecar.apply(json.dumps(both(pod)))
            else:
                json.loads(sidecar.snapshot())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, range(4)))
