"""Speed of the networks at full size: python -m benchmarks.networks [--rounds 5] [--threads 2] [--tiny]

Each network alone, batch 1 and 8, float32 and bfloat16, beside:
- the grouped reference: the generator as StyleGAN2 was published, with weights of its own for every frame, as a group
  of one large convolution (the twin that tests/farm/nets/test_modulation.py holds the shared-weight form against);
- the ceiling: the best GFLOP/s that a bare dense 3x3 convolution of the generator's own shapes reaches here, batch 1,
  channels last, weights packed beforehand, nothing before or after it. FLOPs are two for each multiplication and
  addition of the direct form of convolutions and linear layers; all else (modulation, blur, noise, norms) counts as
  nothing. Winograd layers need fewer than they are credited with, so that a share above 1 is possible.
Cases take turns; figures are medians of as many rounds as --rounds and --seconds allow, one at least. bfloat16 that the
processor lacks is emulated and very slow: a case whose batch of 1 took long is not tried with 8, and shown without.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.report import Cell, Table, interleaved, machine, medians, note, show
from farm.nets.encoders import ReadyMotion
from farm.nets.generator import Generator, ModulatedConv
from farm.nets.graphs import Graphed
from farm.nets.motion import MotionEncoder
from farm.nets.packed import PackedConv
from farm.nets.ready import in_pieces
from farm.nets.sizes import Sizes
from farm.nets.synthesis import Synthesis

BATCHES = (1, 8)
NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}
SLOW_S = 10.0
"""Emulated calls that would take longer are left out."""
CEILING_SHAPES = ((512, 512, 14), (512, 512, 28), (512, 512, 56), (256, 256, 112), (128, 128, 224))


class Grouped(ModulatedConv):
    """Weights for each item of the batch, as StyleGAN2 was published."""

    def forward(self, x_BCHW: Tensor, style_BD: Tensor) -> Tensor:
        batch, channels, height, width = x_BCHW.shape
        out, _, side, _ = self.weight.shape
        scale_BC = self.modulation(style_BD) * self.gain
        weight = self.weight[None] * scale_BC[:, None, :, None, None]
        if self.demodulate:
            weight = weight * torch.rsqrt(weight.square().sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
        x = x_BCHW.reshape(1, batch * channels, height, width)
        if self.blur is None:
            x = F.conv2d(x, weight.flatten(0, 1), padding=side // 2, groups=batch)
            return x.view(batch, out, height, width)
        x = F.conv_transpose2d(x, weight.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
        return self.blur(x.view(batch, out, 2 * height + 1, 2 * width + 1))


class Subject:
    """The networks with seeded weights, and inputs whose scales lie around 1 as trained ones do."""

    def __init__(self, sizes: Sizes, device: torch.device) -> None:
        torch.manual_seed(0)
        self.sizes, self.device = sizes, device
        self.shown: dict[torch.dtype, Tensor] = {}
        """The first picture of the last call, by type."""
        self.generator = Generator(sizes).eval().requires_grad_(False)
        self.motion = MotionEncoder(sizes).eval().requires_grad_(False)
        for module in self.generator.modules():
            if isinstance(module, ModulatedConv):
                module.modulation.weight.mul_(0.4)
        for name, parameter in self.generator.named_parameters():
            if name.endswith("noise.weight"):
                parameter.fill_(0.1)
        for network in (self.generator, self.motion):
            network.to(device)
        self.style = torch.randn(max(BATCHES), sizes.style, device=device)
        self.style[:, : sizes.appearance] = self.style[:1, : sizes.appearance]
        self.map = torch.randn(1, sizes.map, sizes.map_side, sizes.map_side, device=device)
        self.pictures = torch.rand(max(BATCHES), 3, sizes.image, sizes.image, device=device) * 2 - 1

    def synthesis(self, dtype: torch.dtype) -> Callable[[int], Tensor]:
        ready = Synthesis(self.generator, dtype, self.sizes.appearance)
        scene = ready.prepare(self.style[:1, : self.sizes.appearance], self.map)

        def run(batch: int) -> Tensor:
            images = ready(self.style[:batch, self.sizes.appearance :], scene)
            self.shown[dtype] = images[:1]
            return images

        return run

    def grouped(self, dtype: torch.dtype) -> Callable[[int], Tensor]:
        twin = copy.deepcopy(self.generator).to(dtype)
        for module in twin.modules():
            if isinstance(module, ModulatedConv):
                module.__class__ = Grouped
        style, app_map = self.style.to(dtype), self.map.to(dtype)
        return lambda batch: twin(style[:batch], app_map.expand(batch, -1, -1, -1))

    def encoder(self, dtype: torch.dtype) -> Callable[[int], object]:
        motion = ReadyMotion(self.motion, self.sizes, dtype)
        run = in_pieces(Graphed(motion), motion.together)
        pictures = self.pictures.to(dtype)
        return lambda batch: run(pictures[:batch])

    def gflop(self) -> dict[str, float]:
        """Of one frame, by hooks on the plain modules: convolutions and linear layers."""
        counted = {"generator": 0.0, "motion": 0.0}

        def count(name: str) -> Callable[..., None]:
            def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
                if isinstance(module, nn.Conv2d):
                    counted[name] += 2 * output.numel() * module.weight[0].numel()
                elif isinstance(module, nn.Linear):
                    counted[name] += 2 * module.weight.numel()
                elif isinstance(module, ModulatedConv):
                    # A transposed convolution spends its kernel on every input pixel.
                    pixels = inputs[0] if module.blur is not None else output
                    counted[name] += 2 * pixels.shape[2] * pixels.shape[3] * module.weight.numel()
                    counted[name] += 2 * module.modulation.weight.numel()

            return hook

        handles = [
            module.register_forward_hook(count(name))
            for name, network in (("generator", self.generator), ("motion", self.motion))
            for module in network.modules()
        ]
        self.generator(self.style[:1], self.map)
        self.motion(self.pictures[:1])
        for handle in handles:
            handle.remove()
        return {name: flop / 1e9 for name, flop in counted.items()}


def ceiling_cases(dtype: torch.dtype, device: torch.device) -> dict[str, tuple[float, Callable[[], object]]]:
    """Bare convolutions by name: GFLOP and the call."""
    cases: dict[str, tuple[float, Callable[[], object]]] = {}
    batch = 1 if device.type == "cpu" else max(BATCHES)
    for channels, out, side in CEILING_SHAPES:
        x = torch.randn(batch, channels, side, side, device=device, dtype=dtype)
        x = x.contiguous(memory_format=torch.channels_last)
        weight = torch.randn(out, channels, 3, 3, device=device, dtype=dtype)
        conv = PackedConv(weight, None, x.shape, padding=1)
        gflop = 2 * 9 * batch * channels * out * side * side / 1e9
        cases[f"{NAMES[dtype]} conv {channels}x{side}x{side}"] = (gflop, lambda conv=conv, x=x: conv(x))
    return cases


def measure(subject: Subject, dtypes: tuple[torch.dtype, ...], rounds: int, budget_s: float) -> dict[str, float]:
    """Median seconds of every case of these types; of one frame, or of one ceiling convolution.

    budget_s: what the rounds may take together, after one call of each case that warms up.
    """
    cases = all_cases(subject, dtypes)
    first_s: dict[str, float] = {}
    for name, case in cases.items():
        started = time.perf_counter()
        case()
        first_s[name] = time.perf_counter() - started
        note(f"{name}: {first_s[name]:.2f} s, warming up")
    fit = min(rounds, int(budget_s / sum(first_s.values())))
    note(f"{max(fit, 1)} rounds")
    taken = medians(interleaved(cases, fit, warm_up=0)) if fit > 1 else first_s
    return a_frame(taken)


def once(subject: Subject, dtypes: tuple[torch.dtype, ...]) -> dict[str, float]:
    """What `measure` gives, each case called once, and a large batch only where a single frame was quick."""
    taken: dict[str, float] = {}
    for name, case in all_cases(subject, dtypes).items():
        single = taken.get(f"{name.rpartition(' ')[0]} 1", 0.0) if "conv" not in name else 0.0
        if max(BATCHES) * single > SLOW_S:
            note(f"{name}: left out")
            continue
        started = time.perf_counter()
        case()
        taken[name] = time.perf_counter() - started
        note(f"{name}: {taken[name]:.2f} s")
    return a_frame(taken)


def all_cases(subject: Subject, dtypes: tuple[torch.dtype, ...]) -> dict[str, Callable[[], object]]:
    cases: dict[str, Callable[[], object]] = {}
    for dtype in dtypes:
        forms = {"ready": subject.synthesis, "grouped": subject.grouped, "motion": subject.encoder}
        for form, build in forms.items():
            run = build(dtype)
            for batch in BATCHES:
                cases[f"{NAMES[dtype]} {form} {batch}"] = lambda run=run, batch=batch: _done(run(batch))
        cases |= {
            name: lambda call=call: _done(call()) for name, (_, call) in ceiling_cases(dtype, subject.device).items()
        }
    return cases


def a_frame(taken: dict[str, float]) -> dict[str, float]:
    return {name: s / int(name.split()[2]) if "conv" not in name else s for name, s in taken.items()}


def _done(result: object) -> object:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return result


def psnr_db(subject: Subject, dtype: torch.dtype) -> float:
    """Of the first picture that was measured, in [-1, 1], to float32's."""
    exact, rough = subject.shown[torch.float32], subject.shown[dtype]
    return float(10 * torch.log10(4 / (exact - rough).square().mean()))


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of the networks at full size.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0, help="that the rounds may take together")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--tiny", action="store_true", help="small networks: only to see that this runs")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    subject = Subject(Sizes.tiny() if asked.tiny else Sizes.full(), device)
    gflop = subject.gflop()
    halves = (torch.bfloat16, torch.float16) if device.type == "cuda" else (torch.bfloat16,)
    is_native = device.type == "cuda" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    note(f"{machine()}; generator {gflop['generator']:.1f}, motion encoder {gflop['motion']:.1f} GFLOP a frame")
    if is_native:
        seconds = measure(subject, (torch.float32, *halves), asked.rounds, asked.seconds)
    else:
        seconds = measure(subject, (torch.float32,), asked.rounds, asked.seconds)
        note("no native bfloat16: emulated, each case once")
        seconds |= once(subject, halves)
    result: dict[str, object] = {}
    rows: list[list[Cell]] = []
    ceilings: list[list[Cell]] = []
    for dtype in (torch.float32, *halves):
        name = NAMES[dtype]
        speeds = {case: work / seconds[case] for case, (work, _) in ceiling_cases(dtype, device).items()}
        ceiling = max(speeds.values())
        ceilings += [[case, speed, "the ceiling" if speed == ceiling else ""] for case, speed in speeds.items()]
        for form, network in (("ready", "generator"), ("grouped", "generator"), ("motion", "motion")):
            for batch in BATCHES:
                s = seconds.get(f"{name} {form} {batch}")
                if s is None:
                    continue
                share = gflop[network] / s / ceiling
                rows.append([f"{network}, {form}" if network == "generator" else "motion encoder", name, batch, s])
                rows[-1] += [1 / s, gflop[network] / s, share]
        best = min(s for case, s in seconds.items() if case.startswith(f"{name} ready "))
        ratios = {
            batch: seconds[f"{name} grouped {batch}"] / seconds[f"{name} ready {batch}"]
            for batch in BATCHES
            if f"{name} grouped {batch}" in seconds and f"{name} ready {batch}" in seconds
        }
        result[f"{name}_vs_grouped"] = round(ratios[max(ratios)], 3)
        result[f"{name}_vs_grouped_at_batch"] = max(ratios)
        result[f"{name}_vs_grouped_batch_1"] = round(ratios[1], 3)
        result[f"{name}_share_of_ceiling"] = round(gflop["generator"] / best / ceiling, 3)
        result[f"{name}_ceiling_gflop_s"] = round(ceiling, 1)
        if dtype is not torch.float32:
            result[f"{name}_psnr_db"] = round(psnr_db(subject, dtype), 2)
    result |= {
        "bf16_vs_fp32_grouped_batch_1": round(seconds["fp32 grouped 1"] / seconds["bf16 ready 1"], 3),
        "bf16_is_native": is_native,
        "full_size": not asked.tiny,
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor() or "cpu",
        "threads": asked.threads,
        "gflop": {name: round(value, 2) for name, value in gflop.items()},
        "seconds_a_frame": {name: round(s, 5) for name, s in seconds.items() if "conv" not in name},
    }
    columns = ("network", "type", "batch", "s a frame", "frames/s", "GFLOP/s", "share of ceiling")
    size, kind = "tiny" if asked.tiny else "full", "native" if is_native else "EMULATED"
    title = f"Networks at {size} size: {machine()}, {asked.threads} threads; bf16 {kind}"
    show([Table(title, columns, rows), Table("Bare dense convolutions", ("shape", "GFLOP/s", ""), ceilings)], result)


if __name__ == "__main__":
    main()
