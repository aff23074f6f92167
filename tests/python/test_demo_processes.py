"""The demo's processes, for real: pods, model servers, and how they are started and ended."""

import asyncio
import io
import pathlib
import signal
import socket
import subprocess
import sys
import time

import grpc
import pytest
import zmq
import zmq.asyncio
from grpc import aio
from hashroute import Pod, Ring
from hashroute.demo.cluster import ModelServerProcess
from hashroute.demo.links import GrpcLink, RequestFailedError, ZmqLink
from hashroute.demo.live import PlainDisplay, pods_now
from hashroute.demo.processes import Children, DemoError, Ports
from hashroute.demo.recorder import Recorder
from hashroute.demo.records import OK, Event, Kind, Path, PodSample, Sample, Transport
from hashroute.demo.symbols import Symbols
from hashroute.demo.timeline import RACKS
from rich.console import Console


def module(name, *arguments):
    return [sys.executable, "-m", f"hashroute.demo.{name}", *arguments]


def python(code):
    return [sys.executable, "-c", code]


PATIENT = "import signal; signal.pause()"


async def start_pod(children, ports, name):
    pod = Pod(name, zone="rack-1", grpc=ports.address(), zmq=f"tcp://{ports.address()}")
    command = module("pod", "--name", name, "--grpc", pod.grpc, "--zmq", pod.zmq)
    return pod, await children.start_talker(name, command)


def until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline


def state(pid):
    """The letter for what a process does; Z if it is gone, or only unreaped."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def is_running(pid):
    return state(pid) != "Z"


class TestPorts:
    """An address belongs to the run, whoever listens on it in the meantime."""

    def test_a_held_port_can_be_listened_on_again_and_again(self):
        with Ports() as ports:
            host, port = ports.address().split(":")
            for _ in range(3):
                with socket.socket() as listener:
                    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    listener.bind((host, int(port)))
                    listener.listen()

    def test_nobody_is_listening_on_a_held_port(self):
        with Ports() as ports:
            host, port = ports.address().split(":")
            with socket.socket() as caller:
                assert caller.connect_ex((host, int(port))) != 0

    def test_a_held_port_is_not_handed_out_twice(self):
        with Ports() as ports:
            addresses = [ports.address() for _ in range(50)]
        assert len(set(addresses)) == 50


class TestChildren:
    """Whatever happens, no process is left behind."""

    @pytest.mark.parametrize("frozen", [False, True])
    async def test_all_are_gone_after_an_error(self, tmp_path, frozen):
        started = []

        async def fail():
            async with Children(tmp_path) as children:
                child = await children.start("child", python(PATIENT))
                started.append(child)
                if frozen:
                    child.freeze()
                    until(lambda: state(child.pid) == "T")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        (child,) = started
        assert not is_running(child.pid)
        # It was asked to end and heard it, frozen or not; nothing had to be killed.
        assert child._process.returncode == -signal.SIGTERM

    async def test_all_are_gone_even_if_their_end_is_interrupted(self, tmp_path, monkeypatch):
        async def interrupted(_child):
            raise asyncio.CancelledError

        monkeypatch.setattr("hashroute.demo.processes.Child.end", interrupted)
        children = Children(tmp_path)
        child = await children.start("child", python(PATIENT))
        with pytest.raises(asyncio.CancelledError):
            await children.__aexit__()
        await child.gone()

    async def test_one_that_does_not_listen_is_killed(self, tmp_path, monkeypatch):
        monkeypatch.setattr("hashroute.demo.processes.END_SECONDS_MAX", 0.1)
        deaf = (
            "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
            "print('{\"ready\":true}', flush=True); signal.pause(); signal.pause()"
        )
        async with Children(tmp_path) as children:
            child = await children.start_talker("deaf", python(deaf))
        assert not is_running(child.pid)

    async def test_one_that_ends_by_itself_is_reported_with_its_last_words(self, tmp_path):
        async with Children(tmp_path) as children:
            await children.start("brief", python("raise SystemExit('out of coffee')"))
            with pytest.raises(DemoError, match=r"(?s)brief ended by itself.*out of coffee"):
                await children.watch()

    async def test_one_that_is_killed_on_purpose_is_not_reported(self, tmp_path):
        async with Children(tmp_path) as children:
            victim = await children.start("victim", python(PATIENT))
            await victim.kill()
            await children.start("brief", python("raise SystemExit('out of coffee')"))
            with pytest.raises(DemoError, match="brief"):
                await children.watch()

    async def test_one_that_ends_before_it_is_ready_is_an_error(self, tmp_path):
        async with Children(tmp_path) as children:
            with pytest.raises(DemoError, match=r"(?s)exit code 1.*no such port"):
                await children.start_talker("pod", python("raise SystemExit('no such port')"))

    async def test_a_pod_ends_when_the_demo_is_gone(self, tmp_path):
        with Ports() as ports:
            async with Children(tmp_path) as children:
                _, process = await start_pod(children, ports, "pod-a")
                process._stdin.close()
                await asyncio.wait_for(process.gone(), 10)


def test_a_tethered_program_ends_when_its_parent_is_killed():
    tethered = f"subprocess.Popen({[*module('tether'), *python(PATIENT)]!r}).pid"
    parent = subprocess.Popen(
        python(f"import subprocess; print({tethered}, flush=True); {PATIENT}"),
        stdout=subprocess.PIPE,
        text=True,
    )
    with parent:
        try:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            # It is tethered once it has become the program; on its way there it has no words.
            words = pathlib.Path(f"/proc/{pid}/cmdline")
            until(lambda: (said := words.read_bytes()) and b"tether" not in said)
        finally:
            parent.kill()
    until(lambda: not is_running(pid))


class TestPod:
    """One service, two transports, the same answers."""

    @pytest.fixture
    async def pod(self, tmp_path):
        with Ports() as ports:
            async with Children(tmp_path) as children:
                pod, _ = await start_pod(children, ports, "pod-a")
                yield pod

    @pytest.mark.parametrize("transport", list(Transport))
    async def test_answers_carry_its_name(self, pod, transport):
        link = GrpcLink(pod.grpc) if transport is Transport.GRPC else ZmqLink(pod.zmq)
        assert (await link.ask("NVDA")).pod == "pod-a"
        with pytest.raises(RequestFailedError, match="NOT_FOUND"):
            await link.ask("no such symbol")
        assert link.unmatched == 0
        await link.close()

    async def test_it_says_that_it_serves(self, pod):
        async with aio.insecure_channel(pod.grpc) as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")
            assert await check(b"") == b"\x08\x01"
            with pytest.raises(aio.AioRpcError) as caught:
                await channel.unary_unary("/grpc.health.v1.Health/Burp")(b"")
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


class TestZmqLink:
    """What comes back is matched with what was asked."""

    @pytest.fixture
    async def peer(self):
        """A ROUTER socket that answers each request with the frames that a test sets."""
        context = zmq.asyncio.Context()
        socket = context.socket(zmq.ROUTER)
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        link = ZmqLink(f"tcp://127.0.0.1:{port}")
        yield link, socket
        await link.close()
        context.destroy(linger=0)

    async def test_an_error_reply_is_an_error(self, peer):
        link, socket = peer
        asking = asyncio.create_task(link.ask("NVDA"))
        *envelope, _key, _body = await socket.recv_multipart()
        await socket.send_multipart(
            [*envelope, b"HASHROUTE-ERROR UNAVAILABLE outcome=not-applied no pod is left"]
        )
        with pytest.raises(RequestFailedError, match=r"^UNAVAILABLE$"):
            await asking

    async def test_a_second_reply_is_counted(self, peer):
        link, socket = peer
        for replies in (2, 1):
            asking = asyncio.create_task(link.ask("NVDA"))
            *envelope, _key, _body = await socket.recv_multipart()
            for _ in range(replies):
                await socket.send_multipart([*envelope, b"HASHROUTE-ERROR UNAVAILABLE x"])
            with pytest.raises(RequestFailedError):
                await asking
        # Replies come in order, so the one too many came before the last.
        assert link.unmatched == 1


async def test_a_model_server_accounts_for_every_request(tmp_path):
    with Ports() as ports:
        async with Children(tmp_path) as children:
            near, _ = await start_pod(children, ports, "pod-a")
            far, _ = await start_pod(children, ports, "pod-b")
            ring = Ring([near, far])
            # No sidecar here: one pod stands in for it, so the two ways are easy to tell apart.
            command = module("client", "--grpc", near.grpc, "--zmq", near.zmq, "--seed", "3")
            server = ModelServerProcess(await children.start_talker("model-1", command))
            recorder = Recorder(time.monotonic())
            listening = asyncio.create_task(server.listen(recorder))
            assert await server.follow(ring) == ring.digest
            server.child.tell({"compare": True})
            server.child.tell({"go": {"at": recorder.start, "seconds": 0.5, "rate": 200.0}})
            totals = await server.finished()
            listening.cancel()
    assert totals.sent == len(recorder.answers) > 0
    assert totals.unmatched == 0
    assert {answer.code for answer in recorder.answers} == {OK}
    assert {(a.transport, a.path) for a in recorder.answers} == {
        (transport, path) for transport in Transport for path in Path
    }
    for answer in recorder.answers:
        owner = ring.owner(answer.symbol) if answer.path is Path.DIRECT else "pod-a"
        assert answer.pod == owner
        assert answer.latency_seconds > 0


class TestSymbols:
    """Real names, asked for as often as they are traded."""

    symbols = Symbols({"A": (10, 5.0), "B": (1000, 1.0), "C": (100, 2.0)})

    def test_features_come_from_the_data(self):
        features = self.symbols.features("C")
        assert features.last_price == 2.0
        assert features.log10_volume == 2.0
        assert features.volume_rank == 2
        assert features.volume_share == pytest.approx(100 / 1110)
        assert features.price_percentile == pytest.approx(1 / 3)
        assert self.symbols.features("D") is None

    def test_draws_follow_the_volume_and_the_seed(self):
        draws = self.symbols.draws(1)
        drawn = [next(draws) for _ in range(3000)]
        assert drawn.count("B") / 3000 == pytest.approx(1000 / 1110, abs=0.03)
        again = self.symbols.draws(1)
        assert [next(again) for _ in range(3000)] == drawn

    def test_the_shipped_data_is_whole(self):
        shipped = Symbols.load()
        assert len(shipped) > 4000
        assert sum(map(shipped.volume_share, shipped)) == pytest.approx(1)
        assert shipped.features("NVDA").volume_rank < 10


class TestDisplay:
    """What somebody sees who watches."""

    @pytest.fixture
    def recorder(self):
        recorder = Recorder(time.monotonic() - 6.0)
        now = time.monotonic()
        row = [now - 0.1, 0.002, "grpc", "sidecar", "NVDA", OK, "pod-a", "pod-a"]
        recorder.answered("model-1", [row] * 8)
        pods = {
            name: PodSample("active", "up", in_flight=2, spills=0, failovers=0)
            for name in ("pod-a", "pod-b")
        }
        recorder.samples.append(Sample(5.0, 1, "0", 3, pods))
        recorder.events.append(Event(Kind.KILL, "pod-b", at=5.0, done_at=5.01))
        return recorder

    def test_the_table_shows_what_each_pod_is(self, recorder):
        console = Console(width=140, record=True, file=io.StringIO())
        console.print(pods_now(recorder, 20.0, bar_width=10))
        rows = {
            line.split()[0]: line for line in console.export_text().splitlines() if "pod-" in line
        }
        assert set(rows) == set(RACKS)
        assert "serving" in rows["pod-a"]
        assert "100%" in rows["pod-a"]
        assert "dead" in rows["pod-b"]
        assert "not in the ring" in rows["pod-e"]

    def test_without_a_terminal_there_are_plain_lines(self, recorder, capsys):
        with PlainDisplay(Console()) as display:
            display.note("  5.0 s  killed pod-b")
            display.show(recorder)
            display.show(recorder)
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "  5.0 s  killed pod-b"
        assert lines[1].startswith("  5.0 s  8 requests/s, p50 2.00 ms")
        assert len(lines) == 2
