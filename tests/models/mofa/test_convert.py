"""MOFA-Video's parts: which there are, how large, and in which precision they run."""

from __future__ import annotations

import pytest
import torch
from maquette.backend.models.family import EngineError
from maquette.backend.models.mofa.build import load_network, network_names, new_network
from maquette.backend.models.mofa.convert import components

from .networks import network, tiny_spec


def test_which_parts_there_are(tmp_path):
    assert "landmark_controlnet" not in components(tiny_spec(tmp_path / "a", hybrid=False))
    parts = components(tiny_spec(tmp_path / "b", hybrid=True))
    assert set(parts) == {"image_encoder", "vae", "unet", "controlnet", "landmark_controlnet", "cmp"}
    assert [name for name, part in parts.items() if part.optional] == ["cmp"]


def test_cmp_stays_in_single_precision(tmp_path):
    spec = tiny_spec(tmp_path, hybrid=False)
    for name in ("cmp", "unet"):
        network(spec, name).save_pretrained(spec.folder / name)
    assert components(spec)["cmp"].keep_dtype
    assert load_network(spec, "cmp", torch.float16).dtype == torch.float32
    assert load_network(spec, "unet", torch.float16).dtype == torch.float16


def test_a_folder_without_weights_says_so(tmp_path):
    spec = tiny_spec(tmp_path, hybrid=False)
    with pytest.raises(EngineError, match="maquette models check tiny-mofa"):
        load_network(spec, "unet", torch.float32)


def test_the_default_sizes_are_the_published_ones(tmp_path):
    """An empty table in the description gives the published network."""
    spec = tiny_spec(tmp_path, hybrid=True, tables={"controlnet": {}, "landmark_controlnet": {}, "cmp": {}})
    with torch.device("meta"):
        sizes = {name: sum(p.numel() for p in new_network(spec, name).parameters()) for name in network_names(spec)}
    assert round(sizes["controlnet"] / 1e6, 1) == 694.3
    assert round(sizes["landmark_controlnet"] / 1e6, 1) == 722.5
    assert round(sizes["cmp"] / 1e6, 1) == 28.5
