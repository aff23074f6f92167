"""`hashroute plan` to the end: expected imbalance, and the picture."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result
from hashroute import Pod, Ring
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


WARM = ("--config", EXAMPLE, "--add", "pod-d", "--warm-up-steps", "6", "--slots-per-step", "all")


def test_a_joining_pod_warms_up_over_the_steps_that_were_asked_for() -> None:
    facts = json.loads(run(*WARM, "--json").stdout)
    shares = facts["joining"]["pod-d"]
    assert len(facts["steps"]) == len(shares) == facts["warm_up_steps"] == 6
    assert shares[-1] == facts["shares_after"]["pod-d"]
    even = [shares[-1] * step / 6 for step in range(1, 7)]
    assert shares == pytest.approx(even, abs=6 / facts["slots"])
    assert facts["slots_per_step"] is None
    text = run(*WARM).stdout
    assert f"warm-up       pod-d: {shares[0]:.2%}, {shares[1]:.2%}" in text
    assert "warm-up" not in run("--config", EXAMPLE, "--add", "pod-d").stdout


def test_a_long_warm_up_is_shown_from_both_its_ends() -> None:
    options = ("--config", EXAMPLE, "--add", "pod-d", "--warm-up-steps", "99")
    shares = json.loads(run(*options, "--json").stdout)["joining"]["pod-d"]
    (line,) = [line for line in run(*options).stdout.splitlines() if line.startswith("warm-up")]
    assert line.count("%") == 8
    assert f"{shares[3]:.2%}, …, {shares[-4]:.2%}" in line
    assert line.endswith(f"{shares[-1]:.2%}")


def test_the_picture_draws_the_share_of_a_pod_that_joins(tmp_path: Path) -> None:
    picture = picture_of(tmp_path, *WARM)
    assert "share of pod-d" in texts(picture)
    (line,) = [path for path in picture.iter(f"{SVG}path") if path.get("class") == "joining"]
    points = [tuple(map(float, at.split())) for at in line.attrib["d"].removeprefix("M").split("L")]
    assert len(points) == 7
    rises = [below - above for (_, below), (_, above) in pairwise(points)]
    assert rises == pytest.approx([rises[0]] * 6, abs=0.1)
    assert rises[0] > 10
    assert "share of pod-d" not in texts(picture_of(tmp_path, *WARM[:2], "--remove", "pod-a"))


def test_a_plan_that_was_cut_off_shows_what_is_left(tmp_path: Path) -> None:
    whole = json.loads(run(*WARM, "--json").stdout)
    rest = json.loads(run(*WARM, "--done", "2", "--json").stdout)
    assert (rest["steps_done"], rest["steps_planned"]) == (2, 6)
    assert rest["steps"] == whole["steps"][2:]
    assert rest["moved_slots"] == rest["least_slots"] == sum(rest["steps"])
    plan = RING.plan(RING.add("pod-d"), slots_per_step=None, warm_up_steps=6)
    reached = Counter(plan.apply(RING, steps=2))
    assert rest["shares_before"] == {pod: reached[pod] / 65536 for pod in sorted(reached)}
    assert rest["shares_after"] == whole["shares_after"]
    assert rest["imbalance_before"] <= rest["imbalance_max"]
    for name in ("digest_before", "digest_after"):
        assert rest[name] == whole[name]
    text = run(*WARM, "--done", "2").stdout
    assert "done          2 of 6 steps" in text
    assert "share now" in text
    picture = picture_of(tmp_path, *WARM, "--done", "2")
    assert {"2 of 6 steps are done", "share now", "step 3", "6"} <= set(texts(picture))
    assert "Nothing moves: there are no steps." in texts(picture_of(tmp_path, *WARM, "--done", "6"))


@pytest.mark.parametrize(("done", "steps"), [(("--done", "2"), 2), ((), 6), (("--done", "0"), 0)])
def test_the_way_back_starts_where_the_plan_stands(done: tuple[str, ...], steps: int) -> None:
    whole = json.loads(run(*WARM, "--json").stdout)
    back = json.loads(run(*WARM, *done, "--undo", "--json").stdout)
    assert back["back"] is True
    assert back["steps"] == whole["steps"][:steps][::-1]
    assert back["shares_after"] == RING.shares()
    assert back["moved_slots"] == back["least_slots"] == sum(back["steps"])
    assert back["fair_shares_after"] == {"pod-a": 0.25, "pod-b": 0.25, "pod-c": 0.5}
    text = run(*WARM, *done, "--undo").stdout
    assert f"back          from step {steps} to the start" in text
    assert ("pod-d" in text) == (steps > 0)


def test_a_pod_that_fails_is_out_of_the_way_after_the_first_step() -> None:
    change = ("--config", EXAMPLE, "--down", "pod-a", "--slots-per-step", "10")
    facts = json.loads(run(*change, "--json").stdout)
    assert facts["steps"] == [facts["moved_slots"]]
    both = json.loads(run(*change, "--add", "pod-d", "--json").stdout)
    assert both["steps"][0] == facts["moved_slots"]
    assert max(both["steps"][1:]) <= 10
    assert both["joining"]["pod-d"][0] == 0
    text = run(*change, "--add", "pod-d").stdout
    assert f"moves         {sum(both['steps']):,} (some slots move twice" in text


def test_no_step_is_above_the_budget_and_no_zone_gives_more_than_half() -> None:
    # In the example pod-b and pod-c are in one rack, and pod-a in another.
    options = ("--config", EXAMPLE, "--add", "pod-d", "--slots-per-step", "100")
    steps = json.loads(run(*options, "--json").stdout)["steps"]
    assert max(steps) <= 100
    plan = Ring([Pod("pod-a", zone="1"), Pod("pod-b", zone="2"), Pod("pod-c", zone="2", weight=2)])
    for step in plan.plan(plan.add("pod-d"), slots_per_step=100).steps:
        assert sum(move.source in {"pod-b", "pod-c"} for move in step.moves) <= 50


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--slots-per-step", "0"), "neither a number from 1 to 999999999 nor 'all'"),
        (("--slots-per-step", "few"), "neither a number from 1 to 999999999 nor 'all'"),
        (("--slots-per-step", "9" * 5000), "neither a number from 1 to 999999999 nor 'all'"),
        (("--warm-up-steps", "0"), "0 is not in the range"),
        (("--warm-up-steps", str(2**32)), "is not in the range"),
        (("--done", "-1"), "-1 is not in the range"),
        (("--done", "999"), "the plan has 20 steps"),
    ],
)
def test_limits_that_cannot_be_are_wrong_usage(options: tuple[str, str], words: str) -> None:
    arguments = ["plan", "--config", EXAMPLE, "--add", "pod-d", *options]
    result = CliRunner().invoke(main, arguments, prog_name="hashroute")
    assert result.exit_code == 2
    assert words in result.stderr
    assert options[0] in result.stderr


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
