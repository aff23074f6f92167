"""The demo: feature pods in two racks, model servers that ask them, pods that drop.

`hashroute demo` starts real processes on loopback, hurts some of them, and says at the end whether
the promises held. See `docs/demo.md` for what each figure means.
"""
