"""Inside a service: the member of a cluster, and the guard that admits the service's writes.

::

    with hashroute.pod.join(
        cluster="desk-7", voters=["10.0.0.1:9010", "10.0.0.2:9010", "10.0.0.3:9010"],
        pod=Pod("pod-a", grpc="10.0.0.1:50051"),
    ) as member:
        with member.guard.admit("AAPL") as admission:
            store.write("AAPL", price, term=admission.term)

:mod:`hashroute.pod.grpc` puts the guard in front of the handlers of a gRPC server,
:mod:`hashroute.pod.zmq` in front of a ZeroMQ loop. Neither is imported before it is asked for.
"""

from hashroute._hashroute import Admission, Guard
from hashroute.pod._current import current_admission, current_term
from hashroute.pod._member import Member, MemberStatus, join
from hashroute.pod._record import Group, Record, Voter

__all__ = [
    "Admission",
    "Group",
    "Guard",
    "Member",
    "MemberStatus",
    "Record",
    "Voter",
    "current_admission",
    "current_term",
    "join",
]
