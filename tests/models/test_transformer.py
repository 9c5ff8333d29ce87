"""The ISA-DiT: invariances, identity, dropout, kernel at the start, saving, sizes."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from maquette.backend.catalogue.models import find_specs, model_spec
from maquette.backend.models.isa.build import new_transformer, new_vae
from maquette.backend.models.isa.inputs import ISAInputs
from maquette.backend.models.isa.layers import attend, interspatial_encoding
from maquette.backend.models.isa.transformer import ISATransformer3DModel, widened

from .conftest import TINY_TRANSFORMER, random_inputs, randomize


def noise(batch: int = 1, latents: int = 3, size: int = 4) -> torch.Tensor:
    return torch.randn(batch, 16, latents, size, size, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
def run(model: ISATransformer3DModel, inputs: ISAInputs, x: torch.Tensor | None = None) -> torch.Tensor:
    batch, _, latents, size = inputs.background_latents.shape[:4]
    x = noise(batch, latents, size) if x is None else x
    return model(x, torch.full((batch,), 600.0), inputs).sample


@torch.no_grad()
def test_prepared_conditions_give_the_same_as_raw_ones(transformer):
    inputs = random_inputs(batch=2, characters=2)
    raw = run(transformer, inputs)
    assert raw.shape == (2, 16, 3, 4, 4)
    conditions = transformer.prepare_conditions(inputs)
    x = noise(2)
    assert torch.equal(transformer(x, torch.full((2,), 600.0), conditions).sample, raw)


def test_order_of_points_does_not_matter(transformer):
    inputs = random_inputs(characters=2)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    shuffled = replace(
        inputs,
        points=inputs.points[:, :, :, order],
        rest_points=inputs.rest_points[:, :, order],
        point_mask=inputs.point_mask[..., order],
        point_visibility=inputs.point_visibility[..., order],
        reference_points=inputs.reference_points[:, :, order],
        reference_visibility=inputs.reference_visibility[..., order],
    )
    assert torch.allclose(run(transformer, shuffled), run(transformer, inputs), atol=1e-5)


def test_padding_points_and_characters_changes_nothing(transformer):
    small, padded = random_inputs(characters=1, points=12), random_inputs(characters=3, points=16)
    mask = torch.zeros_like(padded.point_mask)
    mask[:, :1, :, :12] = True
    changes = {"point_mask": mask, "reference_present": torch.tensor([[True, False, False]])}
    for name in ("points", "rest_points", "point_visibility", "reference_points", "reference_visibility"):
        values, real = getattr(padded, name).clone(), getattr(small, name)
        index = (slice(None), slice(0, 1), *(slice(None),) * (real.ndim - 2))
        axis = 3 if name in ("points", "point_visibility") else 2
        values[index].narrow(axis, 0, 12).copy_(real)
        changes[name] = values
    latents = padded.reference_latents.clone()
    latents[:, :1] = small.reference_latents
    alone = ("plucker", "background_latents", "carried_latents", "known")
    same = {name: getattr(small, name) for name in alone}
    padded = replace(padded, reference_latents=latents, **same, **changes)
    assert torch.allclose(run(transformer, padded), run(transformer, small), atol=1e-5)


def test_an_absent_reference_is_not_looked_at(transformer):
    inputs = replace(random_inputs(characters=2), reference_present=torch.tensor([[True, False]]))
    latents = inputs.reference_latents.clone()
    latents[:, 1] += 1
    other = run(transformer, replace(inputs, reference_latents=latents))
    assert torch.equal(other, run(transformer, inputs))


@torch.no_grad()
def test_characters_keep_their_own_references(transformer):
    """Another look for character 1 leaves the tokens of character 0 alone, and changes its own."""
    inputs = random_inputs(characters=2)
    latents = inputs.reference_latents.clone()
    latents[:, 1] += 1
    before = transformer.prepare_conditions(inputs).point_tokens
    after = transformer.prepare_conditions(replace(inputs, reference_latents=latents)).point_tokens
    assert torch.equal(before[:, :, :16], after[:, :, :16])
    assert not torch.allclose(before[:, :, 16:32], after[:, :, 16:32])


@torch.no_grad()
def test_each_pixel_is_given_the_reference_of_the_nearest_character(transformer):
    inputs = random_inputs(characters=2)
    points = inputs.points.clone()
    points[:, 0, ..., 0] = -0.75
    points[:, 1, ..., 0] = 0.75
    chosen = transformer.prepare_conditions(replace(inputs, points=points)).latents[:, :16]
    for frame in range(3):
        assert torch.equal(chosen[:, :, frame, :, 0], inputs.reference_latents[:, 0, :, :, 0])
        assert torch.equal(chosen[:, :, frame, :, 3], inputs.reference_latents[:, 1, :, :, 3])


@torch.no_grad()
def test_identity_is_sampled_where_the_point_lies_in_the_reference(transformer):
    """Eq. 19: a point at the centre of a latent pixel gets exactly that pixel; a hidden one gets nothing."""
    inputs = random_inputs()
    where = torch.zeros_like(inputs.reference_points)
    where[..., 0], where[..., 1] = -0.75, 0.25  # column 0, row 2 of 4
    inputs = replace(inputs, reference_points=where)
    base = transformer.prepare_conditions(inputs).point_tokens
    for row, column in ((2, 0), (1, 3)):
        latents = inputs.reference_latents.clone()
        latents[..., row, column] += 1
        changed = transformer.prepare_conditions(replace(inputs, reference_latents=latents)).point_tokens
        assert torch.equal(changed, base) == ((row, column) != (2, 0))
    hidden = replace(inputs, reference_visibility=torch.zeros_like(inputs.reference_visibility))
    other = replace(hidden, reference_latents=hidden.reference_latents + 1)
    tokens = [transformer.prepare_conditions(i).point_tokens for i in (hidden, other)]
    assert torch.equal(*tokens)


def test_frames_meet_only_in_the_temporal_layers(transformer):
    """With the temporal gates shut, changing a latent frame's points changes that frame alone."""
    inputs = random_inputs()
    points = inputs.points.clone()
    points[:, :, 5:] += 0.5  # latent 2
    other = replace(inputs, points=points)
    assert not torch.allclose(run(transformer, other)[:, :, 0], run(transformer, inputs)[:, :, 0])
    model = ISATransformer3DModel(**TINY_TRANSFORMER).eval()
    model.load_state_dict(transformer.state_dict())
    with torch.no_grad():
        for block in model.blocks:
            for attention in (block.temporal_attention, block.point_temporal_attention):
                attention.to_out.weight.zero_()
                attention.to_out.bias.zero_()
    a, b = run(model, inputs), run(model, other)
    assert torch.equal(a[:, :, :2], b[:, :, :2])
    assert not torch.allclose(a[:, :, 2], b[:, :, 2])


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("points", "points"),
        ("reference", "reference_latents"),
        ("camera", "plucker"),
        ("background", "background_latents"),
        ("carried", "carried_latents"),
        ("carried", "known"),
    ],
)
def test_a_dropped_condition_has_no_influence_and_a_kept_one_has(transformer, name, field):
    inputs = random_inputs(batch=2)
    other = replace(inputs, **{field: getattr(inputs, field) + 0.3})
    flags = {name: torch.tensor([True, False])}
    a, b = run(transformer, inputs.drop(**flags)), run(transformer, other.drop(**flags))
    assert torch.equal(a[0], b[0])
    assert not torch.allclose(a[1], b[1])


def test_batches_do_not_mix(transformer):
    """Guidance in one batch equals two passes."""
    inputs = random_inputs()
    empty = inputs.drop(points=True, reference=True)
    both = run(transformer, ISAInputs.cat([inputs, empty]), torch.cat([noise(), noise()]))
    assert torch.allclose(both[:1], run(transformer, inputs), atol=1e-5)
    assert torch.allclose(both[1:], run(transformer, empty), atol=1e-5)


def test_the_encoding_is_a_kernel_of_distance():
    distance = torch.linspace(0, 1.0, 21)
    xyz = torch.stack([distance, torch.zeros(21), torch.zeros(21)], -1)
    for head in interspatial_encoding(xyz, 192, 4, 50.0).unflatten(1, (4, 48)).unbind(1):
        products = head @ head[0]
        assert products.argmax() == 0
        assert products[0] > 1.15 * products[2:].max()


@torch.no_grad()
def test_attention_finds_the_nearest_point_before_any_training():
    torch.manual_seed(0)
    model = ISATransformer3DModel(patch_size=2, num_layers=1, num_attention_heads=4, attention_head_dim=48)
    inputs = random_inputs(points=128, size=16)
    captured = {}
    attention = model.blocks[0].interspatial_attention
    attention.register_forward_hook(lambda _, arguments, __: captured.update(video=arguments[0], points=arguments[1]))
    model(noise(size=16), torch.full((1,), 900.0), inputs)
    q = attention.video_norm_q(attention.video_to_qkv(captured["video"])[..., :192].unflatten(-1, (4, 48)))
    k = attention.point_norm_k(attention.point_to_qkv(captured["points"])[..., 192:384].unflatten(-1, (4, 48)))
    weights = (torch.einsum("bqae,bkae->baqk", q, k) / 48**0.5).softmax(-1).mean(1)[..., :-1]
    xy = torch.cat([inputs.points[:, :, :1].expand(-1, -1, 3, -1, -1), inputs.points], 2)[0, 0, :, :, :2]
    xy = xy.unflatten(0, (3, 4)).mean(1)
    grid = (torch.arange(8) + 0.5) / 4 - 1
    pixels = torch.stack(torch.meshgrid(grid, grid, indexing="ij")[::-1], -1).flatten(0, 1)
    distance = torch.cdist(pixels.expand(3, -1, -1), xy)
    attended = (weights * distance).sum(-1) / weights.sum(-1)
    assert attended.mean() < 0.6 * distance.mean()


def test_a_new_model_gives_no_flow_and_passes_gradients_everywhere(transformer):
    torch.manual_seed(0)
    model = ISATransformer3DModel(**TINY_TRANSFORMER)
    assert run(model, random_inputs()).abs().max() == 0
    randomize(model)
    model(noise(), torch.tensor([500.0]), random_inputs(characters=2)).sample.pow(2).mean().backward()
    # The last block's points are not looked at again.
    last = ("point_to_out", "point_mlp", "video_norm_k", "point_norm_q")
    idle = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert all(
        name == "null_camera"
        or ((name.startswith("blocks.1.") and name.split(".")[2:][-2] in last) or "point_mlp" in name)
        for name in idle
    ), idle


def test_training_reduces_the_loss():
    torch.manual_seed(0)
    model = ISATransformer3DModel(**TINY_TRANSFORMER)
    inputs = random_inputs(batch=2, frames=5)
    clean = inputs.carried_latents + inputs.reference_latents[:, 0, :, None]
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    losses = []
    for _ in range(30):
        e = torch.randn(clean.shape, generator=generator)
        t = torch.rand(2, generator=generator).view(-1, 1, 1, 1, 1)
        flow = model((1 - t) * clean + t * e, 1000 * t.flatten(), inputs).sample
        loss = (flow - (e - clean)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@pytest.mark.parametrize(
    ("dropped", "counted_from"),
    [((), "carried_latents"), (("carried",), "background_latents"), (("carried", "background"), None)],
)
@torch.no_grad()
def test_residual_prediction_counts_from_the_carried_film_else_the_background(dropped, counted_from):
    """x_t minus t times the flow is the predicted clean latent: before training what is counted from."""
    model = ISATransformer3DModel(**TINY_TRANSFORMER, prediction="residual")
    inputs, x = random_inputs().drop(**dict.fromkeys(dropped, True)), noise()
    base = getattr(inputs, counted_from) if counted_from else torch.zeros_like(x)
    assert torch.equal(model.prepare_conditions(inputs).carried, base)
    flow = model(x, torch.tensor([700.0]), inputs).sample
    assert torch.allclose(x - 0.7 * flow, base, atol=1e-5)
    randomize(model)
    offset = model(x, torch.tensor([700.0]), inputs, residual=True).sample
    assert offset.abs().max() > 1e-3
    flow = model(x, torch.tensor([700.0]), inputs).sample
    assert torch.allclose(x - 0.7 * flow, base + offset, atol=1e-5)


@torch.no_grad()
def test_weights_that_knew_no_carried_film_are_widened(transformer):
    """They give nothing at first, and are blind to the carried film alone."""
    model = ISATransformer3DModel(**TINY_TRANSFORMER).eval()
    new = transformer.state_dict()
    seen = 3 * 16 * TINY_TRANSFORMER.get("patch_size", 2) ** 2
    old = {**new, "patch_in.weight": new["patch_in.weight"][:, :seen]}
    model.load_state_dict(widened(old, model))
    assert run(model, random_inputs()).abs().max() == 0
    model.patch_out.weight.copy_(new["patch_out.weight"])
    inputs = random_inputs()
    blind = run(model, inputs)
    assert torch.equal(run(model, inputs.drop(carried=True)), blind)
    assert not torch.allclose(run(model, inputs.drop(background=True)), blind)
    kept = widened(new, model)
    assert all(torch.equal(kept[name], value) for name, value in new.items())


@torch.no_grad()
def test_larger_video_tokens_see_the_mean_of_the_smaller_ones():
    torch.manual_seed(0)
    fine, coarse = (ISATransformer3DModel(**{**TINY_TRANSFORMER, "patch_size": size}) for size in (1, 2))
    old = fine.state_dict()
    coarse.load_state_dict(widened({**old, "patch_in.weight": old["patch_in.weight"][:, :48]}, coarse))
    assert run(coarse, random_inputs()).abs().max() == 0
    x = torch.randn(1, 65, 2, 4, 4)
    x[:, 48:] = 0
    mean = fine.patch_in(fine._patches(x)).unflatten(2, (2, 2, 2, 2)).mean(dim=(3, 5)).flatten(2, 3)
    torch.testing.assert_close(coarse.patch_in(coarse._patches(x)), mean)


def test_gradient_checkpointing_changes_nothing(transformer):
    inputs, x = random_inputs(), noise()
    gradients = []
    for enabled in (False, True):
        transformer.train()
        (transformer.enable_gradient_checkpointing if enabled else transformer.disable_gradient_checkpointing)()
        transformer.zero_grad()
        transformer(x, torch.tensor([500.0]), inputs).sample.pow(2).mean().backward()
        gradients.append(transformer.patch_in.weight.grad.clone())
    transformer.zero_grad()
    transformer.disable_gradient_checkpointing()
    transformer.eval()
    assert torch.allclose(*gradients, atol=1e-6)


@torch.no_grad()
def test_saved_and_loaded_is_the_same(transformer, tmp_path):
    transformer.save_pretrained(tmp_path)
    assert (tmp_path / "diffusion_pytorch_model.safetensors").is_file()
    loaded = ISATransformer3DModel.from_pretrained(tmp_path)
    assert torch.allclose(run(loaded, random_inputs()), run(transformer, random_inputs()), atol=1e-5)


@torch.no_grad()
def test_any_length_and_any_size(transformer):
    for frames, size in ((1, 4), (33, 2), (5, 8)):
        inputs = random_inputs(frames=frames, size=size)
        x = noise(1, inputs.background_latents.shape[2], size)
        moved = x.clone()
        moved[..., -1, -1, -1] += 1
        change_Lhw = (run(transformer, inputs, moved) - run(transformer, inputs, x)).abs().amax(dim=(0, 1))
        # Every place hears of it, its own most.
        assert change_Lhw.shape == x.shape[2:] and change_Lhw.min() > 0
        assert change_Lhw[-1, -2:, -2:].max() == change_Lhw.max()


@torch.no_grad()
def test_plain_attention_equals_torchs():
    q, k, v = torch.randn(3, 2, 2, 6, 8).unbind(0)
    mask = torch.tensor([True, True, False, True, True, False]).expand(2, 1, 1, 6)
    fused = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    assert torch.allclose(attend(q, k, v, mask), fused, atol=1e-6)


@torch.no_grad()
def test_clip_tokens_replace_reference_latents():
    torch.manual_seed(0)
    model = ISATransformer3DModel(**TINY_TRANSFORMER, image_embed_dim=12).eval()
    randomize(model)
    inputs = random_inputs(characters=2)
    with pytest.raises(ValueError, match="image_embeds"):
        run(model, inputs)
    embeds = torch.randn(1, 2, 5, 12)
    a = run(model, replace(inputs, image_embeds=embeds))
    b = run(model, replace(inputs, image_embeds=embeds + 1))
    assert not torch.allclose(a, b)


def test_inputs_keep_their_dtypes_when_moved():
    moved = random_inputs().to(dtype=torch.bfloat16)
    kinds = {entry.name: getattr(moved, entry.name) for entry in fields(moved)}
    assert kinds["reference_latents"].dtype == torch.bfloat16
    assert kinds["points"].dtype == torch.float32 and kinds["point_mask"].dtype == torch.bool


SIZES = {"isa-nano": (0.003, 0.014), "isa-small": (0.19, 0.23), "isa-base": (1.05, 1.25), "isa-4b": (3.8, 4.0)}


@pytest.mark.parametrize("name", SIZES)
def test_parameter_counts_of_the_presets(name):
    spec = find_specs()[name]
    with torch.device("meta"):
        transformer, vae = new_transformer(spec), new_vae(spec)
    billions = sum(p.numel() for p in transformer.parameters()) / 1e9
    assert SIZES[name][0] <= billions <= SIZES[name][1]
    if name == "isa-nano":
        half = 2 * (sum(p.numel() for p in transformer.parameters()) + sum(p.numel() for p in vae.parameters()))
        assert half <= 32e6
    assert vae.spatial_factor == 8 and vae.temporal_factor == 4


@pytest.mark.parametrize("name", ["isa-nano", "isa-small"])
@torch.no_grad()
def test_nano_and_small_run_on_a_cpu(name):
    spec = model_spec(name)
    with torch.device("meta"):
        transformer, vae = new_transformer(spec).eval(), new_vae(spec).eval()
    # Filled fast: drawing 0.2 B numbers would take longer than using them.
    for model in (transformer, vae):
        model.to_empty(device="cpu")
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape[-1]) * 0.02)
    x = torch.rand(1, 3, 5, 32, 32)
    z = vae.normalize(vae.encode(x).latent_dist.mode())
    inputs = random_inputs(frames=5, points=spec.components["transformer"]["points_per_character"])
    if transformer.config["image_embed_dim"]:
        inputs = replace(inputs, image_embeds=torch.randn(1, 1, 3, transformer.config["image_embed_dim"]))
    flow = transformer(z, torch.tensor([500.0]), inputs).sample
    assert flow.shape == z.shape and flow.isfinite().all()
    assert vae.decode(vae.denormalize(z - 0.5 * flow)).sample.shape == x.shape
