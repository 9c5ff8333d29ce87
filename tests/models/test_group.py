"""Films that several processes make together are those that one makes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerDiscreteScheduler, FlowMatchEulerDiscreteScheduler
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.catalogue.models import ModelSpec
from maquette.backend.models.control.pipeline import Windowed
from maquette.backend.models.engine import Engine
from maquette.backend.models.family import Cancelled, Progress
from maquette.backend.models.group import ALONE, Group, Part, shares, table_rows
from maquette.backend.models.isa.inputs import ISAInputs
from maquette.backend.models.isa.pipeline import ISAPipeline
from maquette.backend.models.isa.transformer import ISATransformer3DModel
from maquette.backend.models.mimicmotion.fusion import fused_sampling
from maquette.backend.models.windows import even_windows, fusion_windows

from .conftest import TINY_TRANSFORMER, make_shot, random_inputs, randomize
from .members import in_group


@given(size=st.integers(1, 12), calls=st.integers(1, 20), length=st.integers(1, 40))
def test_the_table_of_members(size: int, calls: int, length: int):
    rows = table_rows(size, calls, length)
    assert size % rows == 0 and size // rows <= length, "everybody has some of the axis"
    busiest = -(-calls // rows) * -(-length // (size // rows))
    assert busiest <= calls * length and busiest * size >= calls * length
    assert sum(shares(length, size)) == length and max(shares(length, size)) - min(shares(length, size)) <= 1
    if calls % size == 0:
        assert rows == size, "nothing is exchanged where calls can be shared out evenly"


def exchanged(group: Group) -> None:
    whole = torch.arange(2 * 7 * 5 * 3, dtype=torch.float32).view(2, 7, 5, 3)
    part = Part(group, 7)
    mine = whole[:, part.place]
    places = group.exchange(mine, split=2, join=1, joined=part.counts)
    assert torch.equal(places, whole[:, :, Part(group, 5).place])
    assert torch.equal(group.exchange(places, split=1, join=2, joined=shares(5, group.size)), mine)
    assert torch.equal(part.whole(mine, 1), whole)
    made: list[int] = []

    def call(place: int) -> torch.Tensor:
        made.append(place)
        return torch.full((2,), float(place))

    answers = group.together([lambda place=place: call(place) for place in range(5)], torch.empty(2))
    assert [float(answer[0]) for answer in answers] == [0, 1, 2, 3, 4] and made == group.mine(5)
    assert group.any(group.rank == 1) and not group.any(False)
    with pytest.raises(ZeroDivisionError if group.rank == 1 else TimeoutError), group.agreement(TimeoutError):
        assert group.rank != 1 or 1 / 0
    across, within = group.spread(1, 7)
    assert (across.size, within.size) == (1, group.size) and group.spread(2, 7)[0] is group.spread(2, 7)[0]


CASES: list[dict[str, Any]] = [
    {"steps": 1},
    {"guidance": 3.0, "frames": 13, "characters": 2},
    {"frames": 1, "guidance": 2.0, "steps": 1},
    {"frames": 29, "window": 5, "guidance": 2.0, "steps": 1},
    {"frames": 17, "start": "carried", "prediction": "residual", "steps": 1, "few": True},
]
"""What the sampling is asked for."""


def sampled(
    vae: Any, group: Group, frames: int = 17, characters: int = 1, size: int = 2, guidance: float = 1.0,
    steps: int = 2, window: int | None = None, few: bool = False, **config: Any,
) -> torch.Tensor:  # fmt: skip
    torch.manual_seed(0)
    network = ISATransformer3DModel(**TINY_TRANSFORMER, temporal_mlp_ratio=1.0, **config).eval()
    randomize(network)
    inputs = random_inputs(frames=frames, characters=characters, size=size)
    if characters > 1:
        inputs = apart(inputs)
    if few:
        inputs = inputs.drop(background=True)
    pipeline = ISAPipeline(vae=vae, transformer=network, scheduler=FlowMatchEulerDiscreteScheduler(shift=1.5))
    seed = torch.Generator().manual_seed(3)
    return pipeline(
        inputs, steps, guidance, seed, window=window, overlap=1, group=group, output_type="latent"
    ).latents  # fmt: skip


def apart(inputs: ISAInputs) -> ISAInputs:
    """The second character is away in the first frames, and has no reference."""
    mask, present = inputs.point_mask.clone(), inputs.reference_present.clone()
    mask[:, 1, :6], present[:, 1] = False, False
    return replace(inputs, point_mask=mask, reference_present=present)


def fused(group: Group) -> list[torch.Tensor]:
    """Windows of the other families, of networks that are none."""
    tiles = fusion_windows(13, 5, 1)
    x = torch.randn(13, 4, 2, 2, generator=torch.Generator().manual_seed(1))

    def predict(x_TChw: torch.Tensor, timestep: torch.Tensor, frames: Any, conditional: bool) -> torch.Tensor:
        return (x_TChw * (1 + conditional) + torch.tensor(frames).view(-1, 1, 1, 1)).sin()

    made = fused_sampling(predict, EulerDiscreteScheduler(), x, tiles, 2, 2.0, group=group)

    class Answers(SimpleNamespace):
        def __call__(self, hidden_states: torch.Tensor, control_hidden_states: torch.Tensor) -> tuple[torch.Tensor]:
            return ((hidden_states + control_hidden_states).cos(),)

    network = Answers(config={"num_attention_heads": 2}, cache_context=None)
    windowed = Windowed(network, torch.float32, even_windows(12, 4, 1), 1, lambda: None, group)
    film = x.transpose(0, 1)[None]
    return [made, windowed(film, 2 * film)[0]]


@pytest.fixture(scope="module")
def alone(vae: Any) -> list[torch.Tensor]:
    return [*(sampled(vae, ALONE, **case) for case in CASES), *fused(ALONE)]


@pytest.mark.parametrize("size", [2, 3, 4])
def test_what_several_processes_sample_is_what_one_does(vae: Any, alone: list[torch.Tensor], tmp_path: Path, size: int):

    # Four are a table of two by two where there is guidance.
    some = slice(1, 2) if size == 4 else slice(None)

    def work(group: Group) -> list[torch.Tensor]:
        exchanged(group)
        return [each.numpy() for each in [*(sampled(vae, group, **case) for case in CASES[some]), *fused(group)]]

    expected = [*alone[: len(CASES)][some], *alone[len(CASES) :]]
    for made in in_group(size, tmp_path, work):
        errors = [float((torch.from_numpy(a) - b).abs().max()) for a, b in zip(made, expected, strict=True)]
        assert max(errors) < 1e-5


def test_a_film_is_made_and_stopped_together(tiny_spec: ModelSpec, tmp_path: Path):
    """The first has the frames; who stops at a step, or fails before the first, ends it for both."""
    shot = make_shot(frames=13, steps=3)
    one = Engine(tiny_spec, "cpu").generate(shot, lambda _: None, lambda: False)

    def work(group: Group) -> Any:
        engine, told = Engine(tiny_spec, "cpu"), []
        made = engine.generate(shot, told.append, lambda: False)
        assert made.metadata["members"] == 2 and any(p.preview is not None for p in told) == group.leads
        draft = engine.generate(make_shot(frames=5, quality="draft"), told.append, lambda: False)
        assert bool(len(draft.frames)) == group.leads
        steps: list[Progress] = []
        with pytest.raises(Cancelled):
            engine.generate(
                shot, steps.append, lambda: group.rank == 1 and steps[-1:] and steps[-1].stage == "denoising"
            )
        assert steps[-1].stage == "denoising" and steps[-1].step == 0
        with pytest.raises(RuntimeError if group.rank == 1 else Cancelled):
            engine.generate(shot, lambda p: broken(p, group.rank), lambda: False)
        return made.frames

    frames, nothing = in_group(2, tmp_path, work)
    assert np.abs(frames.astype(int) - one.frames).max() <= 1 and len(nothing) == 0


def broken(progress: Progress, rank: int) -> None:
    if rank == 1 and progress.stage == "encoding":
        raise RuntimeError("broken")
