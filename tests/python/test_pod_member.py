"""A member of a real cluster, in this process: what its guard admits, and when it stops."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import hashroute
import hashroute.pod
import pytest
from hashroute import Pod
from hashroute.cluster import LEASES, Lease
from hashroute.config.quorum import LeaseSection, QuorumSection
from hashroute.config.settings import lease_of
from hashroute.pod import Member

from tests.integration.clusters import CLUSTER, Cluster, free_address, key_of, until_epoch
from tests.integration.processes import SECONDS_MAX, until

GROUPS = {"gateway": ["pod-a", "pod-b"]}


@pytest.fixture
def cluster(tmp_path):
    with Cluster(tmp_path, groups=GROUPS) as cluster:
        yield cluster


@pytest.fixture
def member(cluster):
    return cluster.join("pod-a")


def refused(admit, kind):
    with pytest.raises(kind) as caught:
        admit()
    error = caught.value
    assert isinstance(error, hashroute.WriteRefusedError)
    assert error.outcome == "not_applied"
    return error


def ring_of(member):
    assert member.ring is not None
    return member.ring


class TestJoining:
    def test_a_member_owns_its_share_and_says_so(self, cluster, member):
        status = member.status()
        assert (status.pod, status.is_named, status.holds_lease) == ("pod-a", True, True)
        assert status.slots == 1024
        assert status.groups == ("gateway",)
        assert status.lease_margin_seconds > 0
        assert member.owns("AAPL")
        record = member.record
        assert record.writers == {"pod-a": status.incarnation}
        assert [voter.address for voter in record.voters] == cluster.addresses
        assert [group.leader for group in record.groups] == ["pod-a"]
        assert member.ring.digest == record.digest
        assert member.ring.epoch == record.epoch
        assert "pod-a" in repr(member)

    def test_a_pod_that_the_record_does_not_know_is_added(self, cluster, member):
        newcomer = cluster.join(Pod("pod-z", weight=2.0, zone="r", grpc="127.0.0.1:1"))
        until_epoch(member, newcomer.record.epoch)
        pod = next(pod for pod in member.record.pods if pod.id == "pod-z")
        assert pod == Pod("pod-z", weight=2.0, zone="r", grpc="127.0.0.1:1")
        owned = key_of(ring_of(newcomer), "pod-z")
        assert newcomer.owns(owned)
        assert not member.owns(owned)

    def test_who_hears_of_no_record_says_what_to_look_at(self):
        with hashroute.pod.join(
            cluster=CLUSTER,
            voters=[free_address()],
            pod=Pod("pod-a"),
            stall_check_seconds=0,
            priority="ordinary",
            force=True,
        ) as member:
            assert (member.record, member.ring, member.owns("AAPL")) == (None, None, False)
            assert member.status().epoch == 0
            for admit in (lambda: member.guard.admit("AAPL"), lambda: member.guard.admit(slot=1)):
                assert refused(admit, hashroute.NoLeaseError).epoch == 0
            with pytest.raises(hashroute.NoLeaseError, match=r"no voter has told .* quorum init"):
                member.wait_until_writing(0.2)

    def test_a_process_of_another_cluster_is_not_let_in(self, cluster):
        with hashroute.pod.join(
            cluster="another",
            voters=cluster.addresses,
            pod=Pod("pod-a"),
            stall_check_seconds=0,
            priority="ordinary",
            force=True,
        ) as stranger:
            until(lambda: stranger.status().warnings, "the member says what is wrong")
            assert stranger.record is None

    def test_a_configuration_makes_a_member(self, cluster, tmp_path):
        file = tmp_path / "hashroute.toml"
        file.write_text(
            f"""
            [pods.pod-a]
            grpc = "127.0.0.1:1"
            [quorum]
            cluster = "{CLUSTER}"
            voters = ["{cluster.addresses[0]}"]
            pod = "pod-a"
            lease = "slow"
            priority = "ordinary"
            stall_check = "0ms"
            force = true
            """,
            encoding="utf-8",
        )
        with Member.from_config(file) as member:
            member.wait_until_writing(SECONDS_MAX)
            assert member.owns("AAPL")
            assert member.record.pods[0].grpc == "127.0.0.1:1"

    def test_a_configuration_without_a_member_is_refused(self, tmp_path):
        file = tmp_path / "hashroute.toml"
        file.write_text('[listen]\ngrpc = "127.0.0.1:0"\n[pods.a]\ngrpc = "127.0.0.1:1"\n', "utf-8")
        with pytest.raises(hashroute.ConfigurationError, match=r"no member .* \[quorum\]"):
            Member.from_config(file)

    @pytest.mark.parametrize(
        ("wrong", "kind"),
        [
            ({"lease": "quick"}, hashroute.ParameterError),
            (
                {"lease": Lease(ttl_seconds=0.05, renewal_interval_seconds=0.05)},
                hashroute.SettingError,
            ),
            ({"voters": "127.0.0.1:1"}, hashroute.ArgumentTypeError),
            ({"voters": []}, hashroute.SettingError),
            ({"voters": ["nowhere"]}, hashroute.SettingError),
            ({"stale_after_seconds": float("nan")}, hashroute.ParameterError),
            ({"listen": "127.0.0.1:0"}, hashroute.SettingError),
            ({"cluster": ""}, hashroute.SettingError),
            ({"pod": Pod("")}, hashroute.PodIdError),
        ],
    )
    def test_what_says_nothing_is_refused_before_anything_starts(self, wrong, kind):
        arguments = {"cluster": CLUSTER, "voters": ["127.0.0.1:1"], "pod": Pod("pod-a")}
        with pytest.raises(kind):
            hashroute.pod.join(**(arguments | wrong))

    def test_the_named_leases_are_those_of_the_configuration(self):
        for name, lease in LEASES.items():
            section = QuorumSection(cluster="c", lease=name).lease
            assert isinstance(section, LeaseSection)
            numbers = lease_of(section)
            assert numbers["ttl_us"] == round(lease.ttl_seconds * 1e6)
            assert numbers["renewal_interval_us"] == round(lease.renewal_interval_seconds * 1e6)
            assert numbers["drift_ppm"] == lease.drift_ppm
            assert numbers["margin_us"] == round(lease.margin_seconds * 1e6)


class TestAdmission:
    def test_an_admitted_write_has_the_term_of_what_it_writes(self, member):
        record = member.record
        with member.guard.admit("AAPL") as admission:
            assert (admission.term, admission.epoch) == (record.epoch, record.epoch)
            assert admission.is_valid
            assert member.status().under_way == 1
        assert not admission.is_valid
        assert member.status().under_way == 0
        assert member.status().admitted == 1
        with pytest.raises(hashroute.ClosedError), admission:
            pass

    async def test_it_is_an_asynchronous_context_too(self, member):
        async with member.guard.admit("AAPL") as admission:
            assert admission.is_valid
        assert not admission.is_valid

    def test_a_block_that_raises_ends_the_write(self, member):
        with pytest.raises(ValueError, match="broken"), member.guard.admit("AAPL"):
            raise ValueError("broken")
        assert member.status().under_way == 0

    def test_key_slot_and_group_say_what_is_written(self, member):
        guard = member.guard
        slot = guard.slot("AAPL")
        assert slot == ring_of(member).slot("AAPL")
        for admit in (
            lambda: guard.admit("AAPL"),
            lambda: guard.admit(b"AAPL"),
            lambda: guard.admit(slot=slot),
            lambda: guard.admit(group="gateway"),
        ):
            admit().release()

    def test_a_write_of_another_pods_key_is_told_whose_it_is(self, cluster, member):
        other = cluster.join("pod-b")
        until_epoch(member, other.record.epoch)
        ring = ring_of(member)
        key = key_of(ring, "pod-b")
        error = refused(lambda: member.guard.admit(key), hashroute.NotOwnerError)
        assert (error.code, error.owner, error.slot) == ("not_owner", "pod-b", ring.slot(key))
        assert error.epoch == member.record.epoch
        assert error.retry
        other.guard.admit(key).release()
        error = refused(lambda: other.guard.admit(group="gateway"), hashroute.NotOwnerError)
        assert (error.group, error.owner, error.slot) == ("gateway", "pod-a", None)
        error = refused(lambda: member.guard.admit(group="no such"), hashroute.NotOwnerError)
        assert error.owner is None

    def test_a_write_that_was_routed_by_an_older_owner_is_stale(self, member):
        with member.guard.admit("AAPL") as admission:
            term, epoch = admission.term, admission.epoch
        error = refused(
            lambda: member.guard.admit("AAPL", epoch=epoch - 1, term=term - 1),
            hashroute.StaleTermError,
        )
        assert (error.term, error.got, error.epoch) == (term, term - 1, epoch)
        # An unrelated change of the record refuses nothing.
        member.guard.admit("AAPL", epoch=epoch - 1, term=term).release()

    def test_a_pod_that_is_behind_its_sender_says_so(self, member):
        epoch = member.record.epoch
        error = refused(
            lambda: member.guard.admit("AAPL", epoch=epoch + 1, term=epoch), hashroute.BehindError
        )
        assert (error.epoch, error.got) == (epoch, epoch + 1)

    def test_refusals_are_counted_by_their_word(self, member):
        epoch = member.record.epoch
        for _ in range(3):
            refused(
                lambda: member.guard.admit("AAPL", epoch=epoch + 1, term=epoch),
                hashroute.BehindError,
            )
        assert member.status().refused["behind"] == 3

    @pytest.mark.parametrize(
        "wrong",
        [
            {},
            {"key": "AAPL", "slot": 1},
            {"slot": 1024},
            {"slot": -1},
            {"group": ""},
            {"key": "AAPL", "epoch": 1},
            {"key": "AAPL", "term": 1},
            {"key": "AAPL", "epoch": -1, "term": 1},
        ],
    )
    def test_what_says_nothing_is_a_mistake_of_the_caller(self, member, wrong):
        with pytest.raises(hashroute.ParameterError):
            member.guard.admit(**wrong)

    @pytest.mark.parametrize("wrong", [{"slot": "1"}, {"group": 7}])
    def test_of_another_type_it_is_one_too(self, member, wrong):
        with pytest.raises(hashroute.ArgumentTypeError):
            member.guard.admit(**wrong)

    def test_a_key_that_is_none_is_refused_as_by_the_ring(self, member):
        with pytest.raises(hashroute.KeyTypeError):
            member.guard.admit(1.5)

    def test_many_threads_are_admitted_at_once_and_all_are_counted(self, member):
        together = threading.Barrier(4)

        def write(number):
            together.wait(SECONDS_MAX)
            for turn in range(2_000):
                with member.guard.admit(f"{number} {turn}") as admission:
                    assert admission.is_valid

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, range(4)))
        status = member.status()
        assert (status.admitted, status.under_way) == (8_000, 0)


class TestEnding:
    def test_without_a_voter_writing_ends_with_the_lease_and_begins_again_with_one(
        self, cluster, member
    ):
        admission = member.guard.admit("AAPL")
        assert admission.is_valid
        cluster.voters[0].stop(0.0)

        def is_refused():
            try:
                member.guard.admit("AAPL").release()
            except hashroute.NoLeaseError:
                return True
            return False

        until(is_refused, "writes are refused")
        assert not admission.is_valid
        assert not member.status().holds_lease
        admission.release()
        cluster.vote(0)
        member.wait_until_writing(SECONDS_MAX)
        member.guard.admit("AAPL").release()

    def test_a_drained_pod_hands_everything_over(self, cluster, member):
        other = cluster.join("pod-b")
        epoch = member.drain(SECONDS_MAX)
        until_epoch(member, epoch)
        until_epoch(other, epoch)
        error = refused(lambda: member.guard.admit("AAPL"), hashroute.NotOwnerError)
        assert error.owner == "pod-b"
        with other.guard.admit("AAPL") as admission:
            assert admission.term == epoch or other.record.writers.keys() >= {"pod-b"}
        assert member.status().slots == 0
        assert member.status().is_named

    def test_a_hand_over_waits_for_the_writes_under_way(self, cluster, member):
        other = cluster.join("pod-b")
        until_epoch(member, other.record.epoch)
        key = key_of(ring_of(member), "pod-a")
        with ThreadPoolExecutor(1) as pool:
            with member.guard.admit(key) as admission:
                drained = pool.submit(member.drain, SECONDS_MAX)
                # From when it is asked for its release, the pod admits nothing more of the kind.
                error = until(lambda: moving(member, key), "the key is on its way")
                assert (error.code, error.slot) == ("moving", ring_of(member).slot(key))
                refused(lambda: other.guard.admit(key), hashroute.NotOwnerError)
                assert admission.is_valid
                assert not drained.done()
            epoch = drained.result(SECONDS_MAX)
        until_epoch(other, epoch)
        with other.guard.admit(key) as after:
            assert after.term == epoch > admission.term

    def test_who_leaves_waits_for_the_writes_under_way_and_gives_the_lease_back(
        self, cluster, member
    ):
        other = cluster.join("pod-b")
        until_epoch(member, other.record.epoch)
        key = key_of(ring_of(member), "pod-a")
        admission = member.guard.admit(key)
        with ThreadPoolExecutor(1) as pool:
            left = pool.submit(member.leave, SECONDS_MAX)
            until(lambda: closed(member, key), "nothing more is admitted")
            assert not left.done()
            admission.release()
            assert left.result(SECONDS_MAX)
        until(lambda: other.owns(key), "the other pod owns the key")
        with other.guard.admit(key) as after:
            assert after.term > admission.term
        assert member.leave()
        for ask in (member.status, lambda: member.drain(0.1)):
            with pytest.raises(hashroute.ClosedError):
                ask()

    def test_a_write_that_does_not_end_is_not_waited_for_for_ever(self, member):
        admission = member.guard.admit("AAPL")
        assert not member.leave(0.1)
        assert not admission.is_valid
        admission.release()

    def test_at_the_end_of_its_block_a_member_leaves(self, cluster):
        with cluster.join("pod-a") as member:
            pass
        with pytest.raises(hashroute.ClosedError):
            member.status()

    async def test_the_block_may_be_asynchronous(self, cluster):
        async with cluster.join("pod-a") as member:
            assert member.owns("AAPL")
        with pytest.raises(hashroute.ClosedError):
            member.status()

    def test_the_next_process_of_a_pod_writes_under_another_term(self, cluster, member):
        with member.guard.admit("AAPL") as admission:
            term = admission.term
        member.leave()
        with cluster.join("pod-a").guard.admit("AAPL") as admission:
            assert admission.term > term


class TestThreeVoters:
    def test_one_of_three_voters_may_be_lost(self, tmp_path):
        with Cluster(tmp_path, voters=3) as cluster:
            member = cluster.join("pod-a")
            cluster.voters[0].stop(0.0)
            other = cluster.join("pod-b")
            until_epoch(member, other.record.epoch)
            ring = ring_of(member)
            member.guard.admit(key_of(ring, "pod-a")).release()
            other.guard.admit(key_of(ring, "pod-b")).release()
            assert not member.status().is_stale

    def test_a_dead_pods_slots_are_written_by_another_under_a_higher_term(self, tmp_path):
        with Cluster(tmp_path, voters=3, lease="default") as cluster:
            member, other = cluster.join("pod-a"), cluster.join("pod-b")
            until_epoch(member, other.record.epoch)
            key = key_of(ring_of(member), "pod-a")
            held = member.guard.admit(key)
            # It neither releases nor renounces: what was admitted has not ended.
            assert not member.leave(0.0)
            until(lambda: other.owns(key), "the other pod owns the key")
            assert not held.is_valid
            with other.guard.admit(key) as admission:
                assert admission.term > held.term
            held.release()


def moving(member, key):
    try:
        member.guard.admit(key).release()
    except hashroute.MovingError as error:
        return error
    return None


def closed(member, key):
    try:
        member.guard.admit(key).release()
    except hashroute.NoLeaseError:
        return True
    return False
