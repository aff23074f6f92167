"""How a ring looks in a notebook."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from hashroute import Pod, Ring
from hashroute._ring import HTML_ROWS_MAX


def rows_of(ring: Ring) -> list[list[ET.Element]]:
    # The markup is also XML, so that a tag that is not closed or an ampersand shows here.
    table = ET.fromstring(ring._repr_html_())  # noqa: S314 - what we made ourselves
    return [list(row) for row in table.findall("tbody/tr")]


def test_a_notebook_shows_each_pod_with_its_share():
    ring = Ring([Pod("pod-a", zone="rack-1"), Pod("pod-b", weight=3), Pod("pod-c", state="down")])
    rows = rows_of(ring)
    assert [[cell.text or "" for cell in row[:5]] for row in rows] == [
        [
            pod.id,
            pod.state,
            pod.zone or "",
            f"{pod.weight:g}",
            f"{ring.shares().get(pod.id, 0):.2%}",
        ]
        for pod in ring.pods
    ]
    assert ring.digest in ring._repr_html_()


def test_the_bars_are_as_long_as_the_shares():
    ring = Ring({"pod-a": 1, "pod-b": 3})
    widths = [
        float(re.search(r"width:([\d.]+)em", row[5][0].attrib["style"])[1]) for row in rows_of(ring)
    ]
    shares = ring.shares()
    assert widths[1] == 12
    assert abs(widths[0] - 12 * shares["pod-a"] / shares["pod-b"]) < 0.01


def test_ids_and_zones_are_text_not_markup():
    evil = "<script>alert('&')</script>"
    ring = Ring([Pod(evil, zone='"><b>'), Pod("pod-b")])
    assert "<script" not in ring._repr_html_()
    assert [row[0].text for row in rows_of(ring)] == [evil, "pod-b"]
    assert rows_of(ring)[0][2].text == '"><b>'


def test_a_large_ring_is_cut_and_says_so():
    ring = Ring([f"pod-{number:03}" for number in range(HTML_ROWS_MAX + 36)])
    rows = rows_of(ring)
    assert len(rows) == HTML_ROWS_MAX + 1
    assert "and 36 more" in "".join(rows[-1][0].itertext())
