"""The backend OpenVINO gives what the torch modules give, and leaves the process as it was."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import phantom
import pytest
import torch

from phantomseg import runtime
from phantomseg.errors import ModelError, PhantomSegError
from phantomseg.image.image import Image
from phantomseg.inference.predict import predict
from phantomseg.inference.segment import segment
from phantomseg.inference.tiles import Tiles
from phantomseg.labels import label_set
from phantomseg.network.fast import FastConfig, FastNet
from phantomseg.network.model import Model, build_network
from phantomseg.network.norms import Norms, kept
from phantomseg.network.openvino import MOST_COMPILED, choose_backend, to_openvino
from phantomseg.network.openvino_import import openvino_available
from phantomseg.network.signal_stack import signal_stack
from phantomseg.network.unet import UNet, UNetConfig
from phantomseg.network.volume import whole

CPU = torch.device("cpu")
SMALL = FastConfig(classes=51, features=(4, 6, 8), convolutions=(1, 1, 2), detail=2)
KINDS = {
    "fast": lambda: FastNet(SMALL),
    "fast, more detail": lambda: FastNet(replace(SMALL, detail_convolutions=2)),
    "unet": lambda: UNet(UNetConfig(classes=51, levels=3, features=4)),
}
needs_openvino = pytest.mark.skipif(not openvino_available(), reason="openvino is not installed")


@pytest.fixture(autouse=True)
def float32(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(runtime, "number_format", lambda device: torch.float32)
    yield
    torch.set_num_threads(before)


def model(kind: str) -> Model:
    torch.manual_seed(0)
    network = KINDS[kind]()
    with torch.no_grad():
        for values in (*network.parameters(), *network.buffers()):
            if values.is_floating_point():  # norms of a fresh network do nothing
                values += 0.3 * torch.rand_like(values)
    return Model(network.eval(), label_set("head"))


def image(*shape: int) -> torch.Tensor:
    return torch.rand(1, 1, *shape, generator=torch.Generator().manual_seed(0))


def close(found: torch.Tensor, wanted: torch.Tensor, share: float = 1e-5) -> bool:
    """Whether values differ by a share of their spread at most."""
    return found.shape == wanted.shape and bool((found - wanted).std() <= share * wanted.std())


@needs_openvino
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("over", [None, (slice(8, 24), slice(0, 16), slice(0, 8))])
@torch.no_grad()
def test_logits_of_blocks_are_those_of_torch(kind: str, over: tuple[slice, slice, slice] | None) -> None:
    ours, theirs = model(kind), to_openvino(model(kind))
    given = image(24, 16, 16)
    norms = [None if over is None else Norms(over) for _ in range(2)]
    wanted, found = (m.network.encode(given, n) for m, n in zip((ours, theirs), norms, strict=True))
    assert close(found, wanted)
    for block in (whole(given), (slice(4, 10), slice(0, 16), slice(6, 16))):
        assert close(theirs.network.decode(found, given, block), ours.network.decode(wanted, given, block))


@needs_openvino
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_norms_are_kept_for_other_images(kind: str) -> None:
    ours, theirs = model(kind), to_openvino(model(kind))
    given = image(16, 16, 16)
    norms = [Norms((slice(0, 8), slice(8, 16), slice(0, 16))) for _ in range(2)]
    for m, n in zip((ours, theirs), norms, strict=True):
        m.network.encode(given, n)
    assert len(norms[0].kept) == len(norms[1].kept) == (6 if kind != "unet" else 0)
    for wanted, found in zip(norms[0].kept, norms[1].kept, strict=True):
        assert torch.allclose(found.mean, wanted.mean, atol=1e-4)
        assert torch.allclose(found.variance, wanted.variance, rtol=1e-4)
    other = 2 * image(8, 24, 16)
    for _ in range(2):
        wanted = ours.network.encode(other, kept(norms[0]))
        assert close(theirs.network.encode(other, kept(norms[1])), wanted, 1e-4)  # their own differ by as much
        assert close(theirs.network.encode(other, kept(norms[0])), wanted)  # the ones that torch found


@needs_openvino
@pytest.mark.parametrize("tiles", [None, Tiles((32, 16, 16), (24, 16, 16), 8)])
def test_probabilities_are_those_of_torch(tiles: Tiles | None) -> None:
    given = image(32, 16, 16)
    wanted, found = (
        predict(m, given, ["tissue"], flip=True, tiles=tiles) for m in (model("fast"), to_openvino(model("fast")))
    )
    assert torch.allclose(found.sets[0].float(), wanted.sets[0].float(), atol=2e-3)
    assert wanted.agreement is not None and found.agreement is not None
    assert torch.allclose(found.agreement, wanted.agreement, atol=1e-3)


@needs_openvino
def test_bfloat16_differs_by_its_rounding_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    given = image(16, 16, 16)
    with torch.no_grad():
        wanted = model("fast").network(given)
        monkeypatch.setattr(runtime, "number_format", lambda device: torch.bfloat16)
        network = to_openvino(model("fast")).network
        found = network.decode(network.encode(given), given, whole(given))
    assert found.dtype == torch.bfloat16
    assert close(found.float(), wanted, share=0.03)


@needs_openvino
def test_a_scan_gets_the_labels_of_torch_twice() -> None:
    scan = Image(phantom.head((20, 22, 18)).astype(np.float32), np.diag([-1.2, 1, 1.4, 1]))
    torch.manual_seed(0)
    tiny = Model(
        build_network("fast", {"classes": 51, "features": [4, 8], "convolutions": [1, 1], "detail": 2}),
        label_set("head"),
    )
    wanted = segment(scan, tiny, "tissue").image.voxels
    quick = to_openvino(tiny)
    first, second = (segment(scan, quick, "tissue").image.voxels for _ in range(2))
    assert np.array_equal(first, second)
    assert (first == wanted).mean() > 0.99


@needs_openvino
def test_graphs_are_compiled_once_and_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    network = to_openvino(model("fast")).network
    made: list[int] = []
    compiled = "phantomseg.network.openvino._compile"
    there = sys.modules["phantomseg.network.openvino"]._compile
    monkeypatch.setattr(compiled, lambda graph, threads, dtype: made.append(threads) or there(graph, threads, dtype))
    given = image(16, 16, 16)
    for low in (0, 8):  # another place of as large a block is no other graph
        network.encode(given, Norms((slice(low, low + 8), slice(0, 16), slice(0, 16))))
    assert made == [1]
    torch.set_num_threads(2)
    network.encode(given)
    assert made == [1, 2]
    for length in range(8, 8 * (MOST_COMPILED + 2), 8):
        network.encode(image(length, 8, 8))
    assert len(network._compiled) == MOST_COMPILED


@needs_openvino
def test_model_stays_as_it_was_and_says_what_computes() -> None:
    ours = model("fast")
    theirs = to_openvino(ours, threads=1)
    assert type(ours.network) is FastNet and theirs.labels is ours.labels and theirs.spacing_mm == ours.spacing_mm
    assert theirs.network.multiple == ours.network.multiple == 8
    assert next(theirs.network.parameters()) is next(ours.network.parameters())
    assert theirs.network.backend.startswith("openvino 20")
    threads = torch.get_num_threads()
    theirs.network.encode(image(8, 8, 8))
    assert torch.get_num_threads() == threads


@needs_openvino
def test_what_it_cannot_run_is_refused() -> None:
    with pytest.raises(ModelError, match="OpenVINO does not run Linear; choose backend torch"):
        to_openvino(Model(torch.nn.Linear(1, 1), label_set("head")))
    with pytest.raises(ModelError, match="given 2 images of 1 channels"):
        to_openvino(model("fast")).network.encode(image(8, 8, 8).expand(2, 1, 8, 8, 8))


@needs_openvino
def test_nothing_is_printed_reported_or_written(tmp_path: Path) -> None:
    code = """
import sys, torch
from phantomseg.labels import label_set
from phantomseg.network.model import Model, build_network
from phantomseg.network.openvino import to_openvino
network = build_network("fast", {"classes": 51, "features": [4, 8], "convolutions": [1, 1], "detail": 2})
to_openvino(Model(network, label_set("head"))).network.encode(torch.rand(1, 1, 8, 8, 8))
assert "openvino_telemetry" not in sys.modules and "openvino" in sys.modules
"""
    environment = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


@needs_openvino
def test_ctrl_c_finds_the_stack_it_had() -> None:
    runs = to_openvino(model("fast"))
    before = signal_stack()
    predict(runs, image(16, 16, 16), ["tissue"], flip=False)
    after = signal_stack()
    assert (after.start, after.flags, after.size) == (before.start, before.flags, before.size)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_auto_is_torch() -> None:
    assert choose_backend("auto", CPU) == choose_backend("auto", torch.device("cuda")) == "torch"
    assert choose_backend("torch", CPU) == "torch"


def test_unknown_backend_and_wrong_device_are_refused() -> None:
    with pytest.raises(PhantomSegError, match="^there is no backend 'onnx'; choose auto or one of torch, openvino$"):
        choose_backend("onnx", CPU)
    with pytest.raises(PhantomSegError, match="computes on the CPU, and the device is cuda; choose device cpu or"):
        choose_backend("openvino", torch.device("cuda"))


def test_missing_or_damaged_openvino_is_said_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "openvino"]:
        monkeypatch.delitem(sys.modules, name)
    there = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "openvino" else there(name))
    assert not openvino_available()
    for attempt in (lambda: choose_backend("openvino", CPU), lambda: to_openvino(model("fast"))):
        with pytest.raises(PhantomSegError, match=r"not installed; run pip install 'phantomseg\[openvino\]'$"):
            attempt()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())

    def damaged(name: str) -> ModuleType:
        raise ImportError("libtbb.so is missing")

    monkeypatch.setattr(importlib, "import_module", damaged)
    with pytest.raises(PhantomSegError, match=r"cannot be imported \(libtbb.so is missing\); install it again"):
        choose_backend("openvino", CPU)
