"""Every family under every arrangement in memory; what it reports, and what it does when numbers or people stop it.

There is one device here. Offloaded weights are made unusable while they are away, so that whatever reads them outside
of the calls that fetch them is found.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.hooks import CpuOffload
from diffusers.hooks.group_offloading import ModuleGroup, _is_group_offload_enabled
from maquette.backend.catalogue.models import ModelError, ModelSpec, find_specs
from maquette.backend.models import engine as engines
from maquette.backend.models.engine import Engine
from maquette.backend.models.family import Cancelled, EngineError, Family, Network, NotFinite, Plan, Progress
from maquette.backend.models.generation import Generation
from maquette.backend.models.memory import footprint, placement
from maquette.backend.models.memory.arrangement import ORDER, Mode, Strategy
from maquette.backend.models.registry import find_family
from maquette.backend.shot import Shot

from .conftest import make_shot as isa_shot
from .control import builders as vace
from .members import in_group
from .mimicmotion import conftest as mimicmotion
from .mofa import shots as mofa
from .mtvcrafter import builders as mtvcrafter
from .tiny import save_weights

FAMILIES = ("isa", "vace", "animate", "ltx", "mtvcrafter", "mimicmotion", "mofa")
ARRANGEMENTS = [*(s for s in ORDER if not s.tiling), Strategy(Mode.MODELS, tiling=True)]
STAGES = ("loading", "encoding", "denoising", "decoding")


def made(family: str, folder: Path, isa: ModelSpec) -> tuple[ModelSpec, Shot]:
    """A tiny model with its weights, and a shot for it."""
    if family == "isa":
        return isa, isa_shot(frames=5)
    if family == "vace":
        spec = vace.tiny_spec(folder)
        vace.write_weights(spec)
        return spec, vace.led_shot(3)
    if family == "animate":
        spec = vace.tiny_spec(folder, "wan-animate-14b")
        vace.write_weights(spec)
        return spec, vace.animated_shot(2, face="none")
    if family == "ltx":
        spec = vace.tiny_spec(folder, "ltx-2.3")
        vace.write_weights(spec)
        return spec, vace.in_context_shot(2, strength=0.5)
    if family == "mtvcrafter":
        spec = mtvcrafter.tiny_spec(folder, mtvcrafter.TINY_17B)
        mtvcrafter.write_weights(spec)
        return spec, mtvcrafter.dancing(5, model=spec.id)
    if family == "mimicmotion":
        spec = mimicmotion.tiny_spec(folder)
        save_weights(spec)
        return spec, mimicmotion.make_shot(2)
    spec = mofa.small_preset(folder, "mofa-trajectory")
    save_weights(spec)
    return spec, mofa.shot_of(spec, 2, {"motion": "tracks"})


class Copying:
    """A family whose networks are read once and copied from then on."""

    def __init__(self, family: Family, read: dict[str, torch.nn.Module]) -> None:
        self._family, self._read = family, read

    def __getattr__(self, name: str) -> Any:
        return getattr(self._family, name)

    def networks(self, *arguments: Any) -> dict[str, Network]:
        found = self._family.networks(*arguments)
        return {name: replace(network, load=partial(self._copy, name, network)) for name, network in found.items()}

    def _copy(self, name: str, network: Network) -> torch.nn.Module:
        if name not in self._read:
            self._read[name] = network.load()
        return twin(self._read[name], {})


def twin(module: torch.nn.Module, made: dict[int, Any]) -> torch.nn.Module:
    """A copy with weights and hooks of its own, which shares the rest; ``copy.deepcopy`` takes ten times as long."""

    def weight(of: torch.Tensor | None) -> torch.Tensor | None:
        if of is not None and id(of) not in made:
            copied = of.detach().clone()
            made[id(of)] = (
                torch.nn.Parameter(copied, of.requires_grad) if isinstance(of, torch.nn.Parameter) else copied
            )
        return None if of is None else made[id(of)]

    if id(module) not in made:
        made[id(module)] = new = module.__class__.__new__(module.__class__)
        for name, value in vars(module).items():
            new.__dict__[name] = value.copy() if type(value) in (dict, list, OrderedDict) else value
        for name in ("_parameters", "_buffers"):
            new.__dict__[name] = {key: weight(value) for key, value in vars(module)[name].items()}
        new.__dict__["_modules"] = {
            key: None if child is None else twin(child, made) for key, child in module._modules.items()
        }
    return made[id(module)]


class Made:
    """A family's tiny model, and the film that it makes with everything on the device.

    Attributes:
        resident: the engine that made it.
    """

    def __init__(self, name: str, folder: Path, isa: ModelSpec) -> None:
        self.spec, self.shot = made(name, folder, isa)
        self._read: dict[str, torch.nn.Module] = {}
        self.resident = Engine(self.spec, "cpu", Copying(find_family(self.spec), self._read))
        self.film = self.run(self.resident).frames.astype(int)

    def engine(self) -> Engine:
        """A new one, whose weights are copied rather than read again."""
        return Engine(self.spec, "cpu", Copying(find_family(self.spec), self._read))

    def run(self, engine: Engine, on_progress: Callable = lambda _: None, cancelled: Callable = lambda: False):
        return engine.generate(self.shot, on_progress, cancelled)


@pytest.fixture(scope="module", params=FAMILIES)
def model(request, tmp_path_factory: pytest.TempPathFactory, tiny_spec: ModelSpec) -> Made:
    return Made(request.param, tmp_path_factory.mktemp("model"), tiny_spec)


@pytest.fixture
def unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that are away hold NaN."""
    kept: dict[torch.nn.Parameter, torch.Tensor] = {}

    def weights(holder: object) -> Iterator[torch.nn.Parameter]:
        if isinstance(holder, torch.nn.Module):
            yield from holder.parameters()
            return
        for module in holder.modules:  # type: ignore[attr-defined]
            yield from module.parameters()
        yield from holder.parameters  # type: ignore[attr-defined]

    def away(holder: object) -> None:
        for weight in weights(holder):
            if weight not in kept and weight.dtype != placement.STORAGE:
                kept[weight] = weight.data
                weight.data = torch.full_like(weight.data, torch.nan)

    def back(holder: object) -> None:
        for weight in weights(holder):
            if weight in kept:
                weight.data = kept.pop(weight)

    offload, onload, send, fetch = (
        ModuleGroup.offload_,
        ModuleGroup.onload_,
        CpuOffload.init_hook,
        CpuOffload.pre_forward,
    )
    monkeypatch.setattr(ModuleGroup, "offload_", lambda self: (offload(self), away(self))[0])
    monkeypatch.setattr(ModuleGroup, "onload_", lambda self: (back(self), onload(self))[1])
    monkeypatch.setattr(CpuOffload, "init_hook", lambda self, module: (send(self, module), away(module))[0])
    monkeypatch.setattr(
        CpuOffload, "pre_forward", lambda self, module, *a, **k: (back(module), fetch(self, module, *a, **k))[1]
    )


@pytest.mark.usefixtures("unusable")
@pytest.mark.parametrize("strategy", ARRANGEMENTS, ids=str)
def test_every_family_obeys_every_arrangement(model: Made, strategy: Strategy, monkeypatch) -> None:
    monkeypatch.setattr(footprint, "SMALL", 0)
    for module in (placement, engines):
        monkeypatch.setattr(module, "check_fits", lambda *_, **__: strategy)
    engine = model.engine()
    result = model.run(engine)
    assert result.metadata["placement"] == str(strategy)
    denoiser = engine.networks["unet" if "unet" in engine.networks else "transformer"]
    hooks = {Mode.RESIDENT: (False, False), Mode.MODELS: (True, False)}.get(strategy.mode, (False, True))
    assert (hasattr(denoiser, "_hf_hook"), _is_group_offload_enabled(denoiser)) == hooks
    stored = {parameter.dtype for parameter in denoiser.parameters()}
    assert (placement.STORAGE in stored) is strategy.casting
    vae = engine.networks["vae"]
    assert bool(getattr(vae, "use_tiling", False)) is (strategy.tiling and "tile_megapixels" in model.spec.memory)
    assert bool(result.notes and "came to the GPU in parts" in " ".join(result.notes)) is (
        strategy.mode is not Mode.RESIDENT
    )
    apart = np.abs(result.frames.astype(int) - model.film)
    assert apart.max() <= 1 if not (strategy.casting or strategy.tiling) else apart.mean() < 0.5 * model.film.std()
    if strategy not in (Strategy(Mode.MODELS), Strategy(Mode.LAYERS)):
        return
    # Once more with the networks as they lie, some of them away.
    assert np.abs(model.run(engine).frames - result.frames.astype(int)).max() <= 1


@pytest.mark.parametrize("network", ["denoiser", "vae"])
def test_numbers_that_are_not_finite_end_the_job(model: Made, network: str) -> None:
    engine = model.resident
    name = "vae" if network == "vae" else ("unet" if "unet" in engine.networks else "transformer")
    module = engine.networks[name]
    calls = []

    def spoil(_, arguments, given):
        if network == "denoiser" and arguments and arguments[0] is None:
            return given  # Conditions are prepared, nothing is denoised yet.
        calls.append(1)
        return torch.utils._pytree.tree_map(lambda x: x * torch.nan if isinstance(x, torch.Tensor) else x, given)

    if network == "denoiser":
        handle = module.register_forward_hook(spoil, prepend=True)
    else:
        handle = module.decoder.register_forward_hook(spoil)
    with pytest.raises(NotFinite, match=f"network {name} gave .* not finite") as caught:
        model.run(engine)
    handle.remove()
    assert calls and "another seed" in str(caught.value)
    assert network == "vae" or f"at step 1 of {model.spec.defaults.steps}" in str(caught.value)
    # Nothing of it stays.
    assert np.abs(model.run(engine).frames - model.film).max() <= 1


def test_every_stage_is_reported_with_a_preview_at_the_end(model: Made) -> None:
    told: list[Progress] = []
    result = model.run(model.engine(), told.append)
    assert list(dict.fromkeys(progress.stage for progress in told)) == list(STAGES)
    for stage in STAGES:
        steps = [progress.step for progress in told if progress.stage == stage]
        last = [progress for progress in told if progress.stage == stage][-1]
        assert steps == sorted(steps) and last.step == last.steps, stage
        if stage == "denoising":
            assert last.preview is not None and last.preview.dtype == np.uint8
            assert last.preview.shape == result.frames.shape[1:]


def test_the_seed_decides(model: Made) -> None:
    settings = model.shot.settings
    other = replace(model.shot, settings=replace(settings, seed=settings.seed + 1))
    assert not np.array_equal(model.resident.generate(other, lambda _: None, lambda: False).frames, model.film)
    assert np.array_equal(model.run(model.resident).frames, model.film)


def test_it_can_be_stopped_at_every_stage(model: Made) -> None:
    engine = model.engine()
    for stage in STAGES:
        told: list[Progress] = []
        with pytest.raises(Cancelled):
            model.run(engine, told.append, lambda told=told, stage=stage: bool(told) and told[-1].stage == stage)
        assert [progress.stage for progress in told].count(stage) == 1
    assert np.array_equal(model.run(engine).frames, model.film)


def test_weights_that_cannot_be_read_are_explained(model: Made, tmp_path: Path) -> None:
    spec = replace(model.spec, folder=tmp_path / "cut")
    copytree(model.spec.folder, spec.folder)
    part = "unet" if (spec.folder / "unet").is_dir() else "transformer"
    path = spec.folder / part / "diffusion_pytorch_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(EngineError, match=f"{part}: cannot be read .* run: maquette models check {spec.id}") as caught:
        model.run(Engine(spec, "cpu"))
    assert caught.value.field == "settings.model"


def test_cancel_is_looked_at_while_weights_are_read(model: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only between networks: asked often within the first one. In bfloat16, as on a GPU, which is torch's default
    while diffusers makes a network."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    reports: list[Progress] = []
    asked = []

    def cancelled() -> bool:
        if reports and reports[-1].stage == "loading":
            asked.append(reports[-1].step)
        return len(asked) > 12

    engine = Engine(model.spec, "cpu")
    with pytest.raises(Cancelled):
        model.run(engine, reports.append, cancelled)
    assert reports[-1].stage == "loading" and set(asked) == {0} and not engine.networks
    assert torch.get_default_dtype() == torch.float32


def test_previews_are_made_when_due_and_are_small() -> None:
    class Wide(Family):
        def plan(self, spec, shot): ...

        def sample(self, run, conditions): ...

        def decode(self, run, conditions, sampled): ...

    seen: list[Progress] = []
    drawn = []
    plan = Plan(1000, 500, 9, ((0, 9),), ())
    cpu = torch.device("cpu")
    run = Generation(None, None, plan, Wide(), 10, 1.0, cpu, torch.float32, seen.append, lambda: False)  # type: ignore[arg-type]

    def still() -> np.ndarray:
        drawn.append(1)
        return np.zeros((50, 100, 3), np.uint8)

    for step in range(1, 11):
        run.stepped(step, 10, still)
    assert len(drawn) == 2 and seen[-1].preview is not None and seen[-1].preview.shape == (192, 384, 3)
    assert [report.step for report in seen if report.preview is not None] == [1, 10]


def test_families_are_found_by_their_folders(tiny_spec: ModelSpec) -> None:
    assert isinstance(find_family(tiny_spec), Family)
    for spec in find_specs().values():
        family = find_family(spec)
        assert isinstance(family, Family)
        # Who has texts reads them, and nobody else.
        assert (type(family).texts is not Family.texts) == hasattr(family, "encode_text"), spec.id
    with pytest.raises(ModelError, match=r"tiny\.toml: engine is 'warp'; make it one of control, isa, mimic"):
        find_family(replace(tiny_spec, engine="warp"))


@pytest.mark.parametrize("model", ["vace", "mtvcrafter"], indirect=True)
def test_two_processes_make_the_film_of_one(model: Made, tmp_path: Path) -> None:
    """By diffusers' context parallelism; in one step, for all are alike. What else is shared out is in ``test_group``.

    MTVCrafter goes without guidance, whose branches it would share out first.
    """
    guidance = 1.0 if model.spec.engine == "mtvcrafter" else None
    shot = replace(model.shot, settings=replace(model.shot.settings, steps=1, guidance=guidance))

    def sampled() -> Any:
        engine, kept = model.engine(), []
        sample = engine.family.sample
        engine.family.sample = lambda *given: kept.append(sample(*given)) or kept[0]  # type: ignore[method-assign]
        frames = engine.generate(shot, lambda _: None, lambda: False).frames
        return np.asarray(kept), len(frames)

    alone, _ = sampled()
    (first, count), (second, nothing) = in_group(2, tmp_path, lambda group: sampled())
    assert find_family(model.spec).shared and count and not nothing
    # MTVCrafter decodes as it goes; a rounding may fall on the other side of half a grey level.
    rounding = 1 if alone.dtype == np.uint8 else 1e-5
    np.testing.assert_allclose(first.astype(float), alone, atol=rounding)
    np.testing.assert_array_equal(first, second)
