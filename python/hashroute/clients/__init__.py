"""Clients that route by key directly to the pods, without a sidecar on the way.

- :mod:`hashroute.clients.grpc`: a ``grpc.Channel`` and a ``grpc.aio.Channel``;
- :mod:`hashroute.clients.zmq`: a request-reply client over pyzmq, sync and asyncio.

Both follow one :class:`hashroute.Router`: the same key goes to the same pod as through a sidecar
with the same view. Neither is imported before it is asked for, so a program pays for what it uses.
"""
