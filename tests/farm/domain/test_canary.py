"""Where a canary's share falls, and when its scores stop it."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

import pytest

from farm.domain.alias import Cohort, cohort_of, takes_canary
from farm.domain.canary import DEFAULT, FAILED, Rules, Sums, Watched, compare, mean_of, problems, quantile
from farm.domain.gate import Direction

RULES = Rules((Watched("identity", Direction.UP, 0.02), Watched(FAILED, Direction.DOWN, 0.05)))


def sums(jobs: list[tuple[int, float]]) -> Sums:
    return Sums(
        len(jobs),
        sum(n for n, _ in jobs),
        sum(s for _, s in jobs),
        sum(n * n for n, _ in jobs),
        sum(n * s for n, s in jobs),
        sum(s * s for _, s in jobs),
    )


def drawn(mean: float, spread: float, jobs: int, seed: int, chunks: int = 4) -> Sums:
    dice = random.Random(seed)
    return sums([(chunks, chunks * dice.gauss(mean, spread)) for _ in range(jobs)])


def test_the_share_falls_by_the_jobs_id_alone():
    ids = [f"job_{k:032x}" for k in range(20_000)]
    for share in (0.0, 0.1, 0.5, 1.0):
        taken = sum(takes_canary(job, share) for job in ids) / len(ids)
        assert taken == pytest.approx(share, abs=0.01)
    assert all(takes_canary(job, 0.5) for job in ids if takes_canary(job, 0.1)), "a grown share keeps its jobs"
    assert cohort_of(ids[0], None) is None
    assert cohort_of(ids[0], 0.0) is None
    assert cohort_of(ids[0], 1.0) is Cohort.CANARY


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    dice, covered = random.Random(1), 0
    for _ in range(1000):
        jobs = [(n, sum(job + dice.gauss(0, 0.05) for _ in range(n))) for n, job in
                ((dice.randint(1, 9), dice.gauss(0.8, 0.1)) for _ in range(12))]  # fmt: skip
        mean = mean_of(sums(jobs))
        assert mean.low is not None
        assert mean.high is not None
        covered += mean.low <= 0.8 <= mean.high
    assert 0.91 <= covered / 1000 <= 0.97


@pytest.mark.parametrize(("confidence", "freedom", "table"), [(0.95, 2, 4.303), (0.95, 10, 2.228), (0.999, 7, 5.408)])
def test_quantiles_of_students_t(confidence: float, freedom: float, table: float):
    assert quantile(confidence, freedom) == pytest.approx(table, rel=0.04)


def reasons(champion: Mapping[str, Sums], canary: Mapping[str, Sums]) -> list[str]:
    return [one.score for one in compare(RULES, champion, canary) if one.worse]


def test_worse_beyond_doubt_and_tolerance_is_worse():
    good = {"identity": drawn(0.9, 0.03, 40, 1)}
    assert reasons(good, {"identity": drawn(0.8, 0.03, 20, 2)}) == ["identity"]
    assert reasons(good, {"identity": drawn(0.885, 0.001, 40, 2)}) == [], "within the tolerance"
    assert reasons(good, {"identity": drawn(1.0, 0.03, 20, 2)}) == [], "better"
    assert reasons(good, {"identity": drawn(0.8, 0.03, 7, 2)}) == [], "too few jobs to say"
    assert reasons(good, {"identity": drawn(0.85, 0.3, 10, 2)}) == [], "it may be chance"
    assert reasons({FAILED: drawn(0.0, 0, 20, 1)}, {FAILED: drawn(0.5, 0.05, 20, 2)}) == [FAILED]


def test_looking_again_and_again_at_an_equal_one_rarely_stops_it():
    stopped = 0
    for seed in range(100):
        dice = random.Random(seed)
        ours, theirs = [], []
        for _ in range(100):
            ours.append((3, 3 * dice.gauss(0.9, 0.05)))
            theirs.append((3, 3 * dice.gauss(0.9, 0.05)))
            if len(ours) >= 8 and reasons({"identity": sums(ours)}, {"identity": sums(theirs)}):
                stopped += 1
                break
    assert stopped <= 2


def test_scores_that_only_one_has_or_nobody_watches_are_shown_and_stop_nothing():
    found = compare(RULES, {"sync": drawn(1, 0.1, 9, 1)}, {"identity": drawn(0.1, 0.1, 9, 1)})
    assert [(one.score, one.worse, one.difference) for one in found] == [
        ("identity", False, None),
        ("sync", False, None),
    ]
    assert mean_of(sums([(2, 1.0)])).low is None
    assert {one.score for one in DEFAULT.watched} >= {"identity", FAILED}


def test_rules_that_make_no_sense_are_told_everything():
    assert problems(DEFAULT) == ()
    watched = (
        Watched("identity", Direction.UP, 0.1),
        Watched("identity", Direction.UP, -0.1),
        Watched("beauty", Direction.UP, math.nan),
    )
    found = problems(Rules(watched, fewest_jobs=2, confidence=1.0, share=math.nan))
    assert [(p.code, p.pointer) for p in found] == [
        ("score_repeated", "/rules/watched/1/score"),
        ("out_of_range", "/rules/watched/1/tolerance"),
        ("score_unknown", "/rules/watched/2/score"),
        ("out_of_range", "/rules/watched/2/tolerance"),
        ("out_of_range", "/rules/fewest_jobs"),
        ("out_of_range", "/rules/confidence"),
        ("out_of_range", "/rules/share"),
    ]
    assert "known: black, border_error, face_found" in found[2].detail
