"""The benchmark of the networks runs, and its last line has the keys that are read from it. Times are not judged."""

from __future__ import annotations

import itertools
import json

import pytest
import torch

from benchmarks import networks
from farm.nets.sizes import Sizes


def test_it_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.argv", ["networks", "--tiny", "--rounds", "1", "--threads", "1"])
    monkeypatch.setattr(networks, "CEILING_SHAPES", ((16, 16, 14), (32, 32, 28)))
    networks.main()
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    for key in ("vs_grouped", "share_of_ceiling"):
        assert result[f"fp32_{key}"] > 0
        assert result[f"bf16_{key}"] > 0
    assert result["bf16_psnr_db"] >= 45


def test_what_it_compares_is_the_same_generator() -> None:
    subject = networks.Subject(Sizes.tiny(), torch.device("cpu"))
    with torch.inference_mode():
        ready, grouped = (form(torch.float32)(3) for form in (subject.synthesis, subject.grouped))
    assert grouped.std() > 0.1
    assert (ready - grouped).abs().max() <= 1e-4
    assert not any(isinstance(module, networks.Grouped) for module in subject.generator.modules())


def test_flops_are_those_of_convolutions_and_linear_layers() -> None:
    sizes = Sizes.tiny()
    counted = networks.Subject(sizes, torch.device("cpu")).gflop()
    widths, side = sizes.generator, sizes.map_side
    products = side**2 * (9 * sizes.map * widths[0] + 3 * widths[0])
    modulated = [sizes.map, widths[0]]
    for below, width in itertools.pairwise(widths):
        products += side**2 * 9 * below * width  # a transposed convolution spends its kernel on every input pixel
        side *= 2
        products += side**2 * (9 * width * width + 3 * width)
        modulated += [below, width, width]
    products += sizes.style * sum(modulated)
    assert counted["generator"] == pytest.approx(2 * products / 1e9)
    assert counted["motion"] > 0
