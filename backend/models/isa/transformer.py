"""ISA-DiT: the diffusion transformer with symmetric interspatial attention (ISA paper, Sec. 5.2-5.3).

Shape letters: B batch, C characters, T = 1+4k frames, L = 1+k latent frames, N points/character, h w latent,
P video tokens of a latent frame, M = C*N + 1 point tokens of a latent frame, D width, A heads, E head width.
A suffix gives a tensor's axes: ``x_BLPD``.

Everything but the two temporal layers is independent per latent frame, so frames ride in the batch axis.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from ..group import ALONE, Part
from .blocks import MODULATIONS, ISABlock
from .inputs import ISAConditions, ISAInputs
from .layers import (
    Time,
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


class ISATransformer3DModel(ModelMixin, ConfigMixin):
    """Predicts the flow of video latents from noisy ones, bodies, references, camera, background and carried film.

    The output is ``e - x_0`` for ``x_t = (1-t) x_0 + t e``, the sign that diffusers' flow matching schedulers
    expect; the paper's v is its negative. With ``start="carried"`` the carried film's latents take the place of e.

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
        interspatial: ``isa``, or ``no_encoding``: the interspatial attention goes without ISPE (Sec. 6.4). Everything
            else stays, the position encoding that video tokens get where they enter included.
        prediction: ``flow``, or ``residual``: the layers give what the clean latents have over the carried film's (the
            background's where there is none), from which the flow follows. A small network then need not learn to
            pass noise and background through.
        start: what sampling starts from: ``noise``, or ``carried``: the carried film's latents (again the background's
            where there is none). That is a deterministic correction of the carried film, in one step as a rule.
    """

    _supports_gradient_checkpointing = True
    _no_split_modules = ["ISABlock"]
    _skip_layerwise_casting_patterns = ["norm", "modulation", "time_embedding"]

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
        interspatial: str = "isa",
        start: str = "noise",
    ) -> None:
        super().__init__()
        if interspatial not in ("isa", "no_encoding"):
            raise ValueError(f"interspatial is {interspatial!r}; choose 'isa' or 'no_encoding'")
        if prediction not in ("flow", "residual"):
            raise ValueError(f"prediction is {prediction!r}; choose 'flow' or 'residual'")
        if start not in ("noise", "carried"):
            raise ValueError(f"start is {start!r}; choose 'noise' or 'carried'")
        width = num_attention_heads * attention_head_dim
        self.width = width
        self.gradient_checkpointing = False
        self.patch_in = nn.Linear((4 * latent_channels + 1) * patch_size**2, width)
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
        self.modulation_out = nn.Linear(adaln_rank or width, MODULATIONS * width)

        self.blocks = nn.ModuleList(
            ISABlock(width, num_attention_heads, mlp_ratio, temporal_mlp_ratio, attention_gain, interspatial == "isa")
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
            block.init_weights()
        # Every block is the identity and the output zero at first.
        for linear in (self.modulation_out, self.modulation_final, self.patch_out):
            nn.init.zeros_(linear.weight)

    def _isa_blocks(self) -> list[ISABlock]:
        return cast(list[ISABlock], list(self.blocks))

    def _dtype(self) -> torch.dtype:
        return self.dtype

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

    def _condition_latents(self, inputs: ISAInputs, carried: Tensor) -> Tensor:
        """Reference, background, carried and known channels (B,49,L,h,w)."""
        background = inputs.background_latents * inputs.background_present[:, None, None, None, None]
        known = inputs.known[:, None] * inputs.carried_present[:, None, None, None, None]
        channels = (self._reference_latents(inputs), background, carried, known)
        return torch.cat([part.to(self._dtype()) for part in channels], dim=1)

    def _reference_latents(self, inputs: ISAInputs) -> Tensor:
        """Reference channels (B,16,L,h,w).

        With several characters each latent pixel gets the reference of the character whose points lie nearest to it
        in that frame; with one this is the paper's concatenation (Eq. 20).
        """
        frames, h, w = inputs.background_latents.shape[2:]
        references = inputs.reference_latents * inputs.reference_present[..., None, None, None]
        if references.shape[1] == 1:
            return references[:, 0, :, None].expand(-1, -1, frames, -1, -1)
        y = (torch.arange(h, device=references.device) + 0.5) * (2 / h) - 1
        x = (torch.arange(w, device=references.device) + 0.5) * (2 / w) - 1
        pixels = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1).reshape(1, 1, h * w, 2)
        places = group_frames(inputs.points[..., :2].float().clamp(-3, 3), 2, _POSES).mean(dim=3)
        absent = ~group_frames(inputs.point_mask, 2, _POSES).any(dim=3)
        chosen = []
        for frame in range(frames):
            distance = torch.cdist(places[:, :, frame], pixels.expand(*places.shape[:2], -1, -1))
            distance = distance.masked_fill(absent[:, :, frame, :, None], torch.inf).amin(dim=2)
            nearest = F.one_hot(distance.argmin(dim=1), references.shape[1]).to(references.dtype)
            chosen.append(torch.einsum("bpc,bcxp->bxp", nearest, references.flatten(3)).unflatten(2, (h, w)))
        return torch.stack(chosen, dim=2)

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

    def _picture_conditions(self, inputs: ISAInputs) -> dict[str, Any]:
        """The fields of ``ISAConditions`` that no surface points are needed for."""
        camera_BLPD = self._camera_tokens(inputs)
        reference_BRD, reference_mask = self._reference_tokens(inputs)
        b, frames = camera_BLPD.shape[:2]
        carried = inputs.base()
        blocks = self._isa_blocks()
        keys = [block(camera_BLPD.flatten(0, 1), reference_BRD, method="keys_values") for block in blocks]
        camera, reference = [of_camera for of_camera, _ in keys], [of_reference for _, of_reference in keys]
        return {
            "latents": self._condition_latents(inputs, carried),
            "carried": carried,
            "camera_keys": tuple(k.unflatten(0, (b, frames)) for k, _ in camera),
            "camera_values": tuple(v.unflatten(0, (b, frames)) for _, v in camera),
            "reference_keys": tuple(k for k, _ in reference),
            "reference_values": tuple(v for _, v in reference),
            "reference_mask": reference_mask,
        }

    def prepare_conditions(self, inputs: ISAInputs) -> ISAConditions:
        """Everything that does not change over the denoising steps. Differentiable."""
        point_tokens, point_encoding, point_mask = self._point_tokens(inputs)
        return ISAConditions(
            point_tokens=point_tokens,
            point_encoding=point_encoding,
            point_mask=point_mask,
            **self._picture_conditions(inputs),
        )

    def forward(
        self,
        hidden_states: Tensor | None,
        timestep: Tensor | None,
        conditions: ISAConditions | ISAInputs,
        part: Part | None = None,
        residual: bool = False,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[Tensor] | ISAConditions:
        """One evaluation of the flow; without latents only the conditions are prepared, and are what it gives.

        Args:
            hidden_states: (B,16,L,h,w) noisy normalised latents; h and w multiples of the patch sizes.
            timestep: (B,) 1000 t, from 1000 (noise, or the carried film) to 0 (video).
            conditions: of the same batch and latent frames; ``ISAInputs`` are prepared first.
            part: of all latent frames, what ``hidden_states`` and ``conditions`` are where members of a group share
                them out; all by default.
            residual: of ``prediction="residual"``, give what the layers give, and not the flow that follows from it.

        Returns:
            ``sample`` (B,16,L,h,w), ``e - x_0``; with ``residual`` the clean latents less the conditions' ``carried``.
        """
        if isinstance(conditions, ISAInputs):
            conditions = self.prepare_conditions(conditions)
        if hidden_states is None or timestep is None:
            return conditions
        x_BLPD, encoding_PD, time = self._video_tokens(hidden_states, conditions.latents, part)
        y_BLMD = conditions.point_tokens
        time_BD = F.silu(self.time_embedding(timestep.float()))
        modulation = self.modulation_out(self.modulation_in(time_BD)).unflatten(1, (MODULATIONS, -1))

        checkpoint: Any = self._gradient_checkpointing_func if self.gradient_checkpointing else None
        for index, block in enumerate(self._isa_blocks()):
            arguments = (x_BLPD, y_BLMD, modulation, encoding_PD, time, conditions, index)
            if checkpoint is not None and torch.is_grad_enabled():
                x_BLPD, y_BLMD = checkpoint(block, *arguments)
            else:
                x_BLPD, y_BLMD = block(*arguments)

        sample = self._sample(x_BLPD, time_BD, hidden_states, timestep, None if residual else conditions.carried)
        return Transformer2DModelOutput(sample=sample) if return_dict else (sample,)

    def _video_tokens(
        self, hidden_states: Tensor, condition_latents: Tensor, part: Part | None
    ) -> tuple[Tensor, Tensor, Time]:
        """Video tokens (B,L,P,D), their ISPE (P,D) and their latent frames among all."""
        frames, h, w = hidden_states.shape[2:]
        size = self.config["patch_size"]
        part = part or Part(ALONE, frames)
        positions = torch.arange(part.length, device=hidden_states.device)
        encoding_PD = self._grid_encoding(h // size, w // size, hidden_states.device)
        x_BXLhw = torch.cat([hidden_states.to(self._dtype()), condition_latents], dim=1)
        x_BLPD = self.patch_in(self._patches(x_BXLhw)) + encoding_PD
        x_BLPD = x_BLPD + (positions[part.place] == 0)[:, None, None] * self.first_frame.to(x_BLPD.dtype)
        return x_BLPD, encoding_PD, Time(rotary(positions, self.config["attention_head_dim"]), part)

    def _patches(self, x_BXLhw: Tensor) -> Tensor:
        """Latents by video token: (B,L,P, channels * patch area)."""
        size = self.config["patch_size"]
        x_BLPX = x_BXLhw.unflatten(4, (-1, size)).unflatten(3, (-1, size)).permute(0, 2, 3, 5, 1, 4, 6).flatten(4)
        return x_BLPX.flatten(2, 3)

    def _sample(
        self, x_BLPD: Tensor, time_BD: Tensor, hidden_states: Tensor, timestep: Tensor, carried: Tensor | None
    ) -> Tensor:
        """The flow (B,16,L,h,w) from the last block's video tokens; without ``carried`` what the layers give."""
        size = self.config["patch_size"]
        h, w = hidden_states.shape[3:]
        shift_BD, scale_BD = self.modulation_final(time_BD)[:, None, None].chunk(2, dim=-1)
        x_BLPX = self.patch_out(modulate(self.norm_out(x_BLPD), shift_BD, scale_BD))
        x_BLPX = x_BLPX.unflatten(3, (-1, size, size)).unflatten(2, (h // size, w // size))
        sample = x_BLPX.permute(0, 4, 1, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)
        if self.config["prediction"] == "residual" and carried is not None:
            sample = self.flow_to(hidden_states, carried + sample.float(), timestep / 1000)
        return sample

    @staticmethod
    def flow_to(x: Tensor, clean: Tensor, times: Tensor) -> Tensor:
        """The flow (B,16,L,h,w) from latents x at times (B,) or () in [0,1] that leads to ``clean``."""
        # x_t = (1-t) x_0 + t e, so e - x_0 = (x_t - x_0) / t.
        t = times.float().clamp(min=_LEAST_TIME).view(-1, 1, 1, 1, 1)
        return ((x.float() - clean) / t).to(x.dtype)


def widened(weights: Mapping[str, Tensor], model: ISATransformer3DModel) -> dict[str, Tensor]:
    """Weights of a transformer that knew no carried film, for ``model`` of the same configuration but that.

    It may also have had video tokens of one latent pixel where ``model`` has larger ones; these see the mean of theirs.
    What it gives is nothing, so that it begins as the carried film itself, and what it sees of the carried film it has
    to learn. Weights that fit as they are come back so.
    """
    found = dict(weights)
    channels = model.config["latent_channels"]
    area, area_before = (len(bias) // channels for bias in (model.patch_out.bias, found["patch_out.bias"]))
    if area_before == 1 < area:
        found["patch_in.weight"] = found["patch_in.weight"].repeat_interleave(area, dim=1) / area
    missing = model.patch_in.in_features - found["patch_in.weight"].shape[1]
    if missing > 0:
        found["patch_in.weight"] = F.pad(found["patch_in.weight"], (0, missing))
    if missing > 0 or area != area_before:
        for name in ("patch_out.weight", "patch_out.bias"):
            found[name] = torch.zeros_like(model.state_dict()[name])
    return found
