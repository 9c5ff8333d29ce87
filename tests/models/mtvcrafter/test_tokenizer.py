"""The motion tokenizer: chunks, odd lengths, dilations, codes, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from maquette.backend.models.mtvcrafter.tokenizer import MotionTokenizer, latent_frames, token_loss
from maquette.backend.models.mtvcrafter.tokenizer_layers import Codebook, dilation, pool_time, stretch_time
from maquette.backend.shot.framing import read_statistics

from ...parity.fixtures import PARITY, Fixture
from ...parity.recipe import fill

LENGTHS = {8: 8, 9: 9, 17: 17, 25: 25, 44: 41, 45: 48, 48: 48, 49: 49}
"""Frames in and frames out, as the reference gives them."""


@pytest.fixture(scope="module")
def tiny() -> MotionTokenizer:
    return fill(MotionTokenizer(widths=(32, 32), code_dim=16, codes=24, layers_per_block=1), seed=3)


def motion(frames: int, batch: int = 1, seed: int = 0) -> torch.Tensor:
    """Normalised joints (B,3,F,24)."""
    return torch.randn(batch, 3, frames, 24, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("frames", "back"), LENGTHS.items())
@torch.no_grad()
def test_lengths_come_back_as_the_reference_gives_them(tiny: MotionTokenizer, frames: int, back: int) -> None:
    found = tiny.encode(motion(frames))
    assert found.indices.shape == (1, latent_frames(frames), 24)
    assert found.tokens.shape == (1, latent_frames(frames) * 24, 16)
    assert tiny.decode(found.tokens).shape == (1, 3, back, 24)


def test_the_published_length_has_312_tokens() -> None:
    assert latent_frames(49) * 24 == 312


@torch.no_grad()
def test_chunks_have_8_frames_and_the_first_takes_the_remainder(tiny: MotionTokenizer) -> None:
    x = motion(49)
    pieces = [x[:, :, :9], *x[:, :, 9:].split(8, dim=2)]
    alone = torch.cat([tiny.encoder(piece) for piece in pieces], dim=2)
    torch.testing.assert_close(tiny.latents(x), alone, atol=1e-4, rtol=1e-4)
    assert (tiny.latents(x) - tiny.encoder(x)).abs().max() > 0.5
    pieces = [x[:, :, :8], *x[:, :, 8:].split([9, 8, 8, 8, 8], dim=2)]
    remainder_later = torch.cat([tiny.encoder(piece) for piece in pieces], dim=2)
    assert (tiny.latents(x) - remainder_later).abs().max() > 0.5


@torch.no_grad()
def test_latents_are_decoded_by_twos_and_the_first_takes_the_remainder(tiny: MotionTokenizer) -> None:
    codes = torch.randn(1, 16, 13, 24, generator=torch.Generator().manual_seed(1))
    pieces = [codes[:, :, :3], *codes[:, :, 3:].split(2, dim=2)]
    alone = torch.cat([tiny.decoder(piece) for piece in pieces], dim=2)
    torch.testing.assert_close(tiny.decode_codes(codes), alone, atol=1e-4, rtol=1e-4)
    assert (tiny.decode_codes(codes) - tiny.decoder(codes)).abs().max() > 0.5


@pytest.mark.skipif(not PARITY.is_dir(), reason=f"no parity fixtures at {PARITY}")
@torch.no_grad()
def test_leaving_out_the_chunks_changes_everything_by_what_the_reference_says() -> None:
    fixture = Fixture.load("mtv_4dmot_small")
    model = fill(MotionTokenizer(widths=(32, 64), code_dim=96, codes=64), fixture.seed())
    x = model.normalized(fixture.inputs["joints_mm"])
    notes = fixture.sidecar["notes"]
    change = float((model.encoder(x) - model.latents(x)).abs().max())
    assert change == pytest.approx(notes["control_encoder_49_frames_in_one_chunk_max_abs_diff"], rel=1e-3)
    codes = model.vq(model.latents(x)).codes
    change = float((model.decoder(codes) - model.decode_codes(codes)).abs().max())
    assert change == pytest.approx(notes["control_decoder_13_latents_in_one_chunk_max_abs_diff"], rel=1e-3)


@given(frame=st.integers(0, 48))
@torch.no_grad()
def test_a_frame_reaches_its_own_chunk_alone(tiny: MotionTokenizer, frame: int) -> None:
    x = motion(49)
    moved = x.clone()
    moved[:, :, frame] += 1.0
    changed = (tiny.latents(moved) - tiny.latents(x)).abs().amax(dim=(0, 1, 3)) > 0
    first, last = (0, 3) if frame < 9 else (3 + 2 * ((frame - 9) // 8), 5 + 2 * ((frame - 9) // 8))
    assert not changed[:first].any()
    assert not changed[last:].any()
    assert changed[first:last].any()


def test_dilation_follows_the_width() -> None:
    assert [dilation(width) for width in (32, 64, 128, 256, 512, 1024)] == [15, 7, 3, 1, 1, 1]
    with torch.device("meta"):
        model = MotionTokenizer()
    assert model.encoder.resnet1[0].block[2].dilation == (3, 3)
    assert model.encoder.resnet3[0].block[2].dilation == (1, 1)
    assert model.decoder.resnet2.block[2].dilation == (3, 3)
    assert sum(p.numel() for p in model.encoder.parameters()) == pytest.approx(24.29e6, rel=1e-3)
    assert sum(p.numel() for p in model.decoder.parameters()) == pytest.approx(24.04e6, rel=1e-3)
    assert model.vq.codebook.shape == (8192, 3072)


def test_odd_lengths_keep_their_first_frame() -> None:
    x = torch.arange(5.0).view(1, 1, 5, 1).expand(1, 1, 5, 24)
    assert pool_time(x, 2)[0, 0, :, 0].tolist() == [0.0, 1.5, 3.5]
    assert pool_time(x[:, :, :4], 2)[0, 0, :, 0].tolist() == [0.5, 2.5]
    torch.testing.assert_close(
        stretch_time(x[:, :, :3], 2)[0, 0, :, 0], torch.tensor([0, 1, 4 / 3, 5 / 3, 2]), atol=1e-6, rtol=0
    )


@torch.no_grad()
def test_tokens_are_codes_in_frame_major_order(tiny: MotionTokenizer) -> None:
    found = tiny.encode(motion(17, batch=2))
    for frame, joint in ((0, 0), (0, 23), (3, 7), (4, 23)):
        for sample in range(2):
            code = tiny.vq.codebook[found.indices[sample, frame, joint]]
            assert torch.equal(found.tokens[sample, frame * 24 + joint], code)


@given(seed=st.integers(0, 10_000), rows=st.integers(1, 40))
def test_the_nearest_code_is_chosen(seed: int, rows: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    book = Codebook(9, 5)
    book.codebook.copy_(torch.randn(9, 5, generator=generator))
    x = torch.randn(rows, 5, generator=generator)
    distances = torch.cdist(x.double(), book.codebook.double())
    assert torch.equal(book.nearest(x), distances.argmin(dim=1))


def test_gradients_pass_the_codebook(tiny: MotionTokenizer) -> None:
    back, found = tiny(motion(9))
    back.square().sum().backward()
    gradient = tiny.encoder.conv_in.weight.grad
    assert gradient is not None and gradient.abs().sum() > 0
    assert found.loss.requires_grad
    assert not tiny.vq.codebook.requires_grad
    tiny.zero_grad(set_to_none=True)


def test_token_loss_is_the_distance_to_the_codes(tiny: MotionTokenizer) -> None:
    known = read_statistics()
    joints = known.mean + np.random.default_rng(0).normal(0, 200, (20, 24, 3)).astype(np.float32)
    with torch.no_grad():
        z = tiny.latents(tiny.normalized(joints))
        nearest = torch.cdist(z.permute(0, 2, 3, 1).reshape(-1, 16), tiny.vq.codebook).min(dim=1).values
    assert token_loss(tiny, joints) == pytest.approx(float(nearest.square().mean()) / 16, rel=1e-3)
    assert token_loss(tiny, 10 * joints) > token_loss(tiny, joints)


def test_millimetres_undo_normalising(tiny: MotionTokenizer) -> None:
    joints = torch.from_numpy(read_statistics().mean) + torch.linspace(-500, 500, 10)[:, None, None]
    torch.testing.assert_close(tiny.millimetres(tiny.normalized(joints))[0], joints, atol=1e-2, rtol=0)


@pytest.mark.parametrize("frames", [0, 1, 7])
def test_too_few_frames_are_refused(tiny: MotionTokenizer, frames: int) -> None:
    with pytest.raises(ValueError, match="at least 8"):
        tiny.encode(motion(frames))


@pytest.mark.parametrize("tokens", [0, 24, 50])
def test_tokens_of_no_whole_motion_are_refused(tiny: MotionTokenizer, tokens: int) -> None:
    with pytest.raises(ValueError, match="tokens: "):
        tiny.decode(torch.zeros(1, tokens, 16))


def test_other_skeletons_are_refused(tiny: MotionTokenizer) -> None:
    with pytest.raises(ValueError, match="24"):
        tiny.motion_tokens(np.zeros((9, 22, 3), np.float32))


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"widths": (32,)}, "widths"), ({"widths": (32, 40)}, "widths"), ({"mean_mm": [[0.0] * 3] * 24}, "std_mm")],
)
def test_wrong_configurations_are_named(changed: dict, named: str) -> None:
    with pytest.raises(ValueError, match=named):
        MotionTokenizer(**{"widths": (32, 32), "code_dim": 8, "codes": 4, **changed})


def test_saved_and_loaded_with_its_statistics(tmp_path: Path) -> None:
    mean = np.arange(72, dtype=np.float32).reshape(24, 3)
    model = MotionTokenizer(
        widths=(32, 32),
        code_dim=8,
        codes=4,
        layers_per_block=1,
        mean_mm=mean.tolist(),
        std_mm=(mean + 1).tolist(),
    )
    fill(model, seed=1).save_pretrained(tmp_path)
    back = MotionTokenizer.from_pretrained(tmp_path, local_files_only=True)
    for key, value in model.state_dict().items():
        assert torch.equal(value, back.state_dict()[key])
    np.testing.assert_array_equal(back.statistics.mean, mean)
    np.testing.assert_array_equal(read_statistics(tmp_path / "config.json").std, mean + 1)
