"""ISA-DiT: videos as corrections of the carried film (``raster.carry``).

What the VAE decodes is only the difference that the network makes: film = carried + D(z) - D(E(carried)), so that the
VAE blurs nothing but the correction, and where the network changes nothing the carried film comes out bit for bit: one
whose weights can change nothing is not even read. A model whose folder has a head corrects it at full resolution
besides, where people wear more than their bodies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ...catalogue.models import ModelSpec
from ...media import StreamedFilm, background_frames, decode_image
from ...raster.carry import CarriedFilm, Carrier
from ...shot import Reference, Shot
from ..draft import drawn_film
from ..family import Family, Network, Plan
from ..frames import frames_to_tensor, tensor_to_frames
from .build import image_embed_dim, load_head, load_image_encoder, load_transformer, load_vae, new_scheduler
from .conditions import (
    clip_tokens,
    crop_picture,
    latent_known,
    make_inputs,
    pad_frames,
    point_subset,
    reference_view,
    shot_geometry,
    stack_points,
)
from .head import correct
from .inputs import ISAInputs
from .pipeline import ISAPipeline
from .plan import corrects, make_plan, window_latents
from .vae import AutoencoderKLISA

if TYPE_CHECKING:
    from ..generation import Generation

_CHUNK = 8
"""Latent frames that the VAE codes at once: 32 frames."""


@dataclass(frozen=True, eq=False)
class Carried:
    """The carried film of a shot, as networks see it.

    Attributes:
        frames: (T,H,W,3) uint8 at the size of the result, the last one repeated up to ``Plan.model_frames``.
        model: (T,h,w,3) uint8 at the size that the model works at; known: (T,h,w), see ``CarriedFilm``.
        maps: all that is told of ``model``, where there is a head.
    """

    frames: np.ndarray
    model: np.ndarray
    known: np.ndarray
    maps: CarriedFilm | None


@dataclass(frozen=True, eq=False)
class Conditions:
    """What is denoised with; ``inputs`` is None where nothing is, and ``carried`` a film alone without any network."""

    carried: Carried | StreamedFilm
    inputs: ISAInputs | None


class ISAFamily(Family):
    """See the module.

    Args:
        blind: neither the carried film nor the networks know which spots the references show: as if they had seen all.
    """

    shared = True

    def __init__(self, blind: bool = False) -> None:
        self.blind = blind

    def plan(self, spec: ModelSpec, shot: Shot) -> Plan:
        """See ``Family.plan``."""
        return make_plan(spec, shot)

    def networks(self, spec: ModelSpec, shot: Shot, dtype: torch.dtype) -> Mapping[str, Network]:
        """See ``Family.networks``."""
        found = {}
        if (spec.folder / "head" / "config.json").exists():
            found["head"] = Network(lambda: load_head(spec), stages=("decoding",))
        if not corrects(spec):
            return found
        found["vae"] = Network(lambda: load_vae(spec, dtype))
        found["transformer"] = Network(lambda: load_transformer(spec, dtype))
        if (width := image_embed_dim(spec)) is not None:
            found["image_encoder"] = Network(lambda: load_image_encoder(spec, width, dtype))
        return found

    def encode(self, run: Generation, prepared: Any) -> Conditions:
        """See ``Family.encode``."""
        if not run.networks:
            return Conditions(drawn_film(run, self.blind), None)
        run.report("encoding", 0, len(run.shot.characters) + 3)
        carried = carry(run, self.blind)
        return Conditions(carried, condition(run, carried) if "transformer" in run.networks else None)

    def sample(self, run: Generation, conditions: Conditions) -> Tensor | None:
        """Normalised latents (1,16,L,h,w); None where nothing is corrected."""
        if conditions.inputs is None or isinstance(conditions.carried, StreamedFilm):
            run.metadata["start"] = "carried"
            return None
        middle = conditions.carried.frames[run.plan.frames // 2]
        vae = run.networks["vae"]
        window, overlap = window_latents(run.spec)
        pipeline = ISAPipeline(vae=vae, transformer=run.networks["transformer"], scheduler=new_scheduler(run.spec))
        run.metadata["start"] = pipeline.transformer.config["start"]
        run.report("denoising", 0, run.steps, middle)

        def still(clean: Tensor) -> np.ndarray:
            at = clean.shape[2] // 2
            z = vae.denormalize(clean[:, :, at : at + 1]).to(run.dtype)
            return tensor_to_frames(vae.decode(z).sample[0])[0]

        return pipeline(
            conditions.inputs,
            num_inference_steps=run.steps,
            guidance_scale=run.guidance,
            generator=run.generator(),
            device=run.device,
            window=window,
            overlap=overlap,
            on_step=lambda step, steps, clean: run.stepped(
                step, steps, lambda: middle if steps == 1 else still(clean), by_vae=steps > 1
            ),
            check=run.check,
            group=run.group,
            output_type="latent",
        ).latents

    def decode(self, run: Generation, conditions: Conditions, sampled: Tensor | None) -> np.ndarray | StreamedFilm:
        """The carried film with the differences that the networks make."""
        if isinstance(conditions.carried, StreamedFilm):
            return conditions.carried
        made = conditions.carried.frames
        if sampled is not None and conditions.inputs is not None:
            made = self._corrected(run, made, sampled, conditions.inputs.carried_latents)
        if (maps := conditions.carried.maps) is not None:
            made = correct(run.networks["head"], made, maps, run.shot, run.device, run.check)
        return made

    def _corrected(self, run: Generation, film: np.ndarray, sampled: Tensor, carried: Tensor) -> np.ndarray:
        """The carried film with the difference between two latents, in chunks."""
        vae = run.networks["vae"]
        # Apart, not as a batch of two: what is alike in both has to come out alike to the last bit.
        pair = [vae.denormalize(z.to(run.device).float()).to(run.dtype) for z in (sampled, carried)]
        parts, start, count = [], 0, -(-sampled.shape[2] // _CHUNK)
        run.report("decoding", 0, count)
        for made, given in zip(*(vae.decode_chunks(z, _CHUNK) for z in pair), strict=True):
            change = (made.float() - given.float())[0].transpose(0, 1) * 127.5
            run.check_finite(change, "The network vae")
            if change.shape[2:] != film.shape[1:3]:
                change = F.interpolate(change, film.shape[1:3], mode="bilinear", antialias=True, align_corners=False)
            frames = torch.from_numpy(film[start : start + len(change)]).float() + change.permute(0, 2, 3, 1).cpu()
            parts.append(frames.round().clamp(0, 255).to(torch.uint8).numpy())
            start += len(change)
            run.report("decoding", len(parts), count)
        return np.concatenate(parts)

    def autoencoder(
        self, spec: ModelSpec, device: torch.device, dtype: torch.dtype
    ) -> Callable[[np.ndarray], np.ndarray]:
        """See ``Family.autoencoder``; films of 1 + 4k frames."""
        vae: Any = load_vae(spec, dtype)
        vae.to(device)

        @torch.no_grad()
        def code(film: np.ndarray) -> np.ndarray:
            z = vae.denormalize(encode_frames(vae, frames_to_tensor(film)[None], device, dtype).to(device))
            return np.concatenate([tensor_to_frames(part[0]) for part in vae.decode_chunks(z.to(dtype), _CHUNK)])

        return code


FAMILY = ISAFamily()


def carry(run: Generation, blind: bool = False) -> Carried:
    """Draw a shot's carried film at the size of the result and of the model. Raises MediaError."""
    plan = run.plan
    carrier = Carrier(run.shot, plan.width, plan.height, run.device, blind)
    run.notes.extend(carrier.notes)
    same = plan.model_size == (plan.width, plan.height)
    model = carrier if same else Carrier(run.shot, *plan.model_size, run.device, blind)

    def check(*_: int) -> None:
        run.check()

    maps = model.film(check) if "head" in run.networks else None
    seen, known = model.maps("frames", "known", on_frames=check) if maps is None else (maps.frames, maps.known)
    film = seen if same else carrier.maps("frames", on_frames=check)[0]
    return Carried(pad_frames(film, plan.model_frames), seen, known, maps)


def condition(run: Generation, carried: Carried) -> ISAInputs:
    """A shot's conditions as a batch of one. Raises MediaError."""
    shot, plan, vae = run.shot, run.plan, run.networks["vae"]
    width, height = plan.model_size
    frames, clip = plan.model_frames, shot.clip
    size = (height // vae.spatial_factor, width // vae.spatial_factor)
    limit = int(run.spec.limits["points"])
    clouds = [(c.points, c.rest_points, c.visibility) for c in shot.characters]
    points, rest, visibility, mask = stack_points(clouds, limit)
    geometry = shot_geometry(
        pad_frames(points, frames, axis=1),
        rest,
        pad_frames(visibility, frames, axis=1),
        pad_frames(clip.viewmats, frames),
        pad_frames(clip.Ks, frames),
        clip.width,
        clip.height,
        size,
        mask,
    )
    parts = len(shot.characters) + 3
    encoder = run.networks.get("image_encoder")
    references, embeds = [], []
    for i, character in enumerate(shot.characters):
        run.report("encoding", i + 1, parts)
        reference = character.reference
        if reference is None:
            references.append(None)
            embeds.append(None)
            continue
        crop, *seen = _crop(run, reference, f"characters[{i}].reference.image")
        references.append((encode_frames(vae, crop[None, :, None], run.device, run.dtype)[0, :, 0], *seen))
        embeds.append(None if encoder is None else clip_tokens(encoder, crop[None], run.device, run.dtype)[0])
    run.report("encoding", parts - 2, parts)
    behind = background_frames(shot, width, height)
    background = None if behind is None else _encode_film(run, behind)
    run.report("encoding", parts - 1, parts)
    film = _encode_film(run, carried.model)
    known = latent_known(pad_frames(carried.known, frames), size)
    run.report("encoding", parts, parts)
    image_embeds = None
    if encoder is not None:
        sides = encoder.config
        empty = torch.zeros(1 + (sides.image_size // sides.patch_size) ** 2, sides.hidden_size)
        image_embeds = torch.stack([empty if embed is None else embed for embed in embeds])
    return make_inputs(geometry, references, background, image_embeds=image_embeds, carried=(film, known))


def _crop(run: Generation, reference: Reference, field: str) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """A reference picture (3,H,W) in [-1, 1] at the model's size, its points (N,2), and which of them it shows (N,)."""
    picture = decode_image(reference.image, field)
    limit = int(run.spec.limits["points"])
    chosen = point_subset(reference.points.shape[0], limit)
    view = reference_view(
        reference.points[chosen],
        reference.viewmat,
        reference.K,
        None if reference.visibility is None else reference.visibility[chosen],
        (picture.shape[1], picture.shape[0]),
        run.shot.clip.width / run.shot.clip.height,
    )
    pad = limit - len(chosen)
    crop = crop_picture(picture, view.box, *run.plan.model_size)
    return crop, np.pad(view.points, ((0, pad), (0, 0))), np.pad(view.visible, (0, pad))


def _encode_film(run: Generation, film: np.ndarray) -> Tensor:
    """Normalised latents (16,L,h,w) of a film (T,H,W,3) uint8, its last frame held as long as the model makes."""
    frames = frames_to_tensor(pad_frames(film, run.plan.model_frames))[None]
    return encode_frames(run.networks["vae"], frames, run.device, run.dtype)[0]


def encode_frames(vae: AutoencoderKLISA, frames: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """(1,3,T,H,W) in [-1, 1] -> normalised latents (1,16,L,h,w), float32 on the CPU."""
    posterior = vae.encode(frames.to(device, dtype), chunk=_CHUNK, return_dict=False)[0]
    return vae.normalize(posterior.mode().float()).cpu()
