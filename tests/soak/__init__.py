"""Trials of the single writer on real processes: faults under load, and an independent judge.

``python -m tests.soak --help``; ``make soak`` runs them for long. Hosts are network namespaces
(:mod:`tests.soak.hosts`), so that a cut is a cut. What the store accepted and what the clients were
told is written down as it happens, and judged afterwards by :mod:`tests.soak.history`, which knows
nothing of how hashroute works.
"""
