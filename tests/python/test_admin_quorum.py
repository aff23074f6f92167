"""With a quorum the admin pages tell of readiness for writes, of leases, and of trouble."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest
from hashroute.pages import SidecarPages, VoterPages
from prometheus_client.parser import text_string_to_metric_families

from tests.python.node_double import NodeDouble, voter_of
from tests.python.quorum_double import ADDRESSES, view_of
from tests.python.sidecar_double import CONFIGURATION, QUORUM, SidecarDouble, controller_of

if TYPE_CHECKING:
    from pathlib import Path

    from hashroute.control import Controller
    from hashroute.pages import Pages
    from hashroute.voter import Voter


@pytest.fixture
def both(tmp_path: Path) -> tuple[Controller, SidecarDouble]:
    return controller_of(tmp_path / "hashroute.toml", CONFIGURATION + QUORUM)


@pytest.fixture
def witness(tmp_path: Path) -> tuple[Voter, NodeDouble]:
    return voter_of(tmp_path / "witness.toml")


def asked(pages: Pages, path: str) -> tuple[int, dict[str, Any]]:
    answer = pages.get(path, "")
    return int(answer.status), json.loads(answer.body)


def samples(pages: Pages) -> dict[str, float]:
    """Returns the metrics as `name{label=value}` -> value."""
    text = pages.get("/metrics", "").body.decode()
    return {
        sample.name
        + (f"{{{','.join(sample.labels.values())}}}" if sample.labels else ""): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_member_with_a_lease_is_ready_and_publishes_its_promise(both) -> None:
    controller, _ = both
    facts = {"ready": True, "reasons": [], "reads": True, "writes": True}
    assert asked(SidecarPages(controller), "/readyz") == (
        *(HTTPStatus.OK, facts | {"recovery_promise_ms": 480.0}),
    )


def test_a_member_without_a_lease_is_ready_for_reads_alone(both) -> None:
    controller, sidecar = both
    sidecar.cluster.without_lease.add("pod-a")
    pages = SidecarPages(controller)
    status, facts = asked(pages, "/readyz")
    assert status == HTTPStatus.SERVICE_UNAVAILABLE
    assert (facts["reads"], facts["writes"]) == (True, False)
    assert facts["reasons"] == ["pod-a holds no lease: its writes are refused, reads go on"]
    assert asked(pages, "/readyz/reads") == (HTTPStatus.OK, {"ready": True, "reasons": []})


@pytest.mark.parametrize("what", ["stale", "not founded"])
def test_a_router_is_ready_for_writes_while_it_knows_the_record(tmp_path: Path, what: str) -> None:
    text = CONFIGURATION + QUORUM.replace('pod = "pod-a"\n', "")
    controller, sidecar = controller_of(tmp_path / "hashroute.toml", text)
    pages = SidecarPages(controller)
    assert asked(pages, "/readyz")[0] == HTTPStatus.OK
    if what == "stale":
        sidecar.cluster.is_stale = True
    else:
        sidecar.cluster.record = None
    status, facts = asked(pages, "/readyz")
    assert (status, facts["reads"], facts["writes"]) == (503, True, False)
    assert {"stale": "marked stale", "not founded": "not founded yet"}[what] in facts["reasons"][0]
    assert asked(pages, "/readyz/reads")[0] == HTTPStatus.OK


def test_a_thread_that_keeps_no_lease_any_more_is_not_live(both, witness) -> None:
    for pages, double in (
        (SidecarPages(both[0]), both[1]),
        (VoterPages(witness[0]), witness[1]),
    ):
        assert asked(pages, "/livez")[0] == HTTPStatus.OK
        double.cluster.is_silent = True
        status, facts = asked(pages, "/livez")
        assert status == HTTPStatus.SERVICE_UNAVAILABLE
        assert facts["reasons"] == ["the thread that keeps the lease does not answer"]
        assert "does not answer" in asked(pages, "/readyz")[1]["reasons"][0]


def test_reads_need_a_pod_as_ever(both) -> None:
    controller, sidecar = both
    sidecar.health = {(f"pod-{name}", "grpc"): "down" for name in "abc"}
    for path in ("/readyz", "/readyz/reads"):
        status, facts = asked(SidecarPages(controller), path)
        assert (status, facts["reasons"]) == (503, ["no pod is up for grpc"])


def test_metrics_have_the_names_and_units_of_the_contract(both) -> None:
    controller, _ = both
    wanted = {
        "hashroute_quorum_epoch": 1,
        "hashroute_quorum_is_stale": 0,
        "hashroute_lease_held": 1,
        "hashroute_lease_age_seconds": 90.0,
        "hashroute_lease_margin_seconds": 0.2405,
        "hashroute_lease_margin_least_seconds": 0.201,
        "hashroute_renewal_duration_seconds{0.5}": 0.0006,
        "hashroute_renewal_duration_seconds{0.99}": 0.0018,
        "hashroute_elections_total": 2,
        "hashroute_writes_admitted_total": 40,
        "hashroute_writes_under_way": 1,
        "hashroute_writes_refused_total{not-owner}": 3,
        "hashroute_writes_refused_total{no-lease}": 0,
        "hashroute_writes_repeated_total": 5,
        "hashroute_writes_given_up_total": 1,
        "hashroute_writes_refused_by_pods_total{not-owner}": 4,
        "hashroute_reads_stale_total": 2,
        "hashroute_guard_passed_total": 8,
        "hashroute_guard_turned_away_total": 1,
        "hashroute_guard_answers_total{OK,grpc}": 48,
        "hashroute_guard_connections{grpc}": 2,
        "hashroute_guard_in_flight{grpc}": 1,
        "hashroute_recovery_promise_seconds": 0.48,
        "hashroute_stall_worst_seconds": 0.0045,
        "hashroute_stall_budget_seconds": 0.2374,
        "hashroute_lease_thread_is_realtime": 1,
        f"hashroute_voter_connected{{{ADDRESSES[1]}}}": 1,
        f"hashroute_voter_round_trip_seconds{{{ADDRESSES[1]}}}": 0.0004,
        f"hashroute_voter_clock_drift_ppm{{{ADDRESSES[1]}}}": 3,
    }
    found = samples(SidecarPages(controller))
    assert {name: found.get(name) for name in wanted} == pytest.approx(wanted)
    assert not any(name.startswith("hashroute_voter_sync") for name in found), "it has no voter"


def test_what_is_not_known_is_absent_from_the_metrics(both) -> None:
    controller, sidecar = both
    sidecar.cluster.without_lease.add("pod-a")
    sidecar.cluster.unreachable.add(ADDRESSES[1])
    found = samples(SidecarPages(controller))
    assert found["hashroute_lease_held"] == 0
    assert "hashroute_lease_margin_seconds" not in found
    assert found[f"hashroute_voter_connected{{{ADDRESSES[1]}}}"] == 0
    assert f"hashroute_voter_round_trip_seconds{{{ADDRESSES[1]}}}" not in found


def test_without_a_quorum_there_are_no_figures_of_one(tmp_path: Path) -> None:
    controller, _ = controller_of(tmp_path / "hashroute.toml")
    found = samples(SidecarPages(controller))
    assert not [name for name in found if "quorum" in name or "lease" in name]


def test_the_ring_page_shows_a_cluster_that_nobody_has_joined(both) -> None:
    controller, sidecar = both
    pods = ("pod-a", "pod-b", "pod-c")
    sidecar.cluster.record |= {"view": view_of(*pods, down=pods), "digest": None}
    status, facts = asked(SidecarPages(controller), "/ring")
    assert status == HTTPStatus.OK
    assert (facts["digest"], facts["shares"]) == ("", dict.fromkeys(pods, 0.0))


def test_the_live_page_reads_no_figure_that_a_node_does_not_have(both) -> None:
    controller, _ = both
    page = SidecarPages(controller).get("/", "").body.decode()
    node = controller.status()["quorum"]
    parts = {
        "node": node,
        "record": node["record"],
        "member": node["member"],
        "voter": node["voters"][0],
        "group": node["record"]["groups"][0],
    }
    for name, figures in parts.items():
        used = set(re.findall(rf"\b{name}\.([a-z_]+)", page))
        assert used, f"the page shows nothing of {name}"
        assert used <= {*figures}, name


def test_a_witness_is_ready_when_it_votes(witness) -> None:
    voter, node = witness
    pages = VoterPages(voter)
    facts = {"ready": True, "reasons": [], "recovery_promise_ms": 480.0}
    assert asked(pages, "/readyz") == (HTTPStatus.OK, facts)
    assert asked(pages, "/livez")[0] == HTTPStatus.OK
    node.cluster.ids[ADDRESSES[2]] = "0" * 32
    assert "does not name this voter" in asked(pages, "/readyz")[1]["reasons"][0]
    node.cluster.is_stale = True
    assert asked(pages, "/readyz")[1]["reasons"] == ["no majority of voters is heard"]
    node.cluster.record = None
    assert "not founded yet" in asked(pages, "/readyz")[1]["reasons"][0]
    voter.stop(0.0)
    assert asked(pages, "/readyz")[1]["reasons"] == ["the voter is stopping"]


def test_the_metrics_of_a_witness_are_those_of_its_disk_and_of_who_follows(witness) -> None:
    voter, node = witness
    node.cluster.routers = {"desk:1": 1, "desk:2": 0}
    wanted = {
        "hashroute_quorum_epoch": 1,
        "hashroute_voter_is_voter": 1,
        "hashroute_voter_grants_total": 1200,
        "hashroute_voter_refusals_total{behind}": 1,
        "hashroute_voter_syncs_total": 7,
        "hashroute_voter_sync_seconds{0.5}": 0.0004,
        "hashroute_voter_sync_seconds{0.99}": 0.00125,
        "hashroute_routers_following": 2,
        "hashroute_routers_stale": 1,
    }
    found = samples(VoterPages(voter))
    assert {name: found.get(name) for name in wanted} == pytest.approx(wanted)
    assert "hashroute_lease_held" not in found
    assert "hashroute_uptime_seconds" in found


@pytest.mark.parametrize("path", ["/", "/ring", "/nope"])
def test_a_witness_has_no_pages_of_a_sidecar(witness, path: str) -> None:
    answer = VoterPages(witness[0]).get(path, "")
    assert answer.status == HTTPStatus.NOT_FOUND
    assert b"/livez, /metrics, /readyz, /status" in answer.body
