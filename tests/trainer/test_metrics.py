"""Metrics on a constructed model, of which the right answers are known: an ideal one, and each way of being wrong."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from tests.trainer.painted import footage, trial, value
from trainer import evaluate as _registered  # noqa: F401 - enters the metrics
from trainer import metrics_lips, metrics_pictures
from trainer.corpus import FACTORS, factor_slice
from trainer.metrics import METRICS, metric
from trainer.metrics_codes import disentanglement, lasso, ridge
from trainer.metrics_factors import ratios, slope_within
from trainer.metrics_pictures import frechet
from trainer.subject import CONTROLLED


@pytest.fixture(autouse=True)
def dice() -> None:
    torch.manual_seed(0)


def test_an_ideal_model_has_ones_on_the_diagonal_and_nothing_off_it() -> None:
    ideal = trial()
    for name in ("factor_variance", "factor_variance_held"):
        table = value(name, ideal)
        for measured in CONTROLLED:
            for controlled in CONTROLLED:
                assert table[measured][controlled] == pytest.approx(float(measured == controlled), abs=0.02), name
    assert min(value("factor_ratio", ideal)["row"].values()) > 1000
    assert min(value("obedience", ideal).values()) > 0.999
    assert value("leak", ideal)["largest"] < 0.01
    assert min(value("readout_r2", ideal)["generated"].values()) > 0.99
    assert min(value("cross_r2", ideal).values()) > 0.99
    assert value("pose_mse", ideal) < 0.01 > value("expression_mse", ideal)
    assert value("psnr", ideal) > value("psnr_copy", ideal) + 10


def test_a_model_that_mixes_expression_into_lips_shows_it_there_and_nowhere_else() -> None:
    mix = torch.eye(len(FACTORS))
    mix[factor_slice("expression"), factor_slice("lip")] = 0.5
    mixed = trial(mix)
    table = value("factor_variance", mixed)
    # Each lip factor takes half of four expression factors of unit variance: 4 * 0.25.
    assert table["lip"]["expression"] == pytest.approx(1.0, rel=0.25)
    assert all(table[m][c] < 0.02 for m in CONTROLLED for c in CONTROLLED if m != c and (m, c) != ("lip", "expression"))
    assert value("factor_ratio", mixed)["row"]["lip"] < 2 < 100 < value("factor_ratio", mixed)["row"]["pose"]
    assert (
        value("factor_ratio", mixed)["column"]["expression"] < 2 < 100 < value("factor_ratio", mixed)["column"]["lip"]
    )
    assert value("readout_r2", mixed)["generated"]["jaw"] < 0.5
    assert value("lip_sync", mixed)["at_0"] < 0.9


def test_noise_has_variance_and_does_not_obey() -> None:
    turned = torch.eye(len(FACTORS))
    lip = factor_slice("lip")
    turned[lip, lip] = torch.roll(torch.eye(3), 1, 0)
    swapped = trial(turned)
    assert value("factor_variance", swapped)["lip"]["lip"] == pytest.approx(1, abs=0.1)
    assert max(abs(value("obedience", swapped)[name]) for name in ("jaw", "lip_width", "pucker")) < 0.4


def test_gaze_and_blink_are_parts_of_one_code() -> None:
    mix = torch.eye(len(FACTORS))
    mix[factor_slice("gaze"), factor_slice("blink")] = 0.7
    table = value("factor_variance", trial(mix))
    assert table["blink"]["gaze"] == pytest.approx(0.98, rel=0.6)
    assert table["gaze"]["blink"] < 0.02
    assert set(value("factor_variance_eyes", trial(mix))) == set(CONTROLLED)


@pytest.mark.parametrize("leaks", [0.0, 0.3])
def test_leak_is_the_slope_on_the_appearance_picture(leaks: float) -> None:
    found = value("leak", trial(leaks=leaks))
    assert found["largest"] == pytest.approx(leaks, abs=0.02)
    assert found["lip"] == pytest.approx(leaks, abs=0.02)


def test_slope_is_each_persons_own() -> None:
    true = torch.randn(3, 9, 2)
    people = 10 * torch.randn(3, 1, 2)
    shown = torch.ones_like(true, dtype=torch.bool)
    assert slope_within(0.4 * true + people, true, shown).tolist() == pytest.approx([0.4, 0.4], abs=1e-3)


@pytest.mark.parametrize("delay", [0, 3])
def test_lips_that_lag_are_found_at_their_own_shift(delay: int) -> None:
    found = value("lip_sync", trial(delay=delay))
    best = max(found["by_shift"], key=found["by_shift"].get)
    assert int(best) == delay
    assert found["by_shift"][best] > 0.95
    assert (found["at_0"] > 0.95) is (delay == 0)
    assert found["far_true"] < 0.5


def test_lse_of_shifted_curves_is_least_at_the_shift_and_confident() -> None:
    curve = torch.randn(1, 60, 2)
    in_time = metrics_lips.lse_of(curve, curve, 8)
    assert in_time["d"] == pytest.approx(0, abs=1e-4)
    assert in_time["offset"] == 0
    late = metrics_lips.lse_of(curve.roll(4, 1), curve, 8)
    assert late["offset"] == 4
    alien = metrics_lips.lse_of(torch.randn(1, 60, 2), curve, 8)
    assert alien["c"] < 0.3 * in_time["c"]
    assert metrics_lips.normalised(5.0, 4.0) == pytest.approx(0.25)


def test_mouths_that_open_at_vowels_and_close_at_bilabials_are_told_from_those_that_do_not() -> None:
    on = footage(clips=2, frames=40)
    phonemes = [[(0.2 * i + 0.08, "m" if i % 2 else "'a:") for i in range(8)] for _ in range(2)]
    curve = torch.zeros(2, 40)
    for i in range(8):
        curve[:, 2 + 5 * i] = 0.0 if i % 2 else 1.0
        curve[:, 3 + 5 * i] = 0.5
    tried = trial(on=dataclasses.replace(on, phonemes=phonemes))
    found = metrics_lips.contrasts(tried, curve)
    assert found["0"] == 1.0
    assert found["1"] == 0.0
    assert found["5"] == -1.0
    assert "closed_open" not in {n for n in METRICS if METRICS[n].needs <= trial().gives}


def test_frechet_distance_of_equal_sets_is_nothing_and_of_shifted_ones_the_shift() -> None:
    x = torch.randn(400, 5)
    assert frechet(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet(x, x + torch.tensor([3.0, 0, 0, 0, 0])) == pytest.approx(9, abs=1e-3)
    wide = x @ torch.diag(torch.tensor([2.0, 1, 1, 1, 1]))
    assert frechet(x, wide) == pytest.approx(float(x[:, 0].var()) * (2 - 1) ** 2 + float(x[:, 0].mean()) ** 2, rel=0.2)
    ideal = value("fid", trial())
    assert ideal["distance"] < 1e-3 < ideal["halves"]


def test_codes_that_are_the_factors_are_disentangled_complete_and_informative() -> None:
    found = value("dci", trial())
    assert found["disentanglement"] > 0.95
    assert found["completeness"] > 0.95
    assert found["informativeness"] > 0.95
    assert found["blocks"]["disentanglement"] > 0.95
    knows = value("code_r2", trial())
    assert knows["lip"]["lip"] > 0.95 > 0.1 > knows["lip"]["pose"]
    assert value("pose_error", trial()) < 0.1
    assert disentanglement(torch.ones(4, 4)) == pytest.approx(0, abs=1e-6)
    assert disentanglement(torch.eye(4)) == pytest.approx(1)


def test_retrieval_finds_its_own_voice_and_not_a_late_one() -> None:
    assert value("retrieval", trial())["lip"] == 1.0
    assert value("retrieval", trial(delay=4))["lip"] < 0.4


def test_lasso_keeps_what_matters_and_ridge_predicts() -> None:
    x = torch.randn(500, 6)
    y = 2 * x[:, :1] - x[:, 3:4]
    weight = lasso(x, y, 0.05)[:, 0]
    assert weight[[1, 2, 4, 5]].abs().max() < 0.02
    assert weight[0] == pytest.approx(1.95, abs=0.08)
    assert ridge(x, y, x)[:, 0].sub(y[:, 0]).abs().max() < 0.2


def test_ratios_are_over_the_largest_other() -> None:
    assert ratios({"a": {"a": 0.8, "b": 0.2, "c": 0.1}}) == {"a": pytest.approx(4)}


def test_landmark_distance_leaves_the_heads_place_out_of_the_mouths() -> None:
    points = torch.randn(3, 20, 2)
    moved = points + torch.tensor([3.0, 4.0])
    assert metrics_pictures.point_distance(points, moved) == pytest.approx(5, abs=1e-4)
    a, b = metrics_pictures.centred(points), metrics_pictures.centred(moved)
    assert metrics_pictures.point_distance(a, b) == pytest.approx(0, abs=1e-5)


def test_every_metric_says_what_it_is_and_where_it_comes_from() -> None:
    for name, entry in METRICS.items():
        assert entry.name == name
        assert len(entry.says) > 20, name
        assert entry.source, name
    with pytest.raises(ValueError, match="two metrics are called psnr"):
        metric("psnr", "", "higher")(lambda _: 0.0)
