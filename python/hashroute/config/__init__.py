"""The configuration of a sidecar: one TOML file, checked as a whole.

:func:`load` reads a file for use and raises :class:`~hashroute.errors.ConfigurationFileError`
with every error in it; :func:`check` reports without raising. :func:`view_of` and
:func:`settings_of` turn the result into what the ring and the native sidecar are told.
"""

from hashroute.config.addresses import Address
from hashroute.config.checks import TRANSPORTS, Transport
from hashroute.config.findings import Finding, Position, dotted
from hashroute.config.models import Configuration
from hashroute.config.reading import Loaded, check, load
from hashroute.config.settings import lease_of, node_settings_of, settings_of, view_of
from hashroute.config.validation import read_pod
from hashroute.errors import ConfigurationFileError

__all__ = [
    "TRANSPORTS",
    "Address",
    "Configuration",
    "ConfigurationFileError",
    "Finding",
    "Loaded",
    "Position",
    "Transport",
    "check",
    "dotted",
    "lease_of",
    "load",
    "node_settings_of",
    "read_pod",
    "settings_of",
    "view_of",
]
