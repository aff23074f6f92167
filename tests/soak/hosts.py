"""Hosts on this machine: network namespaces around one switch, with links that can be cut.

Needs to be root, or the right to make user namespaces (:func:`become_root`). Everything is gone
when the process ends: the switch and all links live in namespaces of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NOBODY = "02:00:00:00:ff:fe"
"""A hardware address that no host has: what is sent there is lost without a word."""

_INSIDE = "HASHROUTE_SOAK_INSIDE"


def become_root() -> None:
    """Starts this program again as root of a user namespace, unless it is root already.

    Raises:
        OSError: the kernel does not let this user make namespaces.

    """
    if os.geteuid() == 0:
        if os.environ.get(_INSIDE):
            # Names of network namespaces are mounts; those of the machine are not ours to write.
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
        return
    if os.environ.get(_INSIDE) or shutil.which("unshare") is None:
        raise OSError("neither root nor able to make user namespaces: run it as root")
    arguments = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--"]
    os.environ[_INSIDE] = "1"
    os.execvp(arguments[0], [*arguments, sys.executable, *sys.orig_argv[1:]])


def ip(*words: str) -> None:
    """Runs ``ip``.

    Raises:
        subprocess.CalledProcessError: it failed; its words are on standard error.

    """
    subprocess.run(["ip", *words], check=True)


@dataclass(frozen=True)
class Host:
    """One host: a namespace with one interface."""

    name: str
    space: str
    address: str

    def command(self, words: Sequence[str]) -> list[str]:
        """What runs the command there; its process is that of the command."""
        return ["ip", "netns", "exec", self.space, *words]


@dataclass
class Hosts:
    """Hosts that reach each other, unless a link is cut."""

    hosts: dict[str, Host] = field(default_factory=dict)
    cuts: set[tuple[str, str]] = field(default_factory=set)
    _spaces: list[str] = field(default_factory=list)
    _links: dict[str, subprocess.Popen[str]] = field(default_factory=dict)
    """What carries out the cuts of each host: started before, so that a cut takes no time."""

    @classmethod
    def start(cls, names: Iterable[str]) -> Self:
        """Makes the hosts ``names``, each with an address of its own."""
        made = cls()
        prefix = f"hr{os.getpid()}"
        try:
            switch = made._space(f"{prefix}-switch")
            ip("-n", switch, "link", "add", "switch", "type", "bridge")
            ip("-n", switch, "link", "set", "switch", "up")
            for number, name in enumerate(names, start=1):
                space = made._space(f"{prefix}-{name}")
                host = Host(name, space, f"10.99.0.{number}")
                ip("-n", space, "link", "add", "eth0", "type", "veth",
                   "peer", "name", f"port{number}", "netns", switch)  # fmt: skip
                ip("-n", switch, "link", "set", f"port{number}", "master", "switch", "up")
                ip("-n", space, "address", "add", f"{host.address}/24", "dev", "eth0")
                ip("-n", space, "link", "set", "eth0", "up")
                ip("-n", space, "link", "set", "lo", "up")
                made.hosts[name] = host
                made._links[name] = subprocess.Popen(
                    ["ip", "-n", space, "-batch", "-"], stdin=subprocess.PIPE, text=True
                )
        except BaseException:
            made.close()
            raise
        return made

    def _space(self, name: str) -> str:
        ip("netns", "add", name)
        self._spaces.append(name)
        return name

    def __getitem__(self, name: str) -> Host:
        return self.hosts[name]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Removes the hosts. Processes that still run there keep their namespace until they end."""
        for link in self._links.values():
            link.kill()
            link.wait()
        self._links.clear()
        for space in self._spaces:
            subprocess.run(["ip", "netns", "delete", space], check=False)
        self._spaces.clear()

    def cut(self, sender: str, receiver: str) -> None:
        """What ``sender`` sends to ``receiver`` is lost from now on; not what comes back."""
        target = self[receiver].address
        self._tell(sender, f"neigh replace {target} lladdr {NOBODY} dev eth0 nud permanent")
        self.cuts.add((sender, receiver))

    def heal(self, sender: str, receiver: str) -> None:
        """Undoes :meth:`cut`."""
        if (sender, receiver) in self.cuts:
            self._tell(sender, f"neigh delete {self[receiver].address} dev eth0")
            self.cuts.discard((sender, receiver))

    def isolate(self, name: str, peers: Iterable[str]) -> None:
        """Cuts a host from others, in both directions."""
        for peer in peers:
            self.cut(name, peer)
            self.cut(peer, name)

    def heal_all(self) -> None:
        """Undoes every cut."""
        for sender, receiver in sorted(self.cuts):
            self.heal(sender, receiver)

    def _tell(self, name: str, words: str) -> None:
        """Has a line carried out on a host, within a moment.

        Raises:
            BrokenPipeError: an earlier one failed; ``ip`` said why on standard error.

        """
        stream = self._links[name].stdin
        assert stream is not None
        stream.write(words + "\n")
        stream.flush()
