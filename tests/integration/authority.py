"""Certificates made for a test, by `openssl`: an authority, and what it signs."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = """\
[ca]
default_ca = authority
[authority]
new_certs_dir = {directory}
database = {directory}/index.txt
serial = {directory}/serial
certificate = {directory}/ca.pem
private_key = {directory}/ca.key
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[both]
subjectAltName = IP:127.0.0.1,DNS:localhost
extendedKeyUsage = serverAuth,clientAuth
"""


class Authority:
    """An authority in a directory of PEM files."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        (directory / "index.txt").touch()
        (directory / "serial").write_text("01\n")
        self._settings = directory / "openssl.cnf"
        self._settings.write_text(SETTINGS.format(directory=directory))
        self._key("ca")
        self._openssl(
            *("req", "-x509", "-new", "-key", "ca.key", "-out", "ca.pem", "-days", "30"),
            *("-subj", f"/CN={directory.name}", "-addext", "keyUsage=keyCertSign,cRLSign"),
        )

    @property
    def ca(self) -> Path:
        """What it signs is checked against this."""
        return self.directory / "ca.pem"

    def sign(self, name: str, *, begins: str = "20200101000000Z", ends: str = "20991231000000Z"):
        """Signs a certificate for both sides of a connection on this machine."""
        self._key(name)
        self._openssl(
            *("req", "-new", "-key", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        )
        self._openssl(
            *("ca", "-batch", "-notext", "-config", str(self._settings), "-extensions", "both"),
            *("-startdate", begins, "-enddate", ends),
            *("-in", f"{name}.csr", "-out", f"{name}.pem"),
        )

    def files(self, name: str, ca: Path | None = None) -> dict[str, str]:
        """The paths of `quorum.tls`; with another `ca`, those of somebody who trusts that one."""
        pem, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        return {"ca": str(ca or self.ca), "certificate": str(pem), "key": str(key)}

    def _key(self, name: str) -> None:
        self._openssl(
            *("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-out", f"{name}.key"),
        )

    def _openssl(self, *words: str) -> None:
        done = subprocess.run(
            ["openssl", *words], cwd=self.directory, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
