"""The published sizes, without their weights."""

from __future__ import annotations

import pytest
from maquette.backend.catalogue.models import model_spec
from maquette.backend.models.weights.component import components

PUBLISHED = {
    # billions of parameters, blocks, blocks of what leads, width
    "vace-1.3b": (2.15, 30, 15, 1536),
    "vace-14b": (17.3, 40, 8, 5120),
    # 69.1 GB in 32 bits.
    "wan-animate-14b": (17.27, 40, 8, 5120),
}


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
