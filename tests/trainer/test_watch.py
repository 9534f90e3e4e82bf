"""What ends a training that makes no sense any more; draws ahead; numbers of GPUs that this machine has not."""

from __future__ import annotations

import dataclasses
import threading
from dataclasses import dataclass

import pytest
import torch

from trainer.augment import _hashed_grain
from trainer.precision import check_architecture, full
from trainer.prefetch import drawn_ahead
from trainer.status import TrainingFailed
from trainer.watch import AWAY, SETTLE, Watch

CPU = torch.device("cpu")


def test_what_is_no_number_is_named() -> None:
    with pytest.raises(TrainingFailed, match=r"stage lip, step 3: lip/sync_seen is not finite") as failed:
        Watch().see("lip", 3, "lip", float("nan"), {"lip/sync_seen": float("nan"), "lip/sync_heard": 1.0})
    assert failed.value.code == "nan"


def test_a_loss_that_runs_away_has_diverged_and_a_noisy_one_has_not() -> None:
    watch = Watch()
    for step in range(200):
        watch.see("s", step, "p", (-1) ** step * 2.0 * (15 if step % 20 == 19 else 1), {})

    def run_away() -> None:
        for step in range(100):
            watch.see("s", step, "p", 2.0 * AWAY * 2, {})

    with pytest.raises(TrainingFailed, match="from 2") as failed:
        run_away()
    assert failed.value.code == "diverged"
    assert watch.levels["p"].steps > 200 > SETTLE


def test_batches_come_in_order_from_another_thread_ahead_of_time() -> None:
    drawn: list[tuple[int, str]] = []
    ahead = threading.Event()

    def draw(step: int) -> int:
        drawn.append((step, threading.current_thread().name))
        if step == 2:
            ahead.set()
        return step * 10

    with drawn_ahead(draw, range(1, 6), CPU) as batches:
        assert ahead.wait(20)
        assert list(batches) == [10, 20, 30, 40, 50]
    assert {name for _, name in drawn} == {"draw"}
    assert not [thread for thread in threading.enumerate() if thread.name == "draw"]


def test_an_error_in_a_draw_comes_out_where_its_batch_would_have() -> None:
    def draw(step: int) -> int:
        if step == 1:
            raise ValueError("no such clip")
        return step

    with drawn_ahead(draw, range(3), CPU) as batches:
        assert next(batches) == 0
        with pytest.raises(ValueError, match="no such clip"):
            next(batches)


def test_who_stops_early_does_not_wait_for_draws() -> None:
    with drawn_ahead(lambda step: step, range(1000), CPU) as batches:
        assert next(batches) == 0
    assert not [thread for thread in threading.enumerate() if thread.name == "draw"]


@pytest.mark.parametrize("flush", [True, False])
def test_denormals_are_treated_alike_in_both_threads(flush: bool) -> None:
    """A thread takes over its maker's rounding and flushing; else draws ahead would differ in their last bits."""
    before = float(torch.tensor(1e-40) * 1.0) == 0.0
    torch.set_flush_denormal(flush)
    try:
        with drawn_ahead(lambda _: float(torch.tensor(1e-40) * 1.0), range(1), CPU) as batches:
            assert (next(batches) == 0.0) == flush
    finally:
        torch.set_flush_denormal(before)


@pytest.mark.parametrize(
    ("card", "built", "runs"),
    [
        ("sm_70", ["sm_50", "sm_70", "sm_90"], True),
        ("sm_70", ["sm_75", "sm_80", "sm_90"], False),
        ("sm_89", ["sm_80"], True),
        ("sm_90", ["sm_80"], False),
        ("sm_120", ["sm_80", "compute_90"], True),
        ("sm_90", ["sm_90a"], True),
        ("sm_90", [], False),
    ],
)
def test_a_card_that_this_torch_was_not_built_for_is_refused(card: str, built: list[str], runs: bool) -> None:
    if runs:
        check_architecture(card, built, "card")
    else:
        with pytest.raises(RuntimeError, match=f"card is {card}"):
            check_architecture(card, built, "card")


def test_halves_are_made_whole_wherever_they_are() -> None:
    @dataclass(frozen=True)
    class Seen:
        image: torch.Tensor
        maps: tuple[list[torch.Tensor], torch.Tensor]
        banks: None = None

    half = torch.ones(2, dtype=torch.bfloat16)
    whole = full(Seen(half, ([half], torch.ones(1, dtype=torch.long))))
    assert whole.image.dtype == whole.maps[0][0].dtype == torch.float32
    assert whole.maps[1].dtype == torch.long
    same = torch.ones(2)
    assert full(same) is same
    assert dataclasses.is_dataclass(whole)


def test_a_gpus_grain_is_noise_too() -> None:
    grain = _hashed_grain(torch.Size((4, 3, 64, 64)), torch.tensor([0.0, 0.1, 0.1, 0.9]), CPU)
    assert torch.equal(grain[1], grain[2])
    assert abs(float(grain.mean())) < 0.01
    assert float(grain.std()) == pytest.approx(1, abs=0.01)
    flat = grain[[0, 1, 3]].flatten(1)
    assert (torch.corrcoef(flat) - torch.eye(3)).abs().max() < 0.03
    assert abs(float((flat[:, 1:] * flat[:, :-1]).mean())) < 0.02
