"""What the VAE minimises: every term, where its gradient goes, and the loop that trains all of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from maquette.backend.catalogue.models import ModelSpec, model_spec
from maquette.backend.models.isa.build import new_vae
from maquette.backend.models.isa.vae import AutoencoderKLISA
from maquette.backend.training.data import DataConfig, claim_data, shard_paths
from maquette.backend.training.dit import DiTLossConfig
from maquette.backend.training.errors import TrainingError
from maquette.backend.training.loop import Loop
from maquette.backend.training.run import RunConfig, TrainingRun, read_config, train
from maquette.backend.training.schedule import LoopConfig, step_generator
from maquette.backend.training.vae import (
    Films,
    VAELossConfig,
    VAEObjective,
    gradient_loss,
    start_from_image_vae,
)
from torch import Tensor, nn

CPU = torch.device("cpu")
TINY = {
    "block_out_channels": (8, 8),
    "spatial_resample": (True,),
    "temporal_resample": (True,),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "temporal_kernels": (1, 2),
    "mid_block_attention": False,
    "patch_size": 4,
}
NETWORKS = {
    "pooled": {**TINY, "temporal_resample": (True, True), "spatial_resample": (True, False)}
    | {"block_out_channels": (8, 8, 8)},
    "folded": {**TINY, "temporal_resample": (False,), "temporal_patch_size": 4, "linear_shortcut": True},
}
PLAIN = VAELossConfig(frames=(5,), bf16=False)
WHOLE = replace(
    PLAIN,
    perceptual=0.5,
    image_decoding=0.3,
    adversary2d=0.1,
    adversary3d=0.2,
    latent_noise=0.1,
    structured_motion=0.5,
    dynamic_speed=0.5,
    adversary2d_widths=(4, 8),
    adversary3d_widths=(4, 8),
    adversary_frames=2,
)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Films:
    """Bright squares that wander over gradients, T = 9."""
    rng = np.random.default_rng(0)
    video = np.zeros((6, 9, 32, 32, 3), np.uint8)
    ramp = np.linspace(0, 120, 32, dtype=np.uint8)
    video += ramp[None, None, None, :, None]
    for clip in video:
        colour, (x, y), (dx, dy) = rng.integers(120, 255, 3), rng.integers(4, 12, 2), rng.integers(-1, 3, 2)
        for t, frame in enumerate(clip):
            frame[max(y + t * dy, 0) : y + t * dy + 8, max(x + t * dx, 0) : x + t * dx + 8] = colour
    path = tmp_path_factory.mktemp("films") / "shard.npz"
    mask = np.ones(video.shape[:-1], bool)
    np.savez(path, video=video, background=np.broadcast_to(ramp[:, None], video.shape), mask=mask)
    return Films([path])


def network(kind: str = "pooled") -> AutoencoderKLISA:
    torch.manual_seed(0)
    return AutoencoderKLISA(**NETWORKS[kind])


def turns_of(objective: VAEObjective, vae: nn.Module, step: int = 0) -> list[tuple[str, Tensor, dict[str, Any]]]:
    given = objective(vae, step, step_generator(0, step))
    if isinstance(given, tuple):
        return [("model", given[0], dict(given[1]))]
    return [(name, loss, dict(figures)) for name, loss, figures in given]


@pytest.mark.parametrize("kind", list(NETWORKS))
def test_the_plain_loss_is_pixels_and_divergence_to_the_last_bit(films: Films, kind: str) -> None:
    vae = network(kind)
    config = replace(PLAIN, frames=(5, 9), kl=1e-2)
    objective = VAEObjective(films, config, 2, CPU, vae)
    assert not objective.companions
    assert not objective.rivals
    for step, frames in enumerate((5, 9, 5)):
        given = objective(vae, step, step_generator(0, step))
        assert isinstance(given, tuple)
        generator = step_generator(0, step)
        x = films.batch(2, frames, generator)
        posterior = vae.encode(x).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        error = vae.decode(posterior.mean + posterior.std * noise).sample - x
        squared = error.square().mean()
        kl = 0.5 * (posterior.mean.square() + posterior.std.square() - 1 - 2 * posterior.std.log()).mean()
        expected = 1.0 * error.abs().mean() + 1.0 * squared + 1.0 * gradient_loss(error) + 1e-2 * kl
        assert torch.equal(given[0], expected)
        assert float(given[1]["psnr"]) == float(10 * torch.log10(4 / squared.detach()))


@pytest.mark.parametrize("kind", list(NETWORKS))
def test_the_loss_is_the_weighted_sum_of_its_figures(films: Films, kind: str) -> None:
    vae = network(kind)
    config = replace(WHOLE, l2=0.0, gradient=0.0)
    (name, loss, figures), *rivals = turns_of(VAEObjective(films, config, 2, CPU, vae), vae)
    assert name == "model"
    found = {key: float(value) for key, value in figures.items()}
    expected = sum(getattr(config, term) * found[term] for term in ("l1", "perceptual", "kl", "image_decoding"))
    for term in ("adversary2d", "adversary3d"):
        assert 0 < found[f"{term}_weight"] <= config.adversary_limit
        expected += getattr(config, term) * found[f"{term}_weight"] * found[term]
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)
    assert [rival[0] for rival in rivals] == ["adversary2d", "adversary3d"]
    for name, loss, figures in rivals:
        assert float(loss.detach()) > 0
        assert 0 <= float(figures[f"{name}_accuracy"]) <= 1


def test_a_term_left_out_has_no_figure(films: Films) -> None:
    vae = network()
    _, _, figures = turns_of(VAEObjective(films, PLAIN, 1, CPU, vae), vae)[0]
    assert set(figures) == {"psnr", "kl", "l1"}
    for term in ("perceptual", "image_decoding", "adversary2d", "adversary3d"):
        objective = VAEObjective(films, replace(WHOLE, **{term: 0.0}), 1, CPU, vae)
        names = [name for name, *_ in turns_of(objective, vae)]
        assert term not in names
        assert term not in turns_of(objective, vae)[0][2]
        assert term not in objective.rivals


def test_steps_repeat_from_their_generator(films: Films) -> None:
    vae = network()
    one, other = (VAEObjective(films, WHOLE, 1, CPU, vae) for _ in range(2))
    for (_, a, _), (_, b, _) in zip(turns_of(one, vae), turns_of(other, vae), strict=True):
        assert torch.equal(a, b)


def test_adversaries_join_late_and_slowly(films: Films) -> None:
    vae = network()
    config = replace(WHOLE, adversary_start=2, adversary_ramp=4)
    assert [config.adversary_share(step) for step in range(8)] == [0, 0, 0.25, 0.5, 0.75, 1, 1, 1]
    objective = VAEObjective(films, config, 1, CPU, vae)
    assert [name for name, *_ in turns_of(objective, vae, 1)] == ["model"]
    assert [name for name, *_ in turns_of(objective, vae, 2)] == ["model", "adversary2d", "adversary3d"]


def test_each_players_loss_reaches_its_own_weights_only(films: Films) -> None:
    vae = network()
    objective = VAEObjective(films, WHOLE, 1, CPU, vae)
    networks = {"model": vae, **objective.companions, **objective.rivals}
    given = objective(vae, 0, step_generator(0, 0))
    assert isinstance(given, Iterator)
    for player, loss, _ in given:
        for module in networks.values():
            module.zero_grad()
        loss.backward()
        reached = {name for name, module in networks.items() if any(p.grad is not None for p in module.parameters())}
        assert reached == ({"model", "image_decoder"} if player == "model" else {player})


def test_both_sides_of_a_discriminator_show_the_same_frames(films: Films) -> None:
    objective = VAEObjective(films, WHOLE, 1, CPU, network())
    x = torch.arange(9.0).view(1, 1, 9, 1, 1).expand(2, 3, 9, 4, 4)
    real, made = objective._view("adversary2d", x, step_generator(0, 0), x + 100)
    assert real.shape == (2, 3, 2, 4, 4)
    assert torch.equal(real + 100, made)
    assert real[0, 0, :, 0, 0].unique().numel() == 2
    whole, _ = objective._view("adversary3d", x, step_generator(0, 0), x)
    assert whole.shape == x.shape


def test_noise_on_the_latents_is_relative_to_them_and_of_all_levels(films: Films) -> None:
    objective = VAEObjective(films, replace(PLAIN, latent_noise=0.2), 1, CPU, network())
    mean = torch.randn(64, 16, 2, 8, 8, generator=torch.Generator().manual_seed(0)) * 3 + 5
    noise = objective._disturbed(mean, mean, step_generator(0, 0)) - mean
    scaled = objective._disturbed(mean * 10, mean * 10, step_generator(0, 0)) - mean * 10
    torch.testing.assert_close(scaled, noise * 10, rtol=1e-3, atol=1e-3)
    levels = noise.flatten(1).std(dim=1) / mean.std()
    assert float(levels.max()) == pytest.approx(0.2, rel=0.1)
    assert float(levels.mean()) == pytest.approx(0.1, rel=0.2)
    plain = VAEObjective(films, PLAIN, 1, CPU, network())
    assert plain._disturbed(mean, mean, step_generator(0, 0)) is mean


def test_each_frame_is_decoded_from_its_own_quarter_of_the_channels(films: Films) -> None:
    vae = network()
    decoder = VAEObjective(films, WHOLE, 1, CPU, vae).companions["image_decoder"]
    for frame in range(9):
        latents = torch.randn(1, 16, 3, 4, 4).requires_grad_()
        decoder(vae.sub_latents(latents))[:, :, frame].square().sum().backward()
        assert latents.grad is not None
        reached = latents.grad[0].flatten(2).any(dim=2)
        expected = torch.zeros(16, 3, dtype=torch.bool)
        if frame == 0:
            expected[:, 0] = True
        else:
            quarter = (frame - 1) % 4
            expected[4 * quarter : 4 * quarter + 4, 1 + (frame - 1) // 4] = True
        assert torch.equal(reached, expected)


def test_image_decoding_makes_sub_latents_carry_their_frames(tmp_path: Path) -> None:
    # Every frame is of a colour of its own, so that nothing can be told from its neighbours.
    colours = np.random.default_rng(0).integers(0, 256, (16, 9, 1, 1, 3)).astype(np.uint8)
    video = np.broadcast_to(colours, (16, 9, 8, 8, 3))
    np.savez(tmp_path / "shard.npz", video=video, background=video, mask=np.ones(video.shape[:-1], bool))
    flashes = Films([tmp_path / "shard.npz"])
    vae = network("folded")
    config = replace(PLAIN, frames=(9,), l1=0.0, l2=0.0, gradient=0.0, image_decoding=1.0)
    objective = VAEObjective(flashes, config, 8, CPU, vae)
    decoder = objective.companions["image_decoder"]
    optimizer = torch.optim.Adam([*vae.parameters(), *decoder.parameters()], lr=1e-2)
    course = []
    for step in range(50):
        _, loss, figures = turns_of(objective, vae, step)[0]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        course.append(float(figures["image_decoding"]))
    # A frame is told by its own sub-latent, not by its neighbour's: exchange two and the film suffers.
    x = flashes.batch(16, 9, torch.Generator().manual_seed(3))
    with torch.no_grad():
        parts = vae.sub_latents(vae.encode(x).latent_dist.mode())
        swapped = parts[:, :, [0, 4, 2, 3, 1, 8, 6, 7, 5]]
        own, others = ((decoder(z) - x)[:, :, [1, 4, 5, 8]].abs().mean() for z in (parts, swapped))
    assert course[-1] < 0.7 * course[0]
    assert float(own) < 0.7 * float(others)


def test_a_loop_trains_all_players_and_goes_on_exactly(films: Films, tmp_path: Path) -> None:
    def loop(name: str) -> tuple[Loop, VAEObjective]:
        vae = network("folded")
        objective = VAEObjective(films, replace(WHOLE, adversary_start=1), 1, CPU, vae)
        config = LoopConfig(steps=4, batch=1, lr=1e-3, warmup=1, precision="no")
        path = tmp_path / f"{name}.ckpt"
        return Loop(vae, config, path, None, objective.companions, objective.rivals), objective

    whole, objective = loop("whole")
    start = {name: [p.clone() for p in module.parameters()] for name, module in objective.rivals.items()}
    assert whole.run(objective)
    assert whole.skipped == 0
    for name, module in objective.rivals.items():
        assert any(not torch.equal(a, b) for a, b in zip(start[name], module.parameters(), strict=True))
    expected = [p.clone() for m in (whole.model, *objective.rivals.values()) for p in m.parameters()]

    halted, objective = loop("parts")
    given = []

    def stopping(model: nn.Module, step: int, generator: torch.Generator) -> Any:
        given.append(step)
        halted._stop = len(given) == 2
        return objective(model, step, generator)

    assert not halted.run(stopping)
    assert halted.step == 2
    resumed, objective = loop("parts")
    assert resumed.resume()
    assert resumed.run(objective)
    found = [p for m in (resumed.model, *objective.rivals.values()) for p in m.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_clip_lengths_take_turns(films: Films) -> None:
    vae, seen = network(), []
    objective = VAEObjective(films, replace(PLAIN, frames=(1, 5, 9)), 1, CPU, vae)
    encode = vae.encode

    def watched(x: Tensor, **named: Any) -> Any:
        seen.append(x.shape[2])
        return encode(x, **named)

    vae.encode = watched  # type: ignore[method-assign]
    for step in range(5):
        turns_of(objective, vae, step)
    assert seen == [1, 5, 9, 1, 5]


def test_a_run_trains_with_all_terms_on_short_and_long_shots(films: Films, tmp_path: Path) -> None:
    loop = LoopConfig(steps=2, batch=1, lr=1e-4, warmup=1, precision="no")
    short, long = (DataConfig(frames=frames, size=32, shards=1, pair_shards=0) for frames in (5, 9))
    config = RunConfig(
        model="isa-nano",
        data=short,
        long_data=long,
        vae=loop,
        vae_loss=replace(WHOLE, frames=(5, 9), dynamic_speed=0.0),
        dit=loop,
        dit_loss=DiTLossConfig(),
    )
    run = TrainingRun(config, tmp_path / "run", workers=1)
    (run.folder / "data").mkdir(parents=True)
    claim_data(run.folder / "data")
    for data in (short, long):
        video = films.video[0][:, : data.frames]
        np.savez(
            shard_paths(run.folder / "data", data)[0],
            video=video,
            background=video,
            mask=np.ones(video.shape[:-1], bool),
        )
    assert train(run, ("vae",))
    log = torch.load(run.folder / "vae.ckpt", weights_only=True)["figures"]
    assert {"perceptual", "image_decoding", "adversary2d_accuracy", "adversary3d_loss"} <= set(log)
    # Nothing but the VAE itself is in what is published.
    assert set(AutoencoderKLISA.from_pretrained(run.folder / "vae").state_dict()) == set(new_vae(run.spec).state_dict())


def test_a_run_starts_from_the_image_vae_its_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image_vae().save_pretrained(tmp_path / "image")
    path = tmp_path / "run.toml"
    loop = "steps=1\nbatch=1\nlr=1e-9\n"
    start = f"[start]\nimage_vae = '{tmp_path / 'image'}'\n"
    data = "[data]\nframes=5\nsize=32\nshards=1\npair_shards=0\n"
    path.write_text(f"model='isa-small'\n[vae]\n{loop}[dit]\n{loop}{start}{data}[vae_loss]\nframes=[5]\n")
    run = TrainingRun(read_config(path), tmp_path / "run", workers=1)
    monkeypatch.setattr(TrainingRun, "spec", property(lambda _: spec_of()))
    (run.folder / "data").mkdir(parents=True)
    claim_data(run.folder / "data")
    video = np.random.default_rng(0).integers(0, 256, (2, 5, 32, 32, 3), dtype=np.uint8)
    np.savez(
        shard_paths(run.folder / "data", run.config.data)[0],
        video=video,
        background=video,
        mask=np.ones(video.shape[:-1], bool),
    )
    assert train(run, ("vae",))
    found = AutoencoderKLISA.from_pretrained(run.folder / "vae").state_dict()
    for name, weight in start_from_image_vae(spec_of(), tmp_path / "image").state_dict().items():
        torch.testing.assert_close(found[name], weight, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"perceptual": -1.0}, r"perceptual = -1.0 must be 0 or more"),
        ({"structured_motion": 1.5}, r"structured_motion = 1.5 is a share"),
        ({"frames": ()}, "frames is empty"),
        ({"frames": (6,)}, r"frames has 6; give 1 \+ multiples of 4"),
        ({"frames": (13,)}, "frames has 13, but the longest shots have 9 frames"),
        ({"image_decoding": 1.0, "image_widths": (8,)}, "image_widths has 1 numbers; the VAE has 3 levels"),
        ({"image_decoding": 1.0, "image_widths": (8, 8, 6)}, "image_widths has 6"),
    ],
)
def test_bad_entries_are_named(films: Films, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(TrainingError, match=named):
        VAEObjective(films, replace(PLAIN, **changes), 1, CPU, network())


def image_vae(**changes: Any) -> AutoencoderKL:
    torch.manual_seed(1)
    layout = {"block_out_channels": (8, 8, 16, 16), "layers_per_block": 1, "latent_channels": 16, "norm_num_groups": 4}
    layout |= {"use_quant_conv": False, "use_post_quant_conv": False, "scaling_factor": 1.5, "shift_factor": 0.1}
    layout |= changes
    levels = len(layout["block_out_channels"])
    layout |= {"down_block_types": ("DownEncoderBlock2D",) * levels, "up_block_types": ("UpDecoderBlock2D",) * levels}
    model = AutoencoderKL(**layout)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model.eval()


def spec_of(**vae: Any) -> ModelSpec:
    spec = model_spec("isa-small")
    layout = {"block_out_channels": [8, 8, 16, 16], "layers_per_block": 1, "norm_num_groups": 4, "downsample": "conv"}
    return replace(spec, components={**spec.components, "vae": {**spec.components["vae"], **layout, **vae}})


@torch.no_grad()
@pytest.mark.parametrize("place", [".", "vae"])
def test_training_may_start_from_an_image_vae(tmp_path: Path, place: str) -> None:
    still = image_vae()
    still.half().save_pretrained(tmp_path / place)
    still.float()
    vae = start_from_image_vae(spec_of(), tmp_path).eval()
    picture = torch.rand(1, 3, 32, 32) * 2 - 1
    z: Any = still.encode(picture, return_dict=False)[0].mode()
    found = vae.encode(picture[:, :, None], return_dict=False)[0].mode()[:, :, 0]
    torch.testing.assert_close(found, z, atol=1e-6, rtol=1e-5)
    expected = still.decode(z, return_dict=False)[0]
    assert expected.std() > 0
    decoded = vae.decode(z[:, :, None], return_dict=False)[0][:, :, 0]
    torch.testing.assert_close(decoded, expected, atol=1e-6, rtol=1e-5)
    assert vae.config["latents_mean"] == (0.1,)
    # What the run trains has the same weights' names and shapes.
    new_vae(spec_of()).load_state_dict(vae.state_dict())


def test_an_image_vae_that_will_not_do_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="no config.json"):
        start_from_image_vae(spec_of(), tmp_path)
    image_vae().save_pretrained(tmp_path / "good")
    with pytest.raises(TrainingError, match=r"its block_out_channels is .* but isa-small has"):
        start_from_image_vae(spec_of(block_out_channels=[8, 8, 8, 16]), tmp_path / "good")
    with pytest.raises(TrainingError, match="patch_size is 1, but isa-small has 2"):
        start_from_image_vae(spec_of(patch_size=2), tmp_path / "good")
    (tmp_path / "good" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(TrainingError, match="cannot be inflated"):
        start_from_image_vae(spec_of(), tmp_path / "good")
    image_vae(use_quant_conv=True).save_pretrained(tmp_path / "other")
    with pytest.raises(TrainingError, match="quant convolutions"):
        start_from_image_vae(spec_of(), tmp_path / "other")
