"""What conditions an ISA-DiT, as tensors: before the network has seen them, and after.

Shape letters: B batch, C characters, T = 1+4k frames, L = 1+k latent frames, N points/character, h w latent,
P video tokens of a latent frame, M = C*N + 1 point tokens of a latent frame (the last one is a learned null point),
D width, A heads, E head width, R reference tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

_FRAME_AXES = {"points": 2, "point_mask": 2, "point_visibility": 2, "plucker": 1}
_LATENT_AXES = {"background_latents": 2, "carried_latents": 2, "control_latents": 2, "known": 1}
"""Axis of frames T, and of latent frames L, of the fields of ``ISAInputs`` that have one."""


@dataclass(frozen=True, eq=False)
class ISAInputs:
    """Conditions of a batch of clips. ``conditions.shot_geometry`` makes them; training and inference share it.

    Attributes:
        points: (B,C,T,N,3) NDC: x right, y down, z from -1 (near) to 1 (far).
        rest_points: (B,C,N,3) metres, the same spots on the rest pose.
        point_mask: (B,C,T,N) bool, False for padding, for absent characters and behind the camera.
        point_visibility: (B,C,T,N) 1 seen, -1 hidden, 0 unknown.
        reference_latents: (B,C,16,h,w) normalised latents of each character's reference picture.
        reference_points: (B,C,N,2) NDC of the points in that picture.
        reference_visibility: (B,C,N) bool, points that the picture shows.
        reference_present: (B,C) bool, False where there is no reference.
        plucker: (B,T,6,h,w) at latent resolution; moments in metres about the shot's origin.
        camera_present: (B,) bool.
        background_latents: (B,16,L,h,w) normalised; ignored where absent.
        background_present: (B,) bool.
        carried_latents: (B,16,L,h,w) float32, normalised latents of the carried film (``raster.carry``); where that is
            absent the background's stand in for it.
        known: (B,L,h,w) in [0,1], the carried film's ``known``, averaged over each latent pixel and latent frame.
        carried_present: (B,) bool.
        image_embeds: (B,C,R,image_embed_dim) CLIP tokens of each reference, for models that use them.
        control_latents: (B,16,L,h,w) normalised latents of a rendering of the bodies (normal maps, for instance), for
            networks with a control branch; zeros where there is none.
        character_ids: (B,C) long, rows of the character embedding; 0, 1, ... when None.
    """

    points: Tensor
    rest_points: Tensor
    point_mask: Tensor
    point_visibility: Tensor
    reference_latents: Tensor
    reference_points: Tensor
    reference_visibility: Tensor
    reference_present: Tensor
    plucker: Tensor
    camera_present: Tensor
    background_latents: Tensor
    background_present: Tensor
    carried_latents: Tensor
    known: Tensor
    carried_present: Tensor
    image_embeds: Tensor | None = None
    character_ids: Tensor | None = None
    control_latents: Tensor | None = None

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> ISAInputs:
        """Move everything; ``dtype`` changes latents and embeddings only: not coordinates, nor the carried latents,
        from which the result is counted."""
        cast = {"reference_latents", "background_latents", "image_embeds", "control_latents"}
        return _map(self, lambda name, x: x.to(device=device, dtype=dtype if name in cast else None))

    def drop(
        self,
        points: Tensor | bool = False,
        reference: Tensor | bool = False,
        camera: Tensor | bool = False,
        background: Tensor | bool = False,
        carried: Tensor | bool = False,
    ) -> ISAInputs:
        """Remove conditions, per clip: conditioning dropout in training, the unconditional half in guidance.

        Each argument is a bool or a bool tensor (B,), True to remove. A rendering of the bodies goes with their points.
        """

        def keep(flag: Tensor | bool, mask: Tensor) -> Tensor:
            kept = ~torch.as_tensor(flag, device=mask.device).expand(mask.shape[0])
            return mask & kept.view(-1, *(1,) * (mask.ndim - 1))

        control = self.control_latents
        if control is not None:
            control = control * keep(points, torch.ones(len(control), dtype=torch.bool)).to(control).view(
                -1, 1, 1, 1, 1
            )
        return replace(
            self,
            control_latents=control,
            point_mask=keep(points, self.point_mask),
            reference_present=keep(reference, self.reference_present),
            camera_present=keep(camera, self.camera_present),
            background_present=keep(background, self.background_present),
            carried_present=keep(carried, self.carried_present),
        )

    def base(self) -> Tensor:
        """What a residual prediction counts from (B,16,L,h,w) float32, see ``ISAConditions.carried``."""
        background = self.background_latents * self.background_present[:, None, None, None, None]
        present = self.carried_present[:, None, None, None, None]
        return torch.where(present, self.carried_latents.float(), background.float())

    def frames(self, latents: Sequence[int]) -> ISAInputs:
        """The same conditions for some latent frames only, in increasing order."""
        frames = [frame for at in latents for frame in (range(4 * at - 3, 4 * at + 1) if at else (0,))]

        def chosen(name: str, x: Tensor) -> Tensor:
            if name in _FRAME_AXES:
                return x.index_select(_FRAME_AXES[name], torch.tensor(frames, device=x.device))
            if name in _LATENT_AXES:
                return x.index_select(_LATENT_AXES[name], torch.tensor(latents, device=x.device))
            return x

        return _map(self, chosen)

    @staticmethod
    def cat(parts: Sequence[ISAInputs]) -> ISAInputs:
        """Concatenate along the batch."""
        return _cat(parts)


@dataclass(frozen=True, eq=False)
class ISAConditions:
    """What the network made of ``ISAInputs``: constant over the denoising steps, so computed once a shot.

    Attributes:
        latents: (B,49,L,h,w), reference, background, carried film and how far it is known, concatenated to the noisy
            latent's channels.
        carried: (B,16,L,h,w) float32, what a residual prediction counts from: the carried film's latents, the
            background's where there is none, zeros where there is neither.
        point_tokens: (B,L,M,D), identity included.
        point_encoding: (B,L,M,D) ISPE, scaled.
        point_mask: (B,L,M) bool.
        camera_keys, camera_values: per block (B,L,A,P',E).
        reference_keys, reference_values: per block (B,A,R+1,E).
        reference_mask: (B,R+1) bool; the last token is a learned null, always there.
    """

    latents: Tensor
    carried: Tensor
    point_tokens: Tensor
    point_encoding: Tensor
    point_mask: Tensor
    camera_keys: tuple[Tensor, ...]
    camera_values: tuple[Tensor, ...]
    reference_keys: tuple[Tensor, ...]
    reference_values: tuple[Tensor, ...]
    reference_mask: Tensor

    def frames(self, index: Tensor) -> ISAConditions:
        """The same conditions for the latent frames ``index`` (long) only."""
        return replace(
            self,
            latents=self.latents.index_select(2, index),
            carried=self.carried.index_select(2, index),
            point_tokens=self.point_tokens.index_select(1, index),
            point_encoding=self.point_encoding.index_select(1, index),
            point_mask=self.point_mask.index_select(1, index),
            camera_keys=tuple(k.index_select(1, index) for k in self.camera_keys),
            camera_values=tuple(v.index_select(1, index) for v in self.camera_values),
        )


def _map(item, function):
    changes = {}
    for entry in fields(item):
        value = getattr(item, entry.name)
        if isinstance(value, Tensor):
            changes[entry.name] = function(entry.name, value)
    return replace(item, **changes)


def _cat(parts):
    first = parts[0]
    changes = {}
    for entry in fields(first):
        values = [getattr(part, entry.name) for part in parts]
        if isinstance(values[0], Tensor):
            changes[entry.name] = torch.cat(values)
    return replace(first, **changes)
