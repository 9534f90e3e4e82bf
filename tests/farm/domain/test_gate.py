"""The gate's rules: what passes beside which champion, and why not."""

from __future__ import annotations

from typing import Any

import pytest

from farm.domain.gate import Decision, Direction, Gate, Measured, Rule, decide, number_at, numbers, problems

GATE = Gate(
    (
        Rule("psnr.stage3", Direction.UP, margin=0.5, bound=15.0),
        Rule("leak", Direction.DOWN, margin=0.01),
        Rule("jaw.r2", Direction.UP, margin=-0.05),
    )
)


def measured(name: str = "new", *, trained: bool = True, **numbers: Any) -> Measured:
    evaluation = {"evaluation_set": "a", "psnr": {"stage3": 20.0}, "leak": 0.1, "jaw": {"r2": 0.5}} | numbers
    return Measured(f"ver_{name}", name, trained, evaluation)


def against(champion: Measured | None, **numbers: Any) -> Decision:
    return decide(GATE, measured(**numbers), champion)


CHAMPION = measured("old")


@pytest.mark.parametrize(
    ("numbers", "refused_for"),
    [
        ({"jaw": {"r2": 0.55}}, []),
        ({"jaw": {"r2": 0.54}}, ["jaw.r2"]),
        ({"jaw": {"r2": 0.6}, "psnr": {"stage3": 19.5}, "leak": 0.11}, []),
        ({"jaw": {"r2": 0.6}, "psnr": {"stage3": 19.4}, "leak": 0.12}, ["psnr.stage3", "leak"]),
        ({"jaw": {"r2": 0.6}, "leak": None}, ["leak"]),
        ({"jaw": {"r2": float("nan")}}, ["jaw.r2"]),
        ({"jaw": {"r2": True}}, ["jaw.r2"]),
        ({"jaw": 0.9}, ["jaw.r2"]),
    ],
)
def test_margins_against_the_champion(numbers: dict[str, Any], refused_for: list[str]):
    decision = against(CHAMPION, **numbers)
    assert [reason.split(":")[0] for reason in decision.reasons] == refused_for
    assert decision.passed == (not refused_for)
    assert decision.champion == "ver_old"
    assert [one.metric for one in decision.findings] == ["psnr.stage3", "leak", "jaw.r2"]


def test_a_reason_says_the_numbers():
    (reason,) = against(CHAMPION, jaw={"r2": 0.52}).reasons
    assert reason == (
        "jaw.r2: 0.52; needed at least 0.55: the champion has 0.5 and it must be better by 0.05"
    )  # fmt: skip


def test_a_bound_holds_without_a_champion_too():
    assert against(None).passed
    assert [r.split(":")[0] for r in against(None, psnr={"stage3": 14.9}).reasons] == ["psnr.stage3"]
    lenient = measured("old", psnr={"stage3": 10.0}, jaw={"r2": 0.1})
    decision = against(lenient, psnr={"stage3": 12.0})
    assert decision.reasons == ("psnr.stage3: 12; needed at least 15: the bound is 15",)


def test_what_cannot_be_compared_is_refused_with_that_reason():
    assert "measured on b, the champion on a" in against(CHAMPION, evaluation_set="b").reasons[0]
    assert "does not say what it was measured on" in against(CHAMPION, evaluation_set=None).reasons[0]
    never = Measured("ver_old", "old", True, None)
    assert "the champion, old, was never evaluated" in against(never).reasons[0]
    assert "it was never evaluated" in decide(GATE, Measured("ver_n", "n", True, None), CHAMPION).reasons[0]


def test_an_untrained_champion_has_nothing_to_lose():
    untrained = Measured("ver_old", "old", False, None)
    assert decide(GATE, Measured("ver_n", "n", True, None), untrained).passed
    assert against(untrained, jaw={"r2": -1.0}).passed
    assert not against(untrained, psnr={"stage3": 1.0}).passed, "bounds hold all the same"


def test_the_champion_itself_passes_its_own_margins():
    assert decide(GATE, CHAMPION, CHAMPION).passed


def test_paths():
    assert number_at({"a": {"b": {"-4": 3}}}, "a.b.-4") == 3.0
    for path in ("a", "a.b.c", "x", "a.b.-4.z"):
        assert number_at({"a": {"b": {"-4": 3}}}, path) is None
    assert number_at({"a": 10**400}, "a") is None


def test_a_gate_that_makes_no_sense_is_told_everything():
    gate = Gate(
        (
            Rule("a", Direction.UP),
            Rule("a", Direction.UP, margin=float("inf")),
            Rule("b..c", Direction.DOWN, bound=1.0),
        )
    )
    assert [(p.code, p.pointer) for p in problems(gate, ("a", "b.*"))] == [
        ("rule_empty", "/rules/0"),
        ("metric_repeated", "/rules/1/metric"),
        ("out_of_range", "/rules/1/margin"),
        ("metric_invalid", "/rules/2/metric"),
    ]


def test_a_metric_that_nothing_measures_is_told_with_those_that_are():
    known = numbers({"psnr": 20.0, "lip_sync": {"at_0": 0.8, "far": 0.1, "by": {"-1": 1}}, "on": "x", "is": True})
    gate = Gate(tuple(Rule(name, Direction.UP, margin=0.0) for name in ("psnr", "lip_sync.at0", "stage1.psnr", "is")))
    first, second = problems(gate, {*known, "stage1.*"})
    assert (first.code, first.pointer, second.pointer) == ("metric_unknown", "/rules/1/metric", "/rules/3/metric")
    assert first.detail == (
        "nothing is measured as 'lip_sync.at0'; near it: lip_sync.at_0, lip_sync.far, lip_sync.by.-1;"
        " known: lip_sync.… (3), psnr, stage1.*"
    )
