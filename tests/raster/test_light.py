from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from maquette.backend.raster.light import guess_clay, relight
from maquette.backend.shot.cameras import look_at


def sphere(rows: int = 24, columns: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    polar, around = np.linspace(0, np.pi, rows), np.linspace(0, 2 * np.pi, columns, endpoint=False)
    p, a = np.meshgrid(polar, around, indexing="ij")
    vertices = np.stack([np.sin(p) * np.cos(a), np.sin(p) * np.sin(a), np.cos(p)], axis=-1).reshape(-1, 3)
    i, j = np.meshgrid(np.arange(rows - 1), np.arange(columns), indexing="ij")
    a, b = i * columns + j, i * columns + (j + 1) % columns
    faces = np.concatenate([np.stack([a, a + columns, b], -1), np.stack([b, a + columns, b + columns], -1)])
    return torch.as_tensor(vertices, dtype=torch.float32), torch.as_tensor(faces.reshape(-1, 3))


def pictured(albedo, light: torch.Tensor) -> tuple[dict, torch.Tensor, torch.Tensor]:
    """A sphere under a light in the camera's frame: arguments of guess_clay, its shading and its outline (64,64)."""
    v, u = torch.meshgrid(torch.arange(64) + 0.5, torch.arange(64) + 0.5, indexing="ij")
    viewmat = torch.as_tensor(look_at(np.array([0.0, -6.0, 0.0]), np.zeros(3)), dtype=torch.float32)
    K = torch.tensor([[150.0, 0, 32], [0, 150, 32], [0, 0, 1]])
    ray = F.normalize(torch.stack([(u - 32) / 150, (v - 32) / 150, torch.ones_like(u)], -1), dim=-1)
    centre = torch.tensor([0.0, 0.0, 6.0])
    along = (ray * centre).sum(-1)
    depth = along**2 - 35.0
    inside = depth > 0.05
    normal = ray * (along - depth.clamp(min=0).sqrt())[..., None] - centre
    shading = (0.35 + 0.65 * ((normal * light).sum(-1) * 0.5 + 0.5)).clamp(0.1, 1)
    colours = albedo(u, v) * shading * inside
    vertices, faces = sphere()
    given = {"colours": colours, "inside": inside, "vertices": vertices, "faces": faces, "viewmat": viewmat, "K": K}
    return given, shading, inside


def test_a_light_over_materials_is_found():
    light = F.normalize(torch.tensor([0.7, -0.6, -0.4]), dim=-1)

    def albedo(u, v):
        red = (v > 32).float()
        return 200 * torch.stack([0.3 + 0.7 * red, 0.9 - 0.6 * red, torch.full_like(u, 0.4)])

    given, shading, inside = pictured(albedo, light)
    clay = guess_clay(**given, grey=torch.tensor([120.0, 120.0, 120.0]))
    found, truth = (values[inside] / values[inside].mean() for values in (clay[0], shading))
    assert np.corrcoef(found.numpy(), truth.numpy())[0, 1] > 0.98
    assert (found - truth).abs().mean() < 0.06


def test_a_pattern_is_not_taken_for_light():
    def albedo(u, v):
        return 200 * (0.4 + 0.5 * ((u // 4 + v // 4) % 2)).expand(3, 64, 64)

    given, *_ = pictured(albedo, torch.tensor([0.0, 0.0, -1.0]))
    clay = guess_clay(**given, grey=torch.full((3,), 120.0))
    assert float(clay.max() - clay.min()) == 0


def test_a_bright_picture_is_taken_to_be_brightly_lit():
    """The same figure twice as bright gets brighter clay, though not twice; in a darker film it is darkened."""
    given, *_ = pictured(lambda u, v: torch.full((3, 64, 64), 120.0), torch.tensor([0.0, 0.0, -1.0]))
    bright = {**given, "colours": 2 * given["colours"]}
    dull, shining = (float(guess_clay(**each, grey=torch.full((3,), 60.0)).mean()) for each in (given, bright))
    assert 1.2 * dull < shining < 1.7 * dull
    assert shining > 60
    nothing = guess_clay(**{**given, "inside": torch.zeros(64, 64, dtype=torch.bool)}, grey=torch.full((3,), 60.0))
    assert (nothing == 60).all()


def test_the_ratio_of_both_clays_relights():
    albedo = torch.rand(1, 8, 8, 3) * 0.8
    film, reference = torch.full((1, 8, 8, 3), 90.0), torch.full((1, 8, 8, 3), 140.0)
    whole, lit = torch.ones(1, 8, 8), torch.ones(1, 8, 8)
    relit = relight(albedo * 140, film, reference, lit, whole)
    assert torch.allclose(relit, albedo * 140 * 94 / 144, atol=1e-3)
    assert torch.equal(relight(albedo * 140, film, reference, 0 * lit, whole), albedo * 140)
    # A dark fold of the skin is not one of the skirt over it.
    reference[:, :, 3] = 40
    worn = torch.zeros(1, 8, 8)
    bare, skirt = (relight(albedo * 140, film, reference, lit, whole, metres, 3) for metres in (worn, worn + 0.05))
    assert torch.equal(bare, relight(albedo * 140, film, reference, lit, whole))
    assert ((skirt < bare)[0, :, 3] & (skirt > relit)[0, :, 3]).all()
    # What black clay says is bounded.
    assert float(relight(albedo + 1, film, 0 * reference, lit, whole).max()) <= 3 * float((albedo + 1).max()) + 1e-4
