"""ISA-DiT: the diffusion transformer with symmetric interspatial attention (ISA paper, Sec. 5.2-5.3).

Shape letters: B batch, C characters, T = 1+4k frames, L = 1+k latent frames, N points/character, h w latent,
P video tokens of a latent frame, M = C*N + 1 point tokens of a latent frame, D width, A heads, E head width.
A suffix gives a tensor's axes: ``x_BLPD``.

Everything but the two temporal layers is independent per latent frame, so frames ride in the batch axis.
"""

from __future__ import annotations

import math
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from .inputs import ISAConditions, ISAInputs
from .layers import (
    CrossAttention,
    FeedForward,
    InterspatialAttention,
    SelfAttention,
    TimestepEmbedding,
    group_frames,
    interspatial_encoding,
    modulate,
    rotary,
    sinusoids,
)

_POSES = 4
"""Poses of one latent frame (the VAE's temporal factor)."""

_LEAST_TIME = 0.04
"""The flow that follows from predicted clean latents is bounded below this time."""

_MODULATIONS = 30
"""Shift, scale and gate at ten places of a block."""


class ISABlock(nn.Module):
    """2D spatial -> 2D temporal, in parallel 3D temporal -> symmetric ISA -> camera -> reference."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, temporal_mlp_ratio: float, gain: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.spatial_attention = SelfAttention(width, heads)
        self.spatial_mlp = FeedForward(width, mlp_ratio)
        self.temporal_attention = SelfAttention(width, heads)
        self.temporal_mlp = FeedForward(width, temporal_mlp_ratio) if temporal_mlp_ratio else None
        self.point_temporal_attention = SelfAttention(width, heads)
        self.point_temporal_mlp = FeedForward(width, temporal_mlp_ratio) if temporal_mlp_ratio else None
        self.interspatial_attention = InterspatialAttention(width, heads, gain)
        self.video_mlp = FeedForward(width, mlp_ratio)
        self.point_mlp = FeedForward(width, mlp_ratio)
        self.camera_attention = CrossAttention(width, heads, kernel=True)
        self.reference_attention = CrossAttention(width, heads)
        # This block's own offset to the modulation that all blocks share.
        self.modulation = nn.Parameter(torch.zeros(_MODULATIONS, width))

    def forward(
        self,
        x_BLPD: Tensor,
        y_BLMD: Tensor,
        modulation: Tensor,
        encoding_PD: Tensor,
        rotation: tuple[Tensor, Tensor],
        conditions: ISAConditions,
        index: int,
    ) -> tuple[Tensor, Tensor]:
        """Update video tokens x and point tokens y.

        Args:
            modulation: (B,30,D) shift, scale and gate of the ten places.
            encoding_PD: ISPE of the video tokens.
            rotation: rotary encoding of the latent frames' positions.
            index: this block's place in the conditions' keys and values.
        """
        b, frames, tokens, _ = x_BLPD.shape
        places = (modulation + self.modulation).to(x_BLPD.dtype)[:, :, None, None].unflatten(1, (10, 3)).unbind(1)
        spatial, spatial_ff, time, time_ff, point_time, point_time_ff, video, video_ff, point, point_ff = (
            place.unbind(1) for place in places
        )

        # 2D spatial transformer: tokens of one latent frame (Eq. 15).
        h = modulate(self.norm(x_BLPD), spatial[0], spatial[1]).flatten(0, 1)
        x_BLPD = x_BLPD + spatial[2] * self.spatial_attention(h).unflatten(0, (b, frames))
        h = modulate(self.norm(x_BLPD), spatial_ff[0], spatial_ff[1])
        x_BLPD = x_BLPD + spatial_ff[2] * self.spatial_mlp(h)

        # 2D temporal transformer: one place over time (Eq. 16).
        h = modulate(self.norm(x_BLPD), time[0], time[1]).transpose(1, 2).flatten(0, 1)
        h = self.temporal_attention(h, rotation).unflatten(0, (b, tokens)).transpose(1, 2)
        x_BLPD = x_BLPD + time[2] * h
        if self.temporal_mlp is not None:
            h = modulate(self.norm(x_BLPD), time_ff[0], time_ff[1])
            x_BLPD = x_BLPD + time_ff[2] * self.temporal_mlp(h)

        # 3D temporal transformer: one spot on the skin over time (Eq. 17).
        h = modulate(self.norm(y_BLMD), point_time[0], point_time[1]).transpose(1, 2).flatten(0, 1)
        h = self.point_temporal_attention(h, rotation).unflatten(0, (b, -1)).transpose(1, 2)
        y_BLMD = y_BLMD + point_time[2] * h
        if self.point_temporal_mlp is not None:
            h = modulate(self.norm(y_BLMD), point_time_ff[0], point_time_ff[1])
            y_BLMD = y_BLMD + point_time_ff[2] * self.point_temporal_mlp(h)

        # Symmetric interspatial transformer within each latent frame (Eq. 12-14, 18).
        h_x = (modulate(self.norm(x_BLPD), video[0], video[1]) + encoding_PD).flatten(0, 1)
        h_y = (modulate(self.norm(y_BLMD), point[0], point[1]) + conditions.point_encoding).flatten(0, 1)
        mask = conditions.point_mask.flatten(0, 1)[:, None, None]
        h_x, h_y = self.interspatial_attention(h_x, h_y, mask)
        x_BLPD = x_BLPD + video[2] * h_x.unflatten(0, (b, frames))
        y_BLMD = y_BLMD + point[2] * h_y.unflatten(0, (b, frames))
        x_BLPD = x_BLPD + video_ff[2] * self.video_mlp(modulate(self.norm(x_BLPD), video_ff[0], video_ff[1]))
        y_BLMD = y_BLMD + point_ff[2] * self.point_mlp(modulate(self.norm(y_BLMD), point_ff[0], point_ff[1]))

        # Camera cross-attention within each latent frame (Eq. 23).
        k, v = conditions.camera_keys[index].flatten(0, 1), conditions.camera_values[index].flatten(0, 1)
        h = self.camera_attention(x_BLPD.flatten(0, 1), k, v, pe=encoding_PD)
        x_BLPD = x_BLPD + h.unflatten(0, (b, frames))

        # Reference cross-attention, every frame to the same tokens (Eq. 21).
        mask = conditions.reference_mask[:, None, None]
        k, v = conditions.reference_keys[index], conditions.reference_values[index]
        h = self.reference_attention(x_BLPD.flatten(1, 2), k, v, mask)
        x_BLPD = x_BLPD + h.unflatten(1, (frames, tokens))
        return x_BLPD, y_BLMD


class ISATransformer3DModel(ModelMixin, ConfigMixin):
    """Predicts the flow of video latents from noisy ones, bodies, references, camera and background.

    The output is ``e - x_0`` for ``x_t = (1-t) x_0 + t e``, the sign that diffusers' flow matching schedulers
    expect; the paper's v is its negative.

    Args:
        latent_channels: of the video latents.
        patch_size: latent pixels along the side of a video token.
        num_layers, num_attention_heads, attention_head_dim: depth and width; D = heads * head width.
        mlp_ratio: hidden width of the feed-forward layers over D.
        temporal_mlp_ratio: the same for the two temporal transformers; 0 leaves their feed-forward out.
        points_per_character: N that the model was trained with.
        point_frequencies: of the sinusoids that encode a point's coordinates, per coordinate.
        encoding_scale: weight of ISPE against the normalised tokens it is added to.
        encoding_wavelength: shortest wavelength of ISPE, in NDC units.
        attention_gain: initial scale of normalised queries and keys in ISA, which sets the sharpness of its kernel.
        camera_patch_size: latent pixels along the side of a camera token.
        reference_grid: side of the grid of latent reference tokens, used where there is no ``image_embed_dim``.
        image_embed_dim: width of CLIP tokens, or None for a model that cross-attends to reference latents instead.
        max_characters: rows of the character embedding; more characters take the rows again from the start.
        adaln_rank: bottleneck of the shared modulation; 0 for none.
        prediction: ``flow``, or ``residual``: the layers give what the clean latents have over the background's, from
            which the flow follows. A small network then need not learn to pass noise and background through.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["ISABlock"]
    _skip_layerwise_casting_patterns = ["norm", "modulation"]

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 16,
        patch_size: int = 2,
        num_layers: int = 6,
        num_attention_heads: int = 6,
        attention_head_dim: int = 32,
        mlp_ratio: float = 2.0,
        temporal_mlp_ratio: float = 0.0,
        points_per_character: int = 128,
        point_frequencies: int = 7,
        encoding_scale: float = 2.0,
        encoding_wavelength: float = 0.125,
        attention_gain: float = 2.0,
        camera_patch_size: int = 2,
        reference_grid: int = 8,
        image_embed_dim: int | None = None,
        max_characters: int = 8,
        adaln_rank: int = 64,
        prediction: str = "flow",
    ) -> None:
        super().__init__()
        if prediction not in ("flow", "residual"):
            raise ValueError(f"prediction is {prediction!r}; choose 'flow' or 'residual'")
        width = num_attention_heads * attention_head_dim
        self.width = width
        self.gradient_checkpointing = False
        self.patch_in = nn.Linear(3 * latent_channels * patch_size**2, width)
        self.first_frame = nn.Parameter(torch.zeros(width))

        # Per coordinate a sine and a cosine per frequency and the coordinate itself; per pose its visibility.
        point_features = (3 * _POSES + 3) * (2 * point_frequencies + 1) + _POSES
        self.point_in = nn.Linear(point_features, width)
        self.point_out = nn.Linear(width, width)
        self.point_reference = nn.Linear(latent_channels + 1, width)
        self.null_point = nn.Parameter(torch.randn(width) * 0.02)
        self.character_embedding = nn.Embedding(max_characters, width)

        self.camera_in = nn.Linear(6 * _POSES * camera_patch_size**2, width)
        self.camera_out = nn.Linear(width, width)
        self.null_camera = nn.Parameter(torch.zeros(width))

        self.reference_in = nn.Linear(image_embed_dim or latent_channels, width)
        self.null_reference = nn.Parameter(torch.randn(width) * 0.02)

        self.time_embedding = TimestepEmbedding(width)
        self.modulation_in = nn.Linear(width, adaln_rank) if adaln_rank else nn.Identity()
        self.modulation_out = nn.Linear(adaln_rank or width, _MODULATIONS * width)

        self.blocks = nn.ModuleList(
            ISABlock(width, num_attention_heads, mlp_ratio, temporal_mlp_ratio, attention_gain)
            for _ in range(num_layers)
        )
        self.norm_out = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation_final = nn.Linear(width, 2 * width)
        self.patch_out = nn.Linear(width, latent_channels * patch_size**2)
        self._init_weights()

    def _init_weights(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.character_embedding.weight, std=0.02)
        for block in self._isa_blocks():
            block.interspatial_attention.init_weights()
            block.camera_attention.init_weights()
            block.reference_attention.init_weights()
        # Every block is the identity and the output zero at first.
        for linear in (self.modulation_out, self.modulation_final, self.patch_out):
            nn.init.zeros_(linear.weight)

    def _isa_blocks(self) -> list[ISABlock]:
        return cast(list[ISABlock], list(self.blocks))

    def _dtype(self) -> torch.dtype:
        return self.patch_in.weight.dtype

    def _grid_encoding(self, h: int, w: int, device: torch.device) -> Tensor:
        """ISPE (h*w, D) of the centres of an h x w grid over the image, at the near plane (Eq. 11)."""
        y = (torch.arange(h, device=device) + 0.5) * (2 / h) - 1
        x = (torch.arange(w, device=device) + 0.5) * (2 / w) - 1
        xy = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).flatten(0, 1)
        return self._encoding(F.pad(xy, (0, 1)))

    def _encoding(self, xyz: Tensor) -> Tensor:
        highest = 2 * math.pi / self.config["encoding_wavelength"]
        encoding = interspatial_encoding(xyz, self.width, self.config["num_attention_heads"], highest)
        return (encoding * self.config["encoding_scale"]).to(self._dtype())

    def _character_ids(self, inputs: ISAInputs) -> Tensor:
        b, characters = inputs.point_mask.shape[:2]
        ids = inputs.character_ids
        if ids is None:
            ids = torch.arange(characters, device=inputs.points.device).expand(b, -1)
        return ids % self.config["max_characters"]

    def _point_tokens(self, inputs: ISAInputs) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (B,L,M,D), scaled ISPE (B,L,M,D) and mask (B,L,M) of all characters and the null point."""
        frequencies = self.config["point_frequencies"]

        def encode(x: Tensor) -> Tensor:
            waves = sinusoids(x, frequencies, math.pi / 2, math.pi / 2 * 2 ** (frequencies - 1))
            return torch.cat([waves.flatten(-3), x], dim=-1)

        # Far outside the picture a place matters no more, and behind the camera it means nothing.
        poses_BCLFN3 = group_frames(inputs.points.float().clamp(-3, 3), 2, _POSES)
        poses_BLCNX = poses_BCLFN3.permute(0, 2, 1, 4, 3, 5).flatten(-2)
        seen_BLCNF = group_frames(inputs.point_visibility, 2, _POSES).permute(0, 2, 1, 4, 3)
        rest_BLCNX = encode(inputs.rest_points.float())[:, None].expand(-1, poses_BLCNX.shape[1], -1, -1, -1)
        features = torch.cat([encode(poses_BLCNX), rest_BLCNX, seen_BLCNF.float()], dim=-1).to(self._dtype())
        tokens_BLCND = self.point_out(F.silu(self.point_in(features)))

        # Identity: each point carries the reference's latent from where the reference shows it (Eq. 19).
        latents_BC = inputs.reference_latents.flatten(0, 1).float()
        where = inputs.reference_points.float().flatten(0, 1)[:, :, None]
        samples = F.grid_sample(latents_BC, where, padding_mode="border", align_corners=False)[..., 0]
        samples_BCNX = samples.transpose(1, 2).unflatten(0, inputs.reference_present.shape)
        shown_BCN1 = (inputs.reference_visibility & inputs.reference_present[..., None])[..., None]
        samples_BCNX = torch.cat([samples_BCNX * shown_BCN1, shown_BCN1], dim=-1).to(self._dtype())
        characters_BCD = self.character_embedding(self._character_ids(inputs))
        tokens_BLCND = tokens_BLCND + (self.point_reference(samples_BCNX) + characters_BCD[:, :, None])[:, None]

        xyz_BLCN3 = poses_BCLFN3.mean(dim=3).transpose(1, 2)
        xyz_BLCN3 = torch.cat([xyz_BLCN3[..., :2], (xyz_BLCN3[..., 2:] + 1) / 2], dim=-1)
        mask_BLCN = group_frames(inputs.point_mask, 2, _POSES).any(dim=3).transpose(1, 2)
        b, frames = tokens_BLCND.shape[:2]
        null = self.null_point.to(self._dtype()).expand(b, frames, 1, -1)
        tokens = torch.cat([tokens_BLCND.flatten(2, 3), null], dim=2)
        encoding = F.pad(self._encoding(xyz_BLCN3).flatten(2, 3), (0, 0, 0, 1))
        return tokens, encoding, F.pad(mask_BLCN.flatten(2, 3), (0, 1), value=True)

    def _condition_latents(self, inputs: ISAInputs) -> Tensor:
        """Reference and background channels (B,32,L,h,w).

        With several characters each latent pixel gets the reference of the character whose points lie nearest to it
        in that frame; with one this is the paper's concatenation (Eq. 20).
        """
        background = inputs.background_latents * inputs.background_present[:, None, None, None, None]
        frames, h, w = background.shape[2:]
        references = inputs.reference_latents * inputs.reference_present[..., None, None, None]
        if references.shape[1] == 1:
            reference = references[:, 0, :, None].expand(-1, -1, frames, -1, -1)
            return torch.cat([reference, background], dim=1)
        y = (torch.arange(h, device=background.device) + 0.5) * (2 / h) - 1
        x = (torch.arange(w, device=background.device) + 0.5) * (2 / w) - 1
        pixels = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).reshape(1, 1, h * w, 2)
        places = group_frames(inputs.points[..., :2].float().clamp(-3, 3), 2, _POSES).mean(dim=3)
        absent = ~group_frames(inputs.point_mask, 2, _POSES).any(dim=3)
        chosen = []
        for frame in range(frames):
            distance = torch.cdist(places[:, :, frame], pixels.expand(*places.shape[:2], -1, -1))
            distance = distance.masked_fill(absent[:, :, frame, :, None], torch.inf).amin(dim=2)
            nearest = F.one_hot(distance.argmin(dim=1), references.shape[1]).to(references.dtype)
            chosen.append(torch.einsum("bpc,bcxp->bxp", nearest, references.flatten(3)).unflatten(2, (h, w)))
        return torch.cat([torch.stack(chosen, dim=2), background], dim=1)

    def _camera_tokens(self, inputs: ISAInputs) -> Tensor:
        """Plucker images of the four frames of a latent, as tokens with ISPE (B,L,P',D) (Eq. 22)."""
        size = self.config["camera_patch_size"]
        rays_BLX = group_frames(inputs.plucker, 1, _POSES).flatten(2, 3)
        patches = rays_BLX.unflatten(4, (-1, size)).unflatten(3, (-1, size)).permute(0, 1, 3, 5, 2, 4, 6)
        rows, columns = patches.shape[2:4]
        tokens = self.camera_out(F.silu(self.camera_in(patches.flatten(4).flatten(2, 3).to(self._dtype()))))
        tokens = torch.where(inputs.camera_present[:, None, None, None], tokens, self.null_camera.to(tokens.dtype))
        return tokens + self._grid_encoding(rows, columns, tokens.device)

    def _reference_tokens(self, inputs: ISAInputs) -> tuple[Tensor, Tensor]:
        """Tokens of all characters' references and a null token (B,R+1,D), and their mask (B,R+1)."""
        b, characters = inputs.reference_present.shape
        if self.config["image_embed_dim"] is None:
            grid = self.config["reference_grid"]
            pooled = F.adaptive_avg_pool2d(inputs.reference_latents.flatten(0, 1), (grid, grid))
            tokens = self.reference_in(pooled.flatten(2).transpose(1, 2).to(self._dtype()))
            tokens = (tokens + self._grid_encoding(grid, grid, tokens.device)).unflatten(0, (b, characters))
        elif inputs.image_embeds is None:
            raise ValueError("this transformer cross-attends to CLIP tokens; give ISAInputs.image_embeds")
        else:
            tokens = self.reference_in(inputs.image_embeds.to(self._dtype()))
        tokens = tokens + self.character_embedding(self._character_ids(inputs))[:, :, None]
        mask = inputs.reference_present[:, :, None].expand(-1, -1, tokens.shape[2]).flatten(1, 2)
        null = self.null_reference.to(tokens.dtype).expand(b, 1, -1)
        return torch.cat([tokens.flatten(1, 2), null], dim=1), F.pad(mask, (0, 1), value=True)

    def prepare_conditions(self, inputs: ISAInputs) -> ISAConditions:
        """Everything that does not change over the denoising steps. Differentiable."""
        point_tokens, point_encoding, point_mask = self._point_tokens(inputs)
        camera_BLPD = self._camera_tokens(inputs)
        reference_BRD, reference_mask = self._reference_tokens(inputs)
        b, frames = camera_BLPD.shape[:2]
        camera = [block.camera_attention.keys_values(camera_BLPD.flatten(0, 1)) for block in self._isa_blocks()]
        reference = [block.reference_attention.keys_values(reference_BRD) for block in self._isa_blocks()]
        return ISAConditions(
            latents=self._condition_latents(inputs).to(self._dtype()),
            point_tokens=point_tokens,
            point_encoding=point_encoding,
            point_mask=point_mask,
            camera_keys=tuple(k.unflatten(0, (b, frames)) for k, _ in camera),
            camera_values=tuple(v.unflatten(0, (b, frames)) for _, v in camera),
            reference_keys=tuple(k for k, _ in reference),
            reference_values=tuple(v for _, v in reference),
            reference_mask=reference_mask,
        )

    def forward(
        self,
        hidden_states: Tensor,
        timestep: Tensor,
        conditions: ISAConditions | ISAInputs,
        positions: Tensor | None = None,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor]:
        """One evaluation of the flow.

        Args:
            hidden_states: (B,16,L,h,w) noisy normalised latents; h and w multiples of the patch sizes.
            timestep: (B,) 1000 t, from 1000 (noise) to 0 (video).
            conditions: of the same batch and latent frames; ``ISAInputs`` are prepared first.
            positions: (L,) places in time, latent 0 being the one that holds a single frame; 0, 1, ... by default.

        Returns:
            ``sample`` (B,16,L,h,w), ``e - x_0``.
        """
        if isinstance(conditions, ISAInputs):
            conditions = self.prepare_conditions(conditions)
        frames, h, w = hidden_states.shape[2:]
        size = self.config["patch_size"]
        if positions is None:
            positions = torch.arange(frames, device=hidden_states.device)

        x_BXLhw = torch.cat([hidden_states.to(self._dtype()), conditions.latents], dim=1)
        x_BLPX = x_BXLhw.unflatten(4, (-1, size)).unflatten(3, (-1, size)).permute(0, 2, 3, 5, 1, 4, 6).flatten(4)
        encoding_PD = self._grid_encoding(h // size, w // size, hidden_states.device)
        x_BLPD = self.patch_in(x_BLPX.flatten(2, 3)) + encoding_PD
        x_BLPD = x_BLPD + (positions == 0)[:, None, None] * self.first_frame.to(x_BLPD.dtype)
        y_BLMD = conditions.point_tokens

        time_BD = F.silu(self.time_embedding(timestep.float()))
        modulation = self.modulation_out(self.modulation_in(time_BD)).unflatten(1, (_MODULATIONS, -1))
        rotation = rotary(positions, self.config["attention_head_dim"])

        checkpoint: Any = self._gradient_checkpointing_func if self.gradient_checkpointing else None
        for index, block in enumerate(self._isa_blocks()):
            arguments = (x_BLPD, y_BLMD, modulation, encoding_PD, rotation, conditions, index)
            if checkpoint is not None and torch.is_grad_enabled():
                x_BLPD, y_BLMD = checkpoint(block, *arguments)
            else:
                x_BLPD, y_BLMD = block(*arguments)

        shift_BD, scale_BD = self.modulation_final(time_BD)[:, None, None].chunk(2, dim=-1)
        x_BLPX = self.patch_out(modulate(self.norm_out(x_BLPD), shift_BD, scale_BD))
        x_BLPX = x_BLPX.unflatten(3, (-1, size, size)).unflatten(2, (h // size, w // size))
        sample = x_BLPX.permute(0, 4, 1, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
        if self.config["prediction"] == "residual":
            background = conditions.latents[:, -self.config["latent_channels"] :]
            clean = background.float() + sample.float()
            # x_t = (1-t) x_0 + t e, so e - x_0 = (x_t - x_0) / t.
            t = (timestep.float() / 1000).clamp(min=_LEAST_TIME).view(-1, 1, 1, 1, 1)
            sample = ((hidden_states.float() - clean) / t).to(hidden_states.dtype)
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)
