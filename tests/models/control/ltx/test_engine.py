"""From a shot to frames, at tiny sizes with weights by the recipe, and beside diffusers' own pipeline."""

from __future__ import annotations

from dataclasses import replace
from shutil import copyfile, copytree
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLLTX2Audio, FlowMatchEulerDiscreteScheduler, LTX2InContextPipeline
from diffusers.pipelines.ltx2.connectors import LTX2TextConnectors
from diffusers.pipelines.ltx2.pipeline_ltx2_condition import LTX2VideoCondition
from diffusers.pipelines.ltx2.pipeline_ltx2_ic_lora import LTX2ReferenceCondition
from diffusers.pipelines.ltx2.utils import DISTILLED_SIGMA_VALUES
from maquette.backend.control.films import ControlFilms
from maquette.backend.control.fitting import squeezed
from maquette.backend.models.control.build import load_network
from maquette.backend.models.control.ltx.family import LTXFamily
from maquette.backend.models.control.ltx.inputs import as_before
from maquette.backend.models.control.ltx.latents import decode_film, denormalized, encode_film
from maquette.backend.models.control.ltx.pipeline import LTXPipeline
from maquette.backend.models.control.plan import own_lora
from maquette.backend.models.engine import Engine
from maquette.backend.models.family import EngineError, Result
from maquette.backend.models.frames import frames_to_tensor, tensor_to_frames
from maquette.backend.raster.carry import carry_shot
from maquette.backend.shot import Shot
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, Gemma3Config, Gemma3ForConditionalGeneration

from ..builders import in_context_shot, ltx_lora

NEGATIVE = "blurred"


def run(engine: Engine, shot: Shot, reports: list | None = None) -> Result:
    return engine.generate(shot, (lambda _: None) if reports is None else reports.append, lambda: False)


@pytest.fixture(scope="module")
def engine(tiny_ltx) -> Engine:
    made = Engine(tiny_ltx, "cpu")
    made.dtype = torch.float32
    return made


@pytest.fixture(scope="module")
def plain(engine) -> Result:
    return run(engine, in_context_shot())


@pytest.fixture(scope="module")
def stock(tiny_ltx) -> LTX2InContextPipeline:
    """diffusers' pipeline with all that it is published with but the vocoder, and the IC-LoRA added by hand."""
    text = load_network(tiny_ltx, "text_encoder", torch.float32)
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Gemma3Config(text_config=text.config.to_dict(), vision_config=vision, image_token_id=39)
    encoder = Gemma3ForConditionalGeneration(config).eval()
    encoder.model.language_model.load_state_dict(text.state_dict())
    transformer = load_network(tiny_ltx, "transformer", torch.float32)
    lora = load_file(tiny_ltx.folder / "ic_lora" / "diffusion_pytorch_model.safetensors")
    with torch.no_grad():
        for key, down in lora.items():
            if ".lora_A." in key:
                name = key.removeprefix("diffusion_model.").replace(".lora_A", "")
                transformer.get_parameter(name).add_(lora[key.replace("lora_A", "lora_B")] @ down)
    nothing: Any = None
    made = LTX2InContextPipeline(
        FlowMatchEulerDiscreteScheduler.from_pretrained(tiny_ltx.folder / "scheduler"),
        load_network(tiny_ltx, "vae", torch.float32),
        AutoencoderKLLTX2Audio(ch_mult=(1,), num_res_blocks=1),
        encoder,
        AutoTokenizer.from_pretrained(tiny_ltx.folder / "tokenizer"),
        LTX2TextConnectors.from_pretrained(tiny_ltx.folder / "text_encoder_connectors"),  # type: ignore[arg-type]
        transformer,
        nothing,
    )
    made.set_progress_bar_config(disable=True)
    return made


def test_a_shot_becomes_a_film(engine, plain):
    assert plain.frames.shape == (9, 64, 64, 3) and plain.frames.std() > 2 and plain.fps == 24
    known = {"steps": 2, "guidance": 3.0, "fps": 24.0, "windows": 1, "keyframes": [0], "model_size": [64, 64]}
    assert known.items() <= plain.metadata.items()
    assert not {"text_encoder", "text_encoder_connectors"} & set(engine.networks)
    assert any("Depth: white is" in note for note in plain.notes)


@pytest.mark.parametrize(
    "change",
    [
        {"control": "pose"},
        {"control": "edges"},
        {"control": "none"},
        {"strength": 0.3},
        {"keyframes": 0},
        {"negative_prompt": NEGATIVE},
    ],
    ids=lambda change: "-".join(map(str, change.items())),
)
def test_options_matter(engine, plain, change):
    assert np.abs(run(engine, in_context_shot(**change)).frames.astype(int) - plain.frames).max() > 2


@pytest.mark.parametrize(
    ("frames", "options"),
    [
        (25, {"control": "depth", "keyframes": 2, "keyframe_strength": 0.9}),
        (9, {"control": "pose", "keyframes": 0}),
        (9, {"control": "depth", "keyframes": 1, "strength": 0.0}),
    ],
    ids=["segments", "pose", "unheeded"],
)
def test_segments_are_those_of_the_published_pipeline(engine, stock, frames, options, monkeypatch):
    shot = in_context_shot(frames, negative_prompt=NEGATIVE, **options)
    seen: dict[str, Any] = {}
    sample = LTXFamily.sample

    def remembered(self, run, conditions):
        seen.update(conditions=conditions, made=sample(self, run, conditions))
        return seen["made"]

    monkeypatch.setattr(LTXFamily, "sample", remembered)
    result = run(engine, shot)
    pictures, control = seen["conditions"].pictures, [Image.fromarray(frame) for frame in seen["conditions"].control]
    drawn = ControlFilms(squeezed(shot, 64, 64)).picture(options["control"], 5)
    np.testing.assert_allclose(control[5], drawn, atol=1)
    given = {9: [(0, 9, [0] * options["keyframes"])], 25: [(0, 17, [0, 9]), (8, 25, [17])]}[frames]
    generator, expected, before = torch.Generator().manual_seed(3), [], None
    assert result.metadata["keyframes"] == [t for _, _, shown in given for t in shown]
    for start, stop, shown in given:
        conditions = [] if before is None else [LTX2VideoCondition(before)]
        for t in shown:
            strength = options.get("keyframe_strength", 1.0)
            conditions.append(LTX2VideoCondition(Image.fromarray(pictures.frame(t)), -(-(t - start) // 8), strength))
        found = stock(
            prompt="somebody",
            negative_prompt=NEGATIVE,
            reference_conditions=[LTX2ReferenceCondition(control[start:stop])],
            reference_downscale_factor=2,
            conditioning_attention_strength=options.get("strength", 1.0),
            conditions=conditions or None,
            height=64,
            width=64,
            num_frames=stop - start,
            num_inference_steps=2,
            spatio_temporal_guidance_blocks=[1],
            generator=generator,
            output_type="latent",
        )
        film = tensor_to_frames(decode_film(stock.vae, found.frames))
        film = film if before is None else as_before(film, before)
        expected.append(film if before is None else film[9:])
        before = film[-9:]
    assert np.abs(np.concatenate(seen["made"]).astype(int) - np.concatenate(expected)).max() <= 1


def test_starting_from_the_carried_film(engine, plain):
    """Held to the end it is the carried film as the VAE gives it back; not at all, nothing changes."""
    np.testing.assert_array_equal(run(engine, in_context_shot(carried_start=0.0)).frames, plain.frames)
    reports: list = []
    frames = run(engine, in_context_shot(carried_start=1.0), reports).frames
    assert [report.step for report in reports if report.stage == "denoising"] == [0]
    vae = engine.networks["vae"]
    latents = encode_film(vae, frames_to_tensor(carry_shot(squeezed(in_context_shot(), 64, 64), 64, 64).frames))
    coded = tensor_to_frames(decode_film(vae, denormalized(vae, latents)))
    np.testing.assert_allclose(frames, coded, atol=1)
    reports.clear()
    half = run(engine, in_context_shot(carried_start=0.95), reports).frames
    assert [report.step for report in reports if report.stage == "denoising"] == [0, 2]
    assert np.abs(half.astype(int) - plain.frames).mean() > 1 and np.abs(half.astype(int) - frames).mean() > 1


def test_few_steps_have_levels_of_noise_of_their_own(tiny_ltx, tmp_path, monkeypatch):
    """By the option, with the LoRA beside the weights, as with the same file among the user's own."""
    name = "ltx-2.3-22b-distilled-lora-384-1.1"
    spec = replace(tiny_ltx, folder=tmp_path / "ltx")
    copytree(tiny_ltx.folder, spec.folder)
    monkeypatch.setenv("MAQUETTE_WEIGHTS", str(tmp_path))
    for folder in (tmp_path / "loras", tmp_path / "ltx" / "distilled_lora"):
        folder.mkdir()
    save_file(ltx_lora(spec, 2), tmp_path / "loras" / f"{name}.safetensors")
    engine = Engine(spec, "cpu")
    with pytest.raises(EngineError, match=r"few-step LoRA of LTX-2.3 is not in .* --component distilled_lora"):
        engine.plan(in_context_shot(few_steps=True))
    copyfile(tmp_path / "loras" / f"{name}.safetensors", own_lora(spec, "distilled_lora"))
    levels: list = []
    step = FlowMatchEulerDiscreteScheduler.step

    def noted(self, *given, **named):
        levels.append(self.sigmas.tolist())
        return step(self, *given, **named)

    monkeypatch.setattr(FlowMatchEulerDiscreteScheduler, "step", noted)
    asked: list[dict[str, Any]] = [{"few_steps": True}, {"loras": name}]
    films = [run(engine, in_context_shot(keyframes=0, **each)) for each in asked]
    for film in films:
        assert (film.metadata["steps"], film.metadata["guidance"]) == (8, 1.0)
    np.testing.assert_array_equal(films[0].frames, films[1].frames)
    assert "Few steps: 8 steps, guidance 1" in films[0].notes
    # Of the film and of its sound.
    np.testing.assert_allclose(levels, [[*DISTILLED_SIGMA_VALUES, 0.0]] * 32, atol=1e-6)


def test_a_lora_may_change_how_texts_are_read(engine, plain, tiny_ltx, tmp_path, monkeypatch):
    """The connectors' part of it too, and only while it is chosen."""
    monkeypatch.setenv("MAQUETTE_WEIGHTS", str(tmp_path))
    (tmp_path / "loras").mkdir()
    module = "text_embedding_projection.video_aggregate_embed"
    text = {f"{module}.lora_A.weight": torch.ones(2, 48), f"{module}.lora_B.weight": torch.ones(24, 2)}
    nothing = {key: 0 * value for key, value in ltx_lora(tiny_ltx).items()}
    save_file({**nothing, **text, "other.lora_A.weight": torch.ones(2, 2)}, tmp_path / "loras" / "ink.safetensors")
    changed = run(engine, in_context_shot(loras="ink"))
    assert np.abs(changed.frames.astype(int) - plain.frames).max() > 2
    assert [note for note in changed.notes if "left out" in note] == [
        "ink: 1 key (other.lora_A.weight) of weights that LTX-2.3 does not have; left out"
    ]
    np.testing.assert_array_equal(run(engine, in_context_shot()).frames, plain.frames)


def test_heeding_is_the_logarithm_that_is_published():
    """Of the mask that diffusers makes, which counts each below 1 as nothing."""
    given = (4, 6, [torch.full((1, 3), 0.5), torch.full((1, 2), 0.0)], torch.device("cpu"))
    mask = LTX2InContextPipeline._build_video_self_attention_mask(*given)[0]

    class Made(LTXPipeline):
        def __init__(self) -> None:
            self.transformer = SimpleNamespace(config={"num_attention_heads": 3}, dtype=torch.float32)

    bias = (1 - Made()._build_video_self_attention_mask(*given).expand(2, -1, -1).to(torch.float32)) * -10000.0
    assert bias.shape == (6, 11, 11) and bool((bias[0] == bias[5]).all())
    torch.testing.assert_close(bias[0].exp(), mask)
