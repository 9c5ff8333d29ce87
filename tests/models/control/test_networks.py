"""The published sizes, without their weights."""

from __future__ import annotations

import pytest
from maquette.backend.catalogue.models import model_spec
from maquette.backend.models.control.ltx.convert import PARTS, check_lora
from maquette.backend.models.weights.component import components

from .builders import ltx_lora

PUBLISHED = {
    # billions of parameters, blocks, blocks of what leads, width
    "vace-1.3b": (2.15, 30, 15, 1536),
    "vace-14b": (17.3, 40, 8, 5120),
    # 69.1 GB in 32 bits.
    "wan-animate-14b": (17.27, 40, 8, 5120),
}


def test_full_size_of_ltx():
    spec = model_spec("ltx-2.3")
    parts = {key: part.module(spec).state_dict() for key, part in components(spec).items() if part.build is not None}
    sizes = {name: sum(value.numel() for value in state.values()) / 1e9 for name, state in parts.items()}
    # With the connectors 22 billions, as it is called; Gemma without eyes, of 12.19.
    assert sizes["transformer"] + sizes["text_encoder_connectors"] == pytest.approx(22.2, rel=0.01)
    assert sizes["text_encoder"] == pytest.approx(11.77, rel=0.01)
    assert sizes["vae"] == pytest.approx(0.726, rel=0.01)
    sources = {source.component: source.gigabytes for source in spec.sources}
    for name in ("transformer", "text_encoder_connectors", "vae"):
        assert sources[name] == pytest.approx(2 * sizes[name], abs=0.05)
    assert len({key.split(".")[1] for key in parts["transformer"] if key.startswith("transformer_blocks.")}) == 48
    assert tuple(parts["vae"]["latents_mean"].shape) == (128,)
    # What all layers of Gemma and its embedding say, into what film and sound attend to.
    assert tuple(parts["text_encoder_connectors"]["video_text_proj_in.weight"].shape) == (4096, 49 * 3840)
    assert tuple(parts["text_encoder_connectors"]["audio_text_proj_in.weight"].shape) == (2048, 49 * 3840)
    lora = {key: value for key, value in ltx_lora(spec, meta=True).items() if ".attn1.to_q." in key}
    assert len(lora) == 2 * 48 and not check_lora(spec, ltx_lora(spec, meta=True))


@pytest.mark.parametrize("before", ["language_model.model.", "model.language_model.", ""])
def test_gemma_is_found_under_the_names_of_every_release(before):
    (part,) = [part for part in PARTS if part.name == "text_encoder"]
    keys = {f"{before}layers.0.mlp.up_proj.weight": 1, "vision_tower.a.weight": 2, "model.multi_modal_projector.b": 3}
    assert part.convert is not None
    named = part.convert({**keys, "lm_head.weight": 4, "language_model.lm_head.weight": 5})  # type: ignore[arg-type]
    assert [key for key in named if not part.drops(key)] == ["layers.0.mlp.up_proj.weight"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_full_size(name):
    spec = model_spec(name)
    parts = {key: part.module(spec).state_dict() for key, part in components(spec).items() if part.build is not None}
    billions, blocks, branch, width = PUBLISHED[name]
    transformer = parts["transformer"]
    assert sum(value.numel() for value in transformer.values()) / 1e9 == pytest.approx(billions, rel=0.01)
    animate = "image_encoder" in parts
    for stem, count in (("blocks", blocks), ("face_adapter" if animate else "vace_blocks", branch)):
        assert len({key.split(".")[1] for key in transformer if key.startswith(f"{stem}.")}) == count
    if animate:
        # The film's latents, those of what is known, and a mask of 4 frames a latent one.
        assert tuple(transformer["patch_embedding.weight"].shape) == (width, 2 * 16 + 4, 1, 2, 2)
        assert sum(value.numel() for value in parts["image_encoder"].values()) / 1e6 == pytest.approx(631, rel=0.01)
    else:
        # Kept and made parts of the film's latents, and a mask of 8 x 8 spots a latent one.
        assert tuple(transformer["vace_patch_embedding.weight"].shape) == (width, 2 * 16 + 64, 1, 2, 2)
        assert tuple(transformer["patch_embedding.weight"].shape) == (width, 16, 1, 2, 2)
    text = parts["text_encoder"]
    assert sum(value.numel() for key, value in text.items() if key != "encoder.embed_tokens.weight") == 5_680_910_336
    assert sum(value.numel() for value in parts["vae"].values()) / 1e6 == pytest.approx(127, rel=0.01)
