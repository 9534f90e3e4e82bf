"""Workers that share a batch: two processes, joined by gloo, do what one does; resumed by one, the curve goes on."""

from __future__ import annotations

import dataclasses
import multiprocessing
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from trainer import curves
from trainer.checkpoint import Place
from trainer.corpus import Corpus
from trainer.loop import Deadline, train
from trainer.recipes import Recipe
from trainer.world import ALONE, SharedDropout, SharedNorm, World, share_layers

# Three rows and two: an uneven share shows a wrong weight.
BATCH = 5


def _together(rank: int, address: str, recipe: Recipe, corpus: Corpus, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    world = World(rank, 2)
    try:
        _layers_are_those_of_one(world)
        train(recipe, corpus, Path(out), world=world, stop=lambda place: place == Place(len(recipe.stages) - 1, 3))
    except Deadline:
        pass
    finally:
        dist.destroy_process_group()


def _layers_are_those_of_one(world: World) -> None:
    """Norm, dropout, gather and the flat sum on each worker's rows, against all rows at once."""
    torch.manual_seed(0)
    x_GCHW, target = torch.randn(BATCH, 3, 4, 4) * 3 + 50, torch.randn(BATCH, 3, 4, 4)

    def network() -> nn.Module:
        torch.manual_seed(1)
        return nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1), nn.Dropout(0.5), nn.BatchNorm2d(3))

    def loss(y: torch.Tensor, wanted: torch.Tensor, everybody: torch.Tensor) -> torch.Tensor:
        return (y - wanted).square().mean() + everybody.flatten(1).std(0).square().mean()

    whole, shared = network(), network()
    share_layers(shared, world, BATCH)
    assert isinstance(shared[0], SharedNorm)  # type: ignore[index]
    assert isinstance(shared[2], SharedDropout)  # type: ignore[index]
    torch.manual_seed(2)
    y = whole(x_GCHW)
    one = loss(y, target, y)
    one.backward()
    start, stop = world.rows(BATCH)
    torch.manual_seed(2)
    y = shared(x_GCHW[start:stop])
    mine = loss(y, target[start:stop], world.gather(y.flatten(1), BATCH)) * world.share(BATCH)
    mine.backward()
    parameters = list(shared.parameters())
    unused = nn.Parameter(torch.zeros(2))
    total = world.add_up([*parameters, unused], mine.detach()[None])
    assert unused.grad is None
    torch.testing.assert_close(total[0], one.detach(), rtol=1e-4, atol=1e-5)
    for a, b in zip(parameters, whole.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-3, atol=1e-4)
    for (name, a), b in zip(shared.named_buffers(), whole.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4, msg=name)


def test_two_do_what_one_does_and_one_goes_on_from_there(recipe: Recipe, corpus: Corpus, tmp_path: Path) -> None:
    stages = tuple(
        dataclasses.replace(s, batch=BATCH, steps=3) for s in recipe.stages if s.scene in ("pose", "compose")
    )
    stages = (stages[0], dataclasses.replace(stages[1], steps=4))
    recipe = dataclasses.replace(recipe, stages=stages, sizes=dataclasses.replace(recipe.sizes, dropout=0.3))
    train(recipe, corpus, tmp_path / "one")
    context = multiprocessing.get_context("spawn")
    address = (tmp_path / "meet").as_uri()
    arguments = [(rank, address, recipe, corpus, str(tmp_path / "two")) for rank in range(2)]
    pair = [context.Process(target=_together, args=args) for args in arguments]
    for process in pair:
        process.start()
    for process in pair:
        process.join()
    assert [process.exitcode for process in pair] == [0, 0]
    train(recipe, corpus, tmp_path / "two")
    one, two = (list(curves.entries(tmp_path / name / curves.CURVES)) for name in ("one", "two"))
    assert len(one) == len(two) == 7
    for a, b in zip(one, two, strict=True):
        assert (b.pop("stage"), b.pop("step")) == (a.pop("stage"), a.pop("step"))
        assert b == pytest.approx(a, rel=2e-3, abs=2e-4)


def test_rows_are_dealt_whole_and_in_order() -> None:
    for count in (3, 7, 16):
        spans = [World(rank, 3).rows(count) for rank in range(3)]
        assert [row for start, stop in spans for row in range(start, stop)] == list(range(count))
        assert sum(World(rank, 3).share(count) for rank in range(3)) == pytest.approx(1)
    with pytest.raises(ValueError, match="cannot be shared"):
        World(0, 3).rows(2)


def test_alone_nothing_is_changed() -> None:
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout())
    share_layers(network, ALONE, 4)
    assert isinstance(network[0], nn.BatchNorm1d)
    x = torch.ones(2, 2)
    assert ALONE.gather(x, 2) is x
    assert ALONE.agree("x") == "x"
