"""Microbenchmarks of the Python ring beside whatever peers are installed.

``hashroute bench`` is their command line; ``benches/python`` runs the same contenders under
pytest-benchmark.
"""

from hashroute.bench.contenders import CONTENDERS, Contender, contenders_installed
from hashroute.bench.machine import machine_facts
from hashroute.bench.report import Comparison, Measurement, Report
from hashroute.bench.suite import measure

__all__ = [
    "CONTENDERS",
    "Comparison",
    "Contender",
    "Measurement",
    "Report",
    "contenders_installed",
    "machine_facts",
    "measure",
]
