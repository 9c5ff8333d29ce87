"""MOFA-Video against the stored examples: forward splat, both adapters, CMP, the UNet with residuals."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from diffusers.models.unets.unet_spatio_temporal_condition import UNetSpatioTemporalConditionModel
from maquette.backend.models.mofa.cmp import MotionPropagation
from maquette.backend.models.mofa.flow_controlnet import SCALES, FlowControlNet
from maquette.backend.models.mofa.flow_controlnet_layers import Residuals
from maquette.backend.models.mofa.landmark_controlnet import LandmarkControlNet
from maquette.backend.models.mofa.residuals import multiplicities, predict
from maquette.backend.models.mofa.splat import PixelMotion, splat
from torch import Tensor

from .fixtures import Check, Fixture, Measured, same_keys
from .recipe import fill


def _shapes(module: torch.nn.Module, prefix: str = "") -> dict[str, tuple[int, ...]]:
    return {prefix + key: tuple(value.shape) for key, value in module.state_dict().items()}


def forward_splat(fixture: Fixture) -> Iterator[Measured]:
    average, weight = splat(fixture.inputs["features"], fixture.inputs["flow"])
    yield fixture.close("average", average)
    yield fixture.close("average_f64", average, "average")
    yield fixture.close("weight_sum", weight)
    holes = fixture.outputs["weight_sum"][:, 0] == 0
    yield Measured("holes", "exactly 0", float(average.movedim(1, 0)[:, holes].abs().max()), 0.0)
    wrong = abs(int(holes.sum()) - fixture.sidecar["notes"]["pixels_without_any_source"])
    yield Measured("pixels without any source", "as many", float(wrong), 0.0)


def _built(fixture: Fixture, build: Callable[[], FlowControlNet]) -> FlowControlNet:
    with torch.device("meta"):
        net = build()
    return fill(net.to_empty(device="cpu"), fixture.seed(), fixture.factors())


def _residuals(net: FlowControlNet, fixture: Fixture) -> list[Tensor]:
    given = fixture.inputs
    residuals = net(
        given["sample"],
        given["timestep"],
        given["encoder_hidden_states"],
        given["added_time_ids"],
        given["image"],
        PixelMotion(given["flow"]),
        landmarks=given.get("landmarks"),
    )
    return [*residuals.down, residuals.mid]


def _effect(changed: Tensor, stored: Tensor) -> float:
    return float((changed - stored).abs().max() / stored.abs().max())


def _as_noted(fixture: Fixture, changed: list[Tensor], note: str, noted: list[float]) -> Measured:
    """A wrong variant must be as wrong as the sidecar says that it is for the original."""
    names = [*(f"down.{i:02d}" for i in range(12)), "mid"]
    stored = [fixture.outputs[name] for name in names]
    effects = [_effect(ours, right) for ours, right in zip(changed, stored, strict=True)]
    worst = max(abs(ours - theirs) for ours, theirs in zip(effects, noted, strict=True))
    return Measured(f"effect of {note}", "as noted, 1e-4 of the maximum", worst, 1e-4)


def _adapter(fixture: Fixture, net: FlowControlNet) -> Iterator[Measured]:
    """The residuals, and the effect of what must not be changed."""
    ours = _residuals(net, fixture)
    for index, residual in enumerate(ours[:-1]):
        yield fixture.close(f"down.{index:02d}", residual)
    yield fixture.close("mid", ours[-1])
    notes = fixture.sidecar["notes"]
    heads = notes["control_20_heads_in_down_block_2"]
    attentions = [module for module in net.down_blocks[2].modules() if hasattr(module, "heads")]
    yield Measured(
        "attention layers of block 2", "as many", float(len(attentions) != heads["attention_layers_changed"]), 0
    )
    if not fixture.controls:
        return
    for attention in attentions:
        attention.heads = 20
    yield _as_noted(fixture, _residuals(net, fixture), "20 heads in block 2", heads["relative_diff_per_output"])


@torch.no_grad()
def trajectory_adapter(fixture: Fixture) -> Iterator[Measured]:
    net = _built(fixture, FlowControlNet)
    yield same_keys(fixture, _shapes(net))
    embedding = net.controlnet_cond_embedding(fixture.inputs["image"])
    yield fixture.close("cond_embedding_sub", embedding[0, ::4])
    if fixture.controls:
        carried, _ = net.carried_features(fixture.inputs["image"], PixelMotion(fixture.inputs["flow"]), parity=True)
        hook = net.mid_block.register_forward_pre_hook(lambda _, given: (given[0] - carried[3].flatten(0, 1),))
        effect = _effect(_residuals(net, fixture)[-1], fixture.outputs["mid"])
        hook.remove()
        noted = fixture.sidecar["notes"]["control_last_injection_left_out_relative_diff_of_mid"]
        yield Measured("effect of 1/64 twice only", "as noted, 1e-4 of the maximum", abs(effect - noted), 1e-4)
    yield from _adapter(fixture, net)


@torch.no_grad()
def landmark_adapter(fixture: Fixture) -> Iterator[Measured]:
    net = _built(fixture, LandmarkControlNet)
    yield same_keys(fixture, _shapes(net))
    _, masks = net.carried_features(fixture.inputs["image"], PixelMotion(fixture.inputs["flow"]), parity=True)
    for scale, mask in zip(SCALES, masks, strict=True):
        yield fixture.close(f"occlusion.{scale}", mask)
    yield from _adapter(fixture, net)


@torch.no_grad()
def motion_propagation(fixture: Fixture) -> Iterator[Measured]:
    with torch.device("meta"):
        net = MotionPropagation()
    yield same_keys(fixture, _shapes(net, "module."))
    net = fill(net.to_empty(device="cpu"), fixture.seed(), fixture.factors(), lambda key: f"module.{key}")
    picture = fixture.inputs["image_u8"].float()[None] / 255
    sparse, mask = torch.zeros(1, 2, 384, 384), torch.zeros(1, 1, 384, 384)
    for (x, y), displacement in zip(
        fixture.inputs["points_xy"].tolist(), fixture.inputs["displacement_xy"], strict=True
    ):
        sparse[0, :, y, x], mask[0, :, y, x] = displacement, 1
    image = net.image_encoder(2 * picture - 1)[-1]
    yield fixture.close("image_features_sub", image[0, ::16, ::4, ::4], "features")
    known = net.flow_encoder(torch.cat([sparse, mask, mask], dim=1))
    yield fixture.close("sparse_features_sub", known[0, :, ::2, ::2], "features")
    yield fixture.close("raw_sub", net.bin_logits(picture, sparse, mask)[0, :, ::16, ::16], "raw")
    flow = net(picture, sparse, mask)[0]
    yield fixture.close("flow_sub", flow[:, ::4, ::4], "flow")
    yield fixture.close("flow_rows", flow[:, [0, 1, 191, 383]], "flow")
    wide = flow.double().flatten(1)
    summary = torch.stack([wide.mean(1), wide.std(1, correction=0), wide.amin(1), wide.amax(1)], dim=1)
    yield fixture.close("flow_mean_std", summary, "flow")
    if not fixture.controls:
        return
    empty = net(picture, torch.zeros_like(sparse), torch.zeros_like(mask))[0]
    noted = fixture.sidecar["notes"]["effect_of_the_sparse_points"]
    yield Measured("effect of the points", "as noted, 0.01 px", abs(float((flow - empty).abs().max()) - noted), 0.01)


@torch.no_grad()
def unet_residuals(fixture: Fixture) -> Iterator[Measured]:
    net = UNetSpatioTemporalConditionModel(**fixture.sidecar["config"])
    yield same_keys(fixture, _shapes(net))
    fill(net, fixture.seed(), fixture.factors())
    counts = multiplicities([2, 2, 2, 2])
    yield Measured("multiplicity", "equal", float(counts != fixture.sidecar["notes"]["multiplicity"]), 0.0)
    given = fixture.inputs
    arguments = tuple(given[name] for name in ("sample", "timestep", "encoder_hidden_states", "added_time_ids"))
    down = tuple(given[f"residual_down.{i:02d}"] for i in range(12))
    yield fixture.close("pred", predict(net, *arguments, Residuals(down, given["residual_mid"])))
    nothing = Residuals(tuple(map(torch.zeros_like, down)), torch.zeros_like(given["residual_mid"]))
    yield fixture.close("pred_without_residuals", predict(net, *arguments, nothing))
    yield fixture.close("pred_without_residuals", predict(net, *arguments, None))
    once = Residuals(tuple(x / n for x, n in zip(down, counts, strict=True)), given["residual_mid"])
    yield fixture.close("control_pred_if_added_once", predict(net, *arguments, once))


CHECKS: dict[str, Check] = {
    "mofa_softsplat": forward_splat,
    "mofa_traj_controlnet": trajectory_adapter,
    "mofa_ldmk_controlnet": landmark_adapter,
    "mofa_cmp": motion_propagation,
    "mofa_unet_residuals": unet_residuals,
}
