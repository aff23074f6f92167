"""`hashroute plan` to the end: expected imbalance, and the picture."""

from __future__ import annotations

import json
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result
from hashroute import Ring
from hashroute.cli import main
from hashroute.cli._plan_picture import BARS_WIDTH, COLUMNS_MAX, PODS_MAX

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = str(ROOT / "examples/hashroute.toml")
RING = Ring({"pod-a": 1, "pod-b": 1, "pod-c": 2})
SVG = "{http://www.w3.org/2000/svg}"
BLUE, GREY = "#2f6fb3", "#b4bcc8"


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(main, ["plan", *arguments], prog_name="hashroute")
    assert result.exit_code == 0, result.output
    return result


def picture_of(tmp_path: Path, *arguments: str) -> ET.Element:
    file = tmp_path / "plan.svg"
    run(*arguments, "--svg", str(file))
    return ET.fromstring(file.read_text(encoding="utf-8"))  # noqa: S314 - what we made ourselves


def texts(picture: ET.Element) -> list[str]:
    return [text.text or "" for text in picture.iter(f"{SVG}text")]


def groups(picture: ET.Element) -> list[ET.Element]:
    return picture.findall(f"{SVG}g")


def lengths(group: ET.Element, colour: str, side: str) -> list[float]:
    return [float(bar.attrib[side]) for bar in group if bar.attrib.get("fill") == colour]


def configuration(tmp_path: Path, pods: list[str], slots: int = 65536) -> str:
    file = tmp_path / "hashroute.toml"
    tables = [f"[pods.{json.dumps(pod)}]\ngrpc = 'a:{at + 1}'\n" for at, pod in enumerate(pods)]
    listen = "[listen]\ngrpc = '127.0.0.1:9000'\n"
    file.write_text(f"[ring]\nslots = {slots}\n{listen}{''.join(tables)}")
    return str(file)


def test_the_imbalance_is_the_largest_share_by_the_fair_one() -> None:
    facts = json.loads(run("--config", EXAMPLE, "--add", "pod-d=2", "--json").stdout)
    after = RING.add("pod-d", weight=2).shares()
    fair = {"pod-a": 1 / 6, "pod-b": 1 / 6, "pod-c": 2 / 6, "pod-d": 2 / 6}
    assert facts["fair_shares_after"] == pytest.approx(fair)
    assert facts["imbalance_after"] == pytest.approx(max(after[pod] / fair[pod] for pod in fair))
    assert facts["imbalance_before"] <= facts["imbalance_max"] == 1.05
    text = run("--config", EXAMPLE, "--add", "pod-d=2").stdout
    assert f"imbalance     {facts['imbalance_after']:.4f} after" in text
    assert re.search(r"pod-d +- +[\d.]+% +\+[\d.]+% +33\.33%", text)


def test_a_draining_pod_has_no_fair_share() -> None:
    facts = json.loads(run("--config", EXAMPLE, "--drain", "pod-c", "--json").stdout)
    assert facts["fair_shares_after"] == {"pod-a": 0.5, "pod-b": 0.5}


def test_the_picture_draws_the_shares_before_and_after(tmp_path: Path) -> None:
    picture = picture_of(tmp_path, "--config", EXAMPLE, "--add", "pod-d=2")
    before, after = RING.shares(), RING.add("pod-d", weight=2).shares()
    scale = BARS_WIDTH / max([*before.values(), *after.values()])
    for pod, group in zip(sorted(after), groups(picture), strict=False):
        assert pod in texts(group)
        assert lengths(group, GREY, "width")[0] == pytest.approx(
            before.get(pod, 0) * scale, abs=0.01
        )
        assert lengths(group, BLUE, "width")[0] == pytest.approx(after[pod] * scale, abs=0.01)
    plan = RING.plan(RING.add("pod-d", weight=2))
    assert any(f"{plan.moved_slots / RING.slots:.2%} of the keys move" in t for t in texts(picture))


def test_the_picture_draws_what_each_step_moves(tmp_path: Path) -> None:
    options = ("--config", EXAMPLE, "--add", "pod-d", "--slots-per-step", "1000")
    facts = json.loads(run(*options, "--json").stdout)
    columns = groups(picture_of(tmp_path, *options))[4:]
    tall = [lengths(column, BLUE, "height")[0] for column in columns]
    assert len(tall) == len(facts["steps"])
    assert [round(height / tall[0], 3) for height in tall] == [
        round(moved / facts["steps"][0], 3) for moved in facts["steps"]
    ]


def test_a_picture_of_many_pods_and_steps_stays_readable(tmp_path: Path) -> None:
    file = configuration(tmp_path, [f"pod-{number:03}" for number in range(200)], slots=4096)
    picture = picture_of(
        tmp_path, "--config", file, "--remove", "pod-007", "--weight", "pod-042=60",
        "--slots-per-step", "2",
    )  # fmt: skip
    drawn = [group for group in groups(picture) if group.find(f"{SVG}text") is not None]
    assert len(drawn) == PODS_MAX
    assert {"pod-007", "pod-042"} <= set(texts(picture))
    assert f"the {PODS_MAX} of 200 pods that change most" in texts(picture)
    assert len(groups(picture)) - len(drawn) <= COLUMNS_MAX


def test_ids_are_text_in_the_picture(tmp_path: Path) -> None:
    evil = "<script>&\x07"
    picture = picture_of(tmp_path, "--config", EXAMPLE, "--add", evil, "--add", "pod-" + "x" * 99)
    assert "<script>&\ufffd" in texts(picture)
    assert picture.find(f".//{SVG}script") is None
    assert max(len(text) for text in texts(picture) if text.startswith("pod-")) < 99


def test_too_few_slots_are_a_warning_beside_the_plan(tmp_path: Path) -> None:
    file = configuration(tmp_path, [f"pod-{number:03}" for number in range(16)], slots=4096)
    result = run("--config", file, "--add", "pod-016", "--json")
    assert result.stderr.count("warning: 4096 slots are few for 17 pods") == 1
    assert json.loads(result.stdout)["slots"] == 4096


def test_a_change_that_moves_nothing_has_a_picture_too(tmp_path: Path) -> None:
    picture = picture_of(tmp_path, "--config", EXAMPLE, "--weight", "pod-a=1")
    assert "Nothing moves: there are no steps." in texts(picture)


def test_a_picture_that_cannot_be_written_could_not_run(tmp_path: Path) -> None:
    file = str(tmp_path / "absent" / "plan.svg")
    options = ["plan", "--config", EXAMPLE, "--add", "pod-d", "--svg", file]
    result = CliRunner().invoke(main, options, prog_name="hashroute")
    assert result.exit_code == 2
    assert f"cannot write {file}" in result.stderr
