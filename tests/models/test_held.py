"""What each of several devices holds that make a film together: measured, and as it is counted beforehand."""

from __future__ import annotations

import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from diffusers import WanVACETransformer3DModel
from maquette.backend.catalogue.models import model_spec
from maquette.backend.models.context_parallel import context_parallel, held_of_row
from maquette.backend.models.control.family import ControlFamily
from maquette.backend.models.control.pipeline import PLAN
from maquette.backend.models.family import Plan
from maquette.backend.models.group import ALONE, Group
from maquette.backend.models.memory.footprint import need_of
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .members import in_group


class Peak(TorchDispatchMode):
    """Bytes of tensors that are made and not yet gone, at the most."""

    def __init__(self, there: list[torch.Tensor]) -> None:
        super().__init__()
        self.bytes, self._live = 0, 0
        self._seen = {tensor.untyped_storage()._cdata for tensor in there}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is not None and storage._cdata not in self._seen:
                self._seen.add(storage._cdata)
                self._live += storage.nbytes()
                self.bytes = max(self.bytes, self._live)
                weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        return made

    def _gone(self, which: int, size: int) -> None:
        self._seen.discard(which)
        self._live -= size


def test_members_hold_no_more_than_is_counted(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = WanVACETransformer3DModel(
        num_attention_heads=8, attention_head_dim=64, ffn_dim=2560, num_layers=2, vace_layers=[0], vace_in_channels=96,
        text_dim=16, freq_dim=16,
    ).eval()  # fmt: skip
    x, control = torch.randn(1, 16, 4, 32, 32), torch.randn(1, 96, 4, 32, 32)
    step, text = torch.tensor([500.0]), torch.randn(1, 8, 16)

    def peak(group: Group) -> int:
        _, within = group.spread(1, 8, even=True)
        most = Peak([*net.parameters(), *net.buffers(), x, control, step, text])
        named = {"timestep": step, "encoder_hidden_states": text, "return_dict": False}
        with torch.no_grad(), most, context_parallel(net, within, PLAN):
            net(hidden_states=x, control_hidden_states=control, **named)
        return most.bytes

    alone = peak(ALONE)
    for size in (2, 4):
        shares = [each / alone for each in in_group(size, tmp_path, peak)]
        assert all(0.9 / size < share <= held_of_row(size) for share in shares), shares


def test_what_is_counted() -> None:
    spec, family = model_spec("vace-14b"), ControlFamily()
    plan = Plan(1280, 720, 81, ((0, 81),), (), (1280, 720), 81)
    assert [family.held(spec, plan, size) for size in (1, 2, 4)] == [1.0, held_of_row(2), held_of_row(4)]
    # Two windows are evaluated side by side, each whole.
    windows = replace(plan, frames=150, model_frames=149, windows=((0, 81), (69, 150)))
    assert [family.held(spec, windows, size) for size in (2, 4)] == [1.0, held_of_row(2)]
    one, two = (need_of(spec, replace(plan, held=held), ()) for held in (1.0, held_of_row(2)))
    assert two.activations["denoising"] == int(one.activations["denoising"] * held_of_row(2))
    assert two.activations["decoding"] == one.activations["decoding"] < one.activations["denoising"]
    assert (
        need_of(spec, replace(plan, held=0.5), (), window=41).activations
        == need_of(spec, plan, (), window=41).activations
    )
