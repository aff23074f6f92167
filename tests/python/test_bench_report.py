"""What `hashroute bench` makes of measurements: JSON, tables, the page, and the verdict."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from xml.etree import ElementTree as ET

import pytest
from hashroute import ConfigurationError
from hashroute.bench import Comparison, Measurement, Report
from hashroute.bench.page import page
from hashroute.bench.tables import comparison_table

VOID = {"meta", "br"}


def measured(
    *rounds_ns: float, contender: str = "hashroute owner", operation: str = "lookup", pods: int = 16
) -> Measurement:
    return Measurement(
        operation=operation,
        contender=contender,
        version="1.0",
        is_floor=contender == "floor",
        pods=pods,
        rounds_ns=rounds_ns,
    )


REPORT = Report(
    facts={"machine": "a <b>bold</b> processor"},
    measurements=(
        measured(20.0, 21.0, 25.0, pods=2),
        measured(22.0, 23.0, 24.0, pods=1000),
        measured(100.0, 110.0, 120.0, contender="peer", pods=2),
        measured(400.0, 420.0, 460.0, contender="peer", pods=1000),
        measured(9.0, 10.0, 11.0, contender="floor", pods=2),
        measured(5e6, 6e6, 7e6, operation="build"),
    ),
)


class TestReport:
    def test_json_brings_back_the_same_report(self):
        assert Report.from_json(REPORT.to_json()) == REPORT

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "[]",
            "{}",
            '{"format": "hashroute-bench/2", "facts": {}, "measurements": []}',
            '{"format": "hashroute-bench/1", "facts": {}, "measurements": [{}]}',
            REPORT.to_json().replace("21.0", '"fast"'),
            REPORT.to_json().replace("21.0", "0"),
            REPORT.to_json().replace("21.0", "NaN"),
            REPORT.to_json().replace('"pods": 2,', '"pods": 0,'),
            re.sub(r"\[[\d.,\s]*\]", "[]", REPORT.to_json()),
        ],
    )
    def test_anything_else_is_refused_with_what_to_give(self, text):
        with pytest.raises(ConfigurationError, match="hashroute bench --json"):
            Report.from_json(text)

    def test_a_ratio_refers_to_the_first_contender_at_the_same_size(self):
        peer = REPORT.measurements[3]
        assert REPORT.ratio(peer) == pytest.approx(420 / 23)


class TestVerdict:
    @pytest.mark.parametrize(
        ("before", "after", "regressed"),
        [
            ((10.0, 11.0, 12.0), (14.0, 15.0, 16.0), True),
            ((10.0, 11.0, 12.0), (12.5, 13.0, 13.5), False),  # within the tolerance
            ((10.0, 11.0, 20.0), (14.0, 15.0, 16.0), False),  # rounds overlap: noise
            ((14.0, 15.0, 16.0), (10.0, 11.0, 12.0), False),  # faster
        ],
    )
    def test_slower_beyond_tolerance_and_noise_is_a_regression(self, before, after, regressed):
        comparison = Comparison(measured(*before), measured(*after))
        assert comparison.is_regression(0.2) is regressed

    @pytest.mark.parametrize(
        ("contender", "operation"),
        [("uhashring", "lookup"), ("hashroute owner_indices, 2 threads", "threads")],
    )
    def test_peers_and_the_wall_clock_are_never_to_blame(self, contender, operation):
        slow = Comparison(
            measured(10.0, contender=contender, operation=operation),
            measured(90.0, contender=contender, operation=operation),
        )
        assert not slow.is_regression(0.2)

    @pytest.mark.parametrize(
        ("operation", "before", "after", "verdict"),
        [
            ("lookup", (10.0, 11.0), (12.0, 13.0), "slower"),
            ("lookup", (12.0, 13.0), (10.0, 11.0), "faster"),
            ("lookup", (10.0, 13.0), (12.0, 14.0), "noise"),
            ("threads", (10.0, 11.0), (90.0, 99.0), "wall clock"),
            ("threads", (10.0, 99.0), (90.0, 99.0), "noise"),
        ],
    )
    def test_two_runs_get_one_verdict_on_page_and_terminal(self, operation, before, after, verdict):
        pair = Comparison(
            measured(*before, operation=operation), measured(*after, operation=operation)
        )
        assert pair.verdict == verdict
        row = f'<tr class="{verdict}">'
        assert row in page(Report(facts={}, measurements=(pair.after,)), [pair])
        table = comparison_table([pair])
        assert next(iter(table.columns[-1].cells)).endswith(f" {verdict}")
        assert table.rows[0].style == {"slower": "red", "faster": "green"}.get(verdict, "")

    def test_a_fact_without_a_word_is_not_shown(self):
        report = Report(facts={"machine": "fast", "commit": ""}, measurements=REPORT.measurements)
        assert report.facts_known == {"machine": "fast"}
        assert "commit" not in page(report)
        assert Report.from_json(report.to_json()).facts == report.facts

    def test_only_the_same_subject_is_compared(self):
        older = Report(facts={}, measurements=(REPORT.measurements[0],))
        compared = REPORT.compared_with(older)
        assert [entry.after.subject for entry in compared] == [("lookup", "hashroute owner", 2)]
        assert compared[0].ratio == 1.0


class Parsed(HTMLParser):
    """Fails at a tag that is not closed, and keeps what refers to somewhere else."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, _attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def picture(report: Report) -> ET.Element:
    """The first picture of the page; it must be well-formed XML."""
    return ET.fromstring(re.findall(r"<svg.*?</svg>", page(report), re.DOTALL)[0])  # noqa: S314


class TestPage:
    def test_it_needs_nothing_beside_itself(self):
        text = page(REPORT)
        parsed = Parsed(text)
        assert parsed.references == []
        assert "script" not in parsed.tags
        assert "url(" not in text
        assert "@import" not in text

    def test_each_operation_measured_has_one_picture_and_its_figures(self):
        text = page(REPORT)
        assert Parsed(text).tags.count("svg") == 2
        assert "<h2>One lookup</h2>" in text
        assert "Build of a ring" in text
        assert "One key of a batch" not in text
        assert "110 ns <b>5.24x</b>" in text

    def test_facts_and_names_are_text_not_markup(self):
        hostile = Report(facts=REPORT.facts, measurements=(measured(1.0, contender="<i>peer"),))
        text = page(hostile)
        assert "<i>" not in text
        assert "<b>bold" not in text

    def test_a_picture_shows_every_point_within_its_frame(self):
        svg = picture(REPORT)
        _, _, width, height = map(float, svg.attrib["viewBox"].split())
        points = [(float(dot.attrib["cx"]), float(dot.attrib["cy"])) for dot in svg.iter("circle")]
        assert len(points) == 5
        assert all(0 < x < width and 0 < y < height for x, y in points)
        # The same size stands at the same place, and what takes longer stands higher.
        ours, _, peer, *_ = points
        assert ours[0] == peer[0]
        assert peer[1] < ours[1]

    def test_names_of_lines_that_end_together_do_not_overlap(self):
        crowd = tuple(measured(20.0 + n / 10, contender=f"peer {n}") for n in range(12))
        svg = picture(Report(facts={}, measurements=crowd))
        names = [
            float(text.attrib["y"])
            for text in svg.iter("text")
            if (text.text or "").startswith("peer")
        ]
        assert len(names) == 12
        assert all(low + 16 < high for low, high in pairwise(names))

    @pytest.mark.parametrize("rounds", [(1e-6,), (1e-9, 5e12)])
    def test_extreme_durations_are_drawn(self, rounds):
        Parsed(page(Report(facts={}, measurements=(measured(*rounds, pods=1),))))

    def test_what_changed_since_an_older_run_is_shown(self):
        slower = Comparison(measured(10.0), measured(30.0))
        text = page(REPORT, [slower])
        assert "3.00 slower" in text
        assert "Beside the older run" not in page(REPORT)
