"""The adapters: what the published ones do, however odd it looks, must stay; what parity turns off must turn off."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from maquette.backend.models.mofa.flow_controlnet import FlowControlNet
from maquette.backend.models.mofa.flow_controlnet_layers import Residuals
from maquette.backend.models.mofa.landmark_controlnet import LandmarkControlNet
from maquette.backend.models.mofa.splat import PixelMotion
from torch import Tensor

from .networks import TWO_LAYERS, network, noise, tiny_spec, without_hooks

FRAMES = 3


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    return tiny_spec(tmp_path_factory.mktemp("models"), True, TWO_LAYERS)


@pytest.fixture(scope="module")
def nets(spec):
    return {name: network(spec, name) for name in ("controlnet", "landmark_controlnet")}


@pytest.fixture
def trajectory(nets):
    yield nets["controlnet"]
    without_hooks(nets["controlnet"])


@pytest.fixture
def landmark(nets):
    yield nets["landmark_controlnet"]
    without_hooks(nets["landmark_controlnet"])


@pytest.fixture(params=["controlnet", "landmark_controlnet"])
def either(nets, request):
    yield nets[request.param]
    without_hooks(nets[request.param])


def flow() -> Tensor:
    return 12 * noise(1, FRAMES - 1, 2, 64, 128, seed=3)


def run(net: FlowControlNet, motion: PixelMotion | None = None, batch: int = 1, **changes: Any) -> Residuals:
    given: dict[str, Any] = {
        "sample": noise(batch, FRAMES, 8, 8, 16, seed=1),
        "timestep": torch.tensor([0.7]),
        "encoder_hidden_states": noise(batch, 1, 32, seed=2),
        "added_time_ids": torch.tensor([[6.0, 128.0, 0.02]]).repeat(batch, 1),
        "picture": noise(1, 3, 64, 128),
        "landmarks": noise(1, FRAMES, 3, 64, 128, seed=4) if isinstance(net, LandmarkControlNet) else None,
        **changes,
    }
    return net(**given, motion=motion or PixelMotion(flow()))


def differ(first: Residuals, second: Residuals) -> list[bool]:
    pairs = zip([*first.down, first.mid], [*second.down, second.mid], strict=True)
    return [not torch.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs]


class Seen:
    """What goes into and comes out of modules during a call."""

    def __init__(self, **modules: torch.nn.Module) -> None:
        self.given: dict[str, Tensor] = {}
        self.made: dict[str, Any] = {}
        for name, module in modules.items():
            module.register_forward_hook(lambda _, args, output, name=name: self._keep(name, args, output))

    def _keep(self, name: str, args: tuple[Any, ...], output: Any) -> None:
        self.given[name] = args[0]
        self.made[name] = output


def test_no_published_configuration_sets_the_heads():
    """SVD's UNet has 20 heads in block 2 and the file beside the adapter's weights may say so; it runs with 10."""
    published = {
        "num_attention_heads": [5, 10, 20, 20],
        "sample_size": 96,
        "block_out_channels": [320, 640, 1280, 1280],
    }
    with torch.device("meta"):
        for net in (FlowControlNet.from_config(published), LandmarkControlNet.from_config(published)):
            attentions = [module for module in net.down_blocks[2].modules() if hasattr(module, "heads")]
            assert len(attentions) == 8 and {module.heads for module in attentions} == {10}
            assert {m.heads for m in net.mid_block.modules() if hasattr(m, "heads")} == {20}
        unet = UNetSpatioTemporalConditionModel()
        assert {m.heads for m in unet.down_blocks[2].modules() if hasattr(m, "heads")} == {20}


def test_the_number_of_heads_matters_though_the_weights_fit_both(spec, trajectory):
    other = FlowControlNet(**{**TWO_LAYERS["controlnet"], "heads": [2, 4, 2, 4]}).eval()
    other.load_state_dict(trajectory.state_dict())
    assert differ(run(trajectory), run(other)) == [False] * 7 + [True] * 6


def test_the_coarsest_feature_enters_three_times(either):
    seen = Seen(two=either.down_blocks[2], three=either.down_blocks[3])
    inputs: list[Tensor] = []
    either.mid_block.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    either.down_blocks[3].register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    run(either)
    carried, _ = either.carried_features(noise(1, 3, 64, 128), PixelMotion(flow()), parity=True)
    coarsest = carried[3].flatten(0, 1)
    into_three, into_mid = inputs
    assert torch.allclose(into_three - seen.made["two"][0], coarsest, atol=1e-4)
    assert torch.allclose(into_mid - seen.made["three"][0], 2 * coarsest, atol=1e-4)
    assert float(coarsest.abs().max()) > 1e-2


def test_residuals_are_taken_before_what_is_injected_next(either):
    blocks = dict(zip("abcd", either.down_blocks, strict=True))
    seen = Seen(first=either.controlnet_down_blocks[0], conv=either.conv_in, **blocks)
    for name in blocks:
        last = either.controlnet_down_blocks[{"a": 3, "b": 6, "c": 9, "d": 11}[name]]
        last.register_forward_hook(lambda _, args, __, name=name: seen.given.update({f"skip {name}": args[0]}))
    run(either)
    for name in "abcd":
        assert torch.equal(seen.given[f"skip {name}"], seen.made[name][0])
    # The first residual is the exception: it comes after the finest feature.
    assert not torch.allclose(seen.given["first"], seen.made["conv"])


def test_what_is_emitted_is_projected_and_what_is_passed_on_is_not(trajectory):
    x = noise(1, 32, 8, 16)
    encoder = trajectory.flow_encoder
    assert encoder.zeroconvs is not None
    first, second, third = encoder(x)
    a = encoder.encoders[0](x)
    b = encoder.encoders[1](a)
    assert torch.equal(first, encoder.zeroconvs[0](a))
    assert torch.equal(second, encoder.zeroconvs[1](b))
    assert torch.equal(third, encoder.zeroconvs[2](encoder.encoders[2](b)))
    assert not torch.allclose(second, encoder.zeroconvs[1](encoder.encoders[1](first)))


def test_only_the_top_left_pixel_of_a_block_is_read(either):
    """As published; without parity the others count."""
    other = flow() + 5
    other[..., ::8, ::8] = flow()[..., ::8, ::8]
    assert not any(differ(run(either), run(either, PixelMotion(other))))
    assert all(differ(run(either, parity=False), run(either, PixelMotion(other), parity=False)))


def test_hidden_sources_leave_numbers(either):
    hidden = flow()
    hidden[:, :, :, :48] = torch.nan
    for parity in (True, False):
        residuals = run(either, PixelMotion(hidden, torch.rand(1, FRAMES - 1, 64, 128) + 1), parity=parity)
        assert all(x.isfinite().all() for x in (*residuals.down, residuals.mid))


def test_depth_and_bodies_count_without_parity_only(either):
    labels = (noise(1, 64, 128) > 0).int()
    told = PixelMotion(flow(), torch.rand(1, FRAMES - 1, 64, 128) * 5 + 1, labels)
    assert not any(differ(run(either), run(either, told)))
    assert any(differ(run(either, parity=False), run(either, told, parity=False)))


def test_halves_of_guidance_share_a_picture(either):
    sample, embeds = noise(2, FRAMES, 8, 8, 16, seed=1), noise(2, 1, 32, seed=2)
    both = run(either, batch=2, sample=sample, encoder_hidden_states=embeds)
    for half in (0, 1):
        one = run(either, sample=sample[half : half + 1], encoder_hidden_states=embeds[half : half + 1])
        for together, alone in zip([*both.down, both.mid], [*one.down, one.mid], strict=True):
            assert torch.allclose(together[half * FRAMES : (half + 1) * FRAMES], alone, atol=1e-4)


def test_strength_scales_every_residual(either):
    full, weak = run(either), run(either, conditioning_scale=0.6)
    for a, b in zip([*full.down, full.mid], [*weak.down, weak.mid], strict=True):
        assert torch.allclose(0.6 * a, b, atol=1e-5)


def test_holes_are_filled_in_later_frames_only(landmark):
    picture, motion = noise(1, 3, 64, 128), PixelMotion(flow())
    carried, masks = landmark.carried_features(picture, motion, parity=True)
    source = landmark.controlnet_cond_embedding(picture)
    assert torch.equal(carried[0][:, 0], source)
    moved = motion.reduced(8, parity=True).carry(source, parity=True)[:, 1:].flatten(0, 1)
    occlusion = landmark.occlusions["8"]
    flat = motion.reduced(8, parity=True).flow.flatten(0, 1)
    hourglass = occlusion.hourglass(torch.cat([source.expand_as(moved), flat, moved], dim=1))
    mask = occlusion.matting_mask(hourglass).sigmoid()
    expected = landmark.zero_outs["8"](mask * moved + (1 - mask) * occlusion.matting(hourglass))
    assert torch.allclose(carried[0][:, 1:].flatten(0, 1), expected, atol=1e-5)
    assert torch.allclose(masks[0], mask) and [tuple(m.shape[-2:]) for m in masks] == [(8, 16), (4, 8), (2, 4), (1, 2)]


def test_the_hourglass_keeps_its_resolution(landmark):
    assert landmark.occlusions["8"].hourglass(noise(1, 66, 5, 7)).shape == (1, 4, 5, 7)


def test_landmarks_enter_at_an_eighth_and_a_sixteenth_alone(landmark):
    inputs: dict[str, list[Tensor]] = {"a": [], "b": [], "c": []}
    blocks = zip("abc", list(landmark.down_blocks)[:3], strict=True)
    for name, block in blocks:
        block.register_forward_pre_hook(lambda _, args, name=name: inputs[name].append(args[0]))
    made: list[Tensor] = []
    landmark.down_blocks[0].register_forward_hook(lambda _, __, output: made.append(output[0]))
    landmark.down_blocks[1].register_forward_hook(lambda _, __, output: made.append(output[0]))
    drawn, blank = noise(1, FRAMES, 3, 64, 128, seed=9), torch.zeros(1, FRAMES, 3, 64, 128)
    run(landmark, landmarks=drawn)
    run(landmark, landmarks=blank)
    fine = landmark.controlnet_ldmk_embedding(drawn[0]) - landmark.controlnet_ldmk_embedding(blank[0])
    assert torch.allclose(inputs["a"][0] - inputs["a"][1], fine, atol=1e-5)
    injected = [inputs["b"][i] - made[2 * i] for i in (0, 1)]
    assert torch.allclose(injected[0] - injected[1], fine[..., ::2, ::2], atol=1e-4)
    injected = [inputs["c"][i] - made[2 * i + 1] for i in (0, 1)]
    assert torch.allclose(injected[0], injected[1], atol=1e-4)


def test_what_does_not_fit_is_refused(trajectory, landmark):
    with pytest.raises(ValueError, match="multiples of 64"):
        run(trajectory, picture=noise(1, 3, 64, 96))
    with pytest.raises(ValueError, match="motion: for 2 frames, but the sample has 3"):
        run(trajectory, PixelMotion(flow()[:, :1]))
    with pytest.raises(ValueError, match="takes none"):
        run(trajectory, landmarks=noise(1, FRAMES, 3, 64, 128))
    with pytest.raises(ValueError, match="needs a drawing"):
        run(landmark, landmarks=None)
