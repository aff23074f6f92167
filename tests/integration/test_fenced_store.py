"""The example of a fenced store: a real pause between guard and store, and what the store says."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.postgres import IS_INSTALLED, Postgres
from tests.integration.processes import SECONDS_MAX, until

EXAMPLE = Path(__file__).parents[2] / "examples" / "fenced_store.py"
SQL = EXAMPLE.with_suffix(".sql")


@pytest.fixture
def example():
    specification = importlib.util.spec_from_file_location("fenced_store_example", EXAMPLE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_a_pod_that_was_stopped_between_guard_and_store_is_refused_by_the_store():
    done = subprocess.run(
        [sys.executable, EXAMPLE],
        capture_output=True,
        check=False,
        text=True,
        timeout=SECONDS_MAX * 3,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    story = re.fullmatch(
        r"pod-a was admitted under term (?P<first>\d+)\n"
        r"pod-a is stopped, between guard and store\n"
        r"pod-b was admitted under term (?P<second>\d+)\n"
        r"pod-b wrote\n"
        r"pod-a goes on; a second look at its lease says False\n"
        r"pod-a is refused by the store: "
        r"term (?P=first) of slot \d+ is not the newest: (?P=second)\n"
        r"the price is \('1\.0900', 'pod-b'\), under term (?P=second)\n",
        done.stdout,
    )
    assert story, done.stdout
    assert int(story["first"]) < int(story["second"])


def test_the_store_takes_the_same_term_and_higher_ones_and_never_a_lower_one(example, tmp_path):
    store = example.FencedStore(tmp_path / "prices.sqlite")
    other = example.FencedStore(tmp_path / "prices.sqlite")
    store.write("k", "1", writer="a", slot=5, term=7)
    other.write("k", "2", writer="a", slot=5, term=7)
    store.write("k", "3", writer="b", slot=5, term=9)
    with pytest.raises(example.FencedError, match="term 8 of slot 5 is not the newest: 9"):
        other.write("k", "4", writer="a", slot=5, term=8)
    # What was refused left nothing behind, and other slots have terms of their own.
    assert other.read("k") == ("3", "b")
    other.write("j", "1", writer="a", slot=6, term=1)
    assert (store.term(5), store.term(6), store.term(7)) == (9, 1, None)
    store.close()
    other.close()


# Where the server is not installed there is nothing to ask it; SQLite is asked everywhere.
POSTGRES = [Postgres] if IS_INSTALLED else []


@pytest.mark.parametrize("server", POSTGRES)
def test_postgresql_refuses_the_same_also_at_the_same_time(server):
    def write(value, writer, term):
        return f"SELECT write_price('k', '{value}', '{writer}', 5, {term})"

    with server() as database:
        _, errors = database.run(SQL.read_text("utf-8"))
        assert errors == ""
        assert database.run(write("1", "a", 7))[1] == ""
        assert database.run(write("2", "a", 7))[1] == ""
        # The newer owner is in the middle of its transaction when the older one comes.
        newer = subprocess.Popen(
            database.command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        newer.stdin.write(f"BEGIN;\n{write('3', 'b', 9)};\nSELECT 'in the middle';\n")
        newer.stdin.flush()
        while newer.stdout.readline() != "in the middle\n":
            pass
        older = subprocess.Popen(
            database.command("--command", write("4", "a", 8)),
            stderr=subprocess.PIPE,
            text=True,
        )
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        until(lambda: database.run(waits)[0] == "1", "the older one waits for the newer")
        newer.communicate("COMMIT;\n", SECONDS_MAX)
        assert "fenced: term 8 of slot 5" in older.communicate(timeout=SECONDS_MAX)[1]
        assert database.run("SELECT value, writer FROM price")[0] == "3|b"
        assert database.run("SELECT slot, term FROM fence")[0] == "5|9"
