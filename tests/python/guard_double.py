"""A guard of which a test decides what it says, and which writes down what is under way."""

from __future__ import annotations

import threading

from hashroute import Ring
from hashroute.errors import of_code

SLOTS = Ring(["pod-a"])


class Admission:
    """As the extension's, as far as handlers and interceptors see it."""

    def __init__(self, guard, term, epoch):
        self._guard = guard
        self.term = term
        self.epoch = epoch
        self.is_valid = True

    def release(self):
        self._guard.ended(self)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.release()


class Guard:
    """Admits under term 7 at epoch 9, or refuses with the code in `refusal`."""

    def __init__(self):
        self.epoch = 9
        self.term = 7
        self.refusal = None
        self.asked = []
        self._under_way = set()
        self._changed = threading.Condition()

    def slot(self, key):
        return SLOTS.slot(key)

    def admit(self, key=None, *, slot=None, group=None, epoch=None, term=None):
        assert key is None
        self.asked.append({"slot": slot, "group": group, "epoch": epoch, "term": term})
        if self.refusal is not None:
            raise of_code(self.refusal, f"refused: {self.refusal}", epoch=self.epoch)
        admission = Admission(self, self.term, self.epoch)
        with self._changed:
            self._under_way.add(admission)
            self._changed.notify_all()
        return admission

    def ended(self, admission):
        with self._changed:
            self._under_way.discard(admission)
            self._changed.notify_all()

    @property
    def under_way(self):
        with self._changed:
            return len(self._under_way)

    def wait_until_idle(self, seconds):
        with self._changed:
            return self._changed.wait_for(lambda: not self._under_way, seconds)


def tagged(*entries, slot=1, epoch=9, term=7):
    """The metadata that a router sends with a write, and `entries`."""
    tag = {"slot": slot, "epoch": epoch, "term": term}
    sent = [(f"x-hashroute-{name}", str(value)) for name, value in tag.items() if value is not None]
    return (*sent, *entries)
