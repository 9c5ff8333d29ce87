"""A correction is applied as strongly as helps on fresh shots, and not at all where it does not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from maquette.backend.catalogue.models import model_spec
from maquette.backend.models.isa.build import load_vae
from maquette.backend.models.isa.transformer import ISATransformer3DModel
from maquette.backend.training import strength as strength_module
from maquette.backend.training.data import DataConfig
from maquette.backend.training.encode import unpack
from maquette.backend.training.strength import STRENGTHS, choose_strength, fresh_shots, gains, temper

DATA = DataConfig(frames=5, size=64, points=16, shards=4, aspects=True)


@pytest.mark.parametrize(
    ("decibels", "wanted"),
    [
        ([[0.1, 0.3, 0.2, -1.0], [0.2, 0.2, 0.2, -1.0]], (0.5, 0.25)),
        ([[-0.1, -0.2, -0.3, -0.4], [-0.1, -0.2, -0.3, -0.4]], (0.0, 0.0)),
        ([[0.0, 0.0, 0.0, 2.0], [0.0, 0.0, 0.0, -1.9]], (0.0, 0.0)),  # one lucky shot is no gain
    ],
)
def test_the_strength_that_gains_for_sure(decibels: list[list[float]], wanted: tuple[float, float]) -> None:
    assert choose_strength(np.array(decibels)) == pytest.approx(wanted)


class Giving(ISATransformer3DModel):
    """Gives a multiple of what is missing from the carried film's latents."""

    share = 1.0

    def forward(self, hidden_states, timestep, conditions, residual=False, **_):  # type: ignore[override]
        from diffusers.models.modeling_outputs import Transformer2DModelOutput

        return Transformer2DModelOutput(sample=self.share * (TRUE[conditions.plucker.shape[-2:]] - hidden_states))


TRUE: dict[tuple[int, int], torch.Tensor] = {}


def test_corrections_are_tempered(monkeypatch: pytest.MonkeyPatch) -> None:
    vae = load_vae(model_spec("isa-nano"))
    torch.manual_seed(0)
    config = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 16}
    model = Giving(**config, prediction="residual", start="carried").eval()
    shots = fresh_shots(vae, DATA, 2)
    for shot in shots:
        clean, _, inputs = unpack(shot)
        TRUE[inputs.plucker.shape[-2:]] = clean
    assert len(TRUE) == 2  # two shapes
    right = gains(vae, model, shots)
    assert right.shape == (2, len(STRENGTHS)) and (np.diff(right, axis=1) > 0).all() and (right > 0).all()
    model.share = 2.0
    assert gains(vae, model, shots).argmax(axis=1).tolist() == [1, 1]
    model.share = -1.0
    assert (gains(vae, model, shots) < 0).all()

    monkeypatch.setattr(strength_module, "fresh_shots", lambda *_: shots)
    torch.nn.init.constant_(model.patch_out.weight, 1.0)
    for share, strength in ((2.0, 0.5), (-1.0, 0.0)):
        model.share = share
        found, gain = temper(vae, model, DATA)
        assert found == strength and (gain > 0) == (strength > 0)
        assert float(model.patch_out.weight.detach().mean()) == strength
