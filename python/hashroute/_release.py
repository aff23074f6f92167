"""The release of hashroute that runs."""

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """Returns the release, such as ``0.1.0``; ``unknown`` if hashroute is not installed."""
    try:
        return version("hashroute")
    except PackageNotFoundError:
        return "unknown"
