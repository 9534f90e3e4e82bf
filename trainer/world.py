"""Workers that share each step: one batch between them, one gradient, one set of norm statistics, one dropout.

N workers give what one gives on the same global batch, up to the order of sums: rows are dealt by sample number, the
loss of a worker counts by its share of the rows, and whatever looks at the whole batch looks at all of it.
B rows of a worker, G of the global batch, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class World:
    """Worker `rank` of `size`. Every method is the identity for one worker alone. group: those of a larger group who
    share; None: all."""

    rank: int = 0
    size: int = 1
    group: dist.ProcessGroup | None = None

    @property
    def alone(self) -> bool:
        return self.size == 1

    def rows(self, count: int) -> tuple[int, int]:
        """[start, stop) of a global batch's rows that are this worker's. At least one each: ValueError else."""
        if count < self.size:
            raise ValueError(f"a batch of {count} cannot be shared by {self.size} workers")
        return self.rank * count // self.size, (self.rank + 1) * count // self.size

    def share(self, count: int) -> float:
        """What this worker's mean loss weighs in the mean over the global batch."""
        start, stop = self.rows(count)
        return (stop - start) / count

    def gather(self, x_BC: Tensor, count: int) -> Tensor:
        """x_GC, of all workers' rows in the order of samples. Gradients come back to the worker whose rows they are."""
        if self.alone:
            return x_BC
        return _Gather.apply(x_BC, self, count)  # pyright: ignore[reportReturnType]

    def weigh(self, mine: int, of: int, count: int) -> float:
        """What to multiply a mean over `mine` of `of` rows by, so that weighed by this worker's share of `count`
        samples, the workers' sum is the mean over all."""
        return 1.0 if self.alone else mine / of / self.share(count)

    def add_up(self, parameters: Sequence[nn.Parameter], extra: Tensor) -> Tensor:
        """One flat all_reduce: gradients become their sum over the workers, in place; so does `extra`, returned.

        A parameter that no worker has a gradient for keeps none: a zero one would still decay.
        """
        if self.alone:
            return extra
        with torch.no_grad():
            has = torch.tensor([float(p.grad is not None) for p in parameters], device=extra.device)
            pieces = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
            flat = torch.cat([*(piece.float().flatten() for piece in pieces), has, extra.float()])
            dist.all_reduce(flat, group=self.group)
            *sums, has, extra = flat.split([*(p.numel() for p in parameters), len(parameters), len(extra)])
            for parameter, total, some in zip(parameters, sums, has.tolist(), strict=True):
                # In the parameter's own layout, which need not be the flat one.
                parameter.grad = torch.empty_like(parameter).copy_(total.view_as(parameter)) if some else None
        return extra

    def agree(self, value: Any) -> Any:
        """Worker 0's value, at every worker."""
        if self.alone:
            return value
        held = [value]
        dist.broadcast_object_list(held, group=self.group, group_src=0)
        return held[0]

    def same(self, tensors: Iterable[Tensor]) -> None:
        """Worker 0's values in everybody's tensors, in place."""
        if self.alone:
            return
        for tensor in tensors:
            dist.broadcast(tensor.data, group=self.group, group_src=0)


ALONE: Final = World()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_BC: Tensor, world: World, count: int) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.world, ctx.count = world, count
        spans = [World(rank, world.size).rows(count) for rank in range(world.size)]
        longest = max(stop - start for start, stop in spans)
        padded = F.pad(x_BC.detach().contiguous(), (0, 0) * (x_BC.dim() - 1) + (0, longest - len(x_BC)))
        parts = [torch.empty_like(padded) for _ in spans]
        dist.all_gather(parts, padded, group=world.group)
        return torch.cat([part[: stop - start] for part, (start, stop) in zip(parts, spans, strict=True)])

    @staticmethod
    def backward(ctx: Any, gradient_GC: Tensor) -> tuple[Tensor, None, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        start, stop = ctx.world.rows(ctx.count)
        gradient_GC = gradient_GC.contiguous().clone()
        dist.all_reduce(gradient_GC, group=ctx.world.group)
        return gradient_GC[start:stop], None, None


class _Sum(torch.autograd.Function):
    """Sum over the workers; so is its gradient's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, world: World) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.world = world
        x = x.clone()
        dist.all_reduce(x, group=world.group)
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        gradient = gradient.contiguous().clone()
        dist.all_reduce(gradient, group=ctx.world.group)
        return gradient, None


class SharedNorm(nn.Module):
    """Batch norm over all workers' rows, with nn.BatchNorm's keys. (torch's SyncBatchNorm does not know CPUs.)"""

    num_batches_tracked: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, world: World) -> None:
        super().__init__()
        self._world = world
        self.weight, self.bias, self.eps, self.momentum = norm.weight, norm.bias, norm.eps, norm.momentum
        for name, value in norm.named_buffers():
            self.register_buffer(name, value)
        self.train(norm.training)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        across = [0, *range(2, x.dim())]
        full, channels = x.float(), x.shape[1]
        # The squares are summed around the running mean: far from zero, E[x^2] - E[x]^2 would lose its digits.
        shape = [1, channels, *[1] * (x.dim() - 2)]
        off = self.running_mean.detach().clone().view(shape)
        count = full.new_full((1,), x.numel() / channels)
        sums = torch.cat([(full - off).sum(across), (full - off).square().sum(across), count])
        total, squares, count = _Sum.apply(sums, self._world).split([channels, channels, 1])  # pyright: ignore[reportOptionalMemberAccess]
        shift = total / count
        mean, variance = off.flatten() + shift, squares / count - shift.square()
        with torch.no_grad():
            assert self.momentum is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1).clamp_min(1)), self.momentum)
            self.num_batches_tracked += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return ((full - mean.view(shape)) * scale.view(shape) + self.bias.view(shape)).to(x.dtype)


class SharedDropout(nn.Module):
    """Dropout whose mask is drawn for the global batch: each worker keeps its rows of it."""

    batch = 0

    def __init__(self, p: float, world: World) -> None:
        super().__init__()
        self.p, self._world = p, world

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0:
            return x
        start, stop = self._world.rows(self.batch)
        if stop - start != len(x):
            raise ValueError(f"dropout of a shared batch wants its {stop - start} rows, not {len(x)}")
        # As torch draws it: kept with chance 1 - p, in the order of memory.
        whole = x.new_empty((self.batch, *x.shape[1:]))
        if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
            whole = whole.to(memory_format=torch.channels_last)
        return x * whole.bernoulli_(1 - self.p).div_(1 - self.p)[start:stop]


def share_layers(network: nn.Module, world: World, batch: int) -> None:
    """Norms and dropouts of a network that several workers train on global batches of so many samples."""
    if world.alone:
        return
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(parent, name, SharedNorm(child, world))
            elif isinstance(child, nn.Dropout):
                setattr(parent, name, SharedDropout(child.p, world))
    for child in network.modules():
        if isinstance(child, SharedDropout):
            child.batch = batch
