"""TCP addresses as a configuration writes them."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Final

from hashroute.config.values import Kind, invalid

_PORT_MAX: Final = 65_535
_HOST_NAME: Final = re.compile(r"(?!.*\.\.)[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_])?")


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP address. ``str()`` gives ``host:port``, with brackets around an IPv6 host."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine reaches it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_wildcard(self) -> bool:
        """Whether it stands for every address of the machine, so that nobody can call it."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class AddressOf(Kind):
    """An address as ``scheme`` + ``host:port``.

    For one to listen on (``listens``), port 0 lets the system choose. There, and where it
    ``may_be_empty``, an empty string means none.
    """

    scheme: str = ""
    listens: bool = False
    may_be_empty: bool = False

    def parse(self, value: object) -> Address | None:
        """Returns the address, or None for an empty string where that is allowed."""
        if value is None or (value == "" and (self.listens or self.may_be_empty)):
            return None
        if not isinstance(value, str):
            raise invalid("address", "not an address", expected=f'"{self.scheme}host:port"')
        return parse_address(value, scheme=self.scheme, port_min=0 if self.listens else 1)

    def write(self, value: Address | None) -> str | None:
        """Returns the address with its scheme."""
        return None if value is None else f"{self.scheme}{value}"

    def json_schema(self) -> dict[str, Any]:
        """Returns the rough pattern of an address."""
        pattern = f"^{self.scheme}[^/]+:[0-9]+$"
        may_be_empty = self.listens or self.may_be_empty
        return {"type": "string", "pattern": f"{pattern}|^$" if may_be_empty else pattern}


def parse_address(text: str, *, scheme: str = "", port_min: int = 1) -> Address:
    """Reads ``scheme`` + ``host:port``; an IPv6 host is written in brackets.

    Raises:
        PydanticCustomError: the text is something else; it says what was expected.

    """
    expected = f'"{scheme}host:port"'
    found, separator, tail = text.partition("://")
    rest = tail if separator else found
    if (f"{found}://" if separator else "") != scheme:
        message = f"does not begin with {scheme}" if scheme else "no scheme is written here"
        raise invalid("address", message, expected=expected, suggestion=f'"{scheme}{rest}"')
    host, separator, port = rest.rpartition(":")
    if not separator or not port.isascii() or not port.isdigit():
        suggestion = None if ":" in rest.rstrip(":") else f'"{scheme}{rest.rstrip(":")}:9000"'
        raise invalid("address", "no port", expected=expected, suggestion=suggestion)
    if not port_min <= int(port) <= _PORT_MAX:
        limits = f"a port from {port_min} to {_PORT_MAX}"
        raise invalid("address", "port out of range", expected=limits)
    return Address(_parse_host(host, scheme=scheme, port=port), int(port))


def _parse_host(host: str, *, scheme: str, port: str) -> str:
    if host == "*":
        suggestion = f'"{scheme}0.0.0.0:{port}"'
        raise invalid("address", "* is not a host", expected="a host", suggestion=suggestion)
    if host.startswith("[") and host.endswith("]"):
        if not _is_ip(host[1:-1], version=6):
            raise invalid("address", "not an IPv6 address", expected='such as "[::1]:port"')
        return host[1:-1]
    if _is_ip(host, version=6):
        suggestion = f'"{scheme}[{host}]:{port}"'
        raise invalid("address", "no brackets", expected="[IPv6]", suggestion=suggestion)
    if re.fullmatch(r"[0-9.]+", host) is not None and not _is_ip(host, version=4):
        raise invalid("address", "not an IPv4 address", expected="four numbers from 0 to 255")
    if _HOST_NAME.fullmatch(host) is None:
        raise invalid("address", "not a host", expected="a host name or an IP address")
    return host


def _is_ip(text: str, *, version: int) -> bool:
    try:
        return ipaddress.ip_address(text).version == version
    except ValueError:
        return False
