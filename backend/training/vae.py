"""Train the video VAE on synthetic films (ISA paper, Sec. 4).

Shape letters: B batch, T frames, L latent frames, H W image, h w latent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..catalogue.models import ModelSpec
from ..models.isa.build import new_vae
from ..models.isa.vae import AutoencoderKLISA
from ..models.isa.vae_layers import to_blocks
from .adversary import PatchDiscriminator, adaptive_weight, fooling_loss, judging_loss
from .clips import Augmentation, Films, to_model, to_pixels
from .errors import TrainingError
from .launch import autocast
from .loop import Turn
from .perceptual import PerceptualLoss

__all__ = ["Films", "VAELossConfig", "VAEObjective", "VAEStartConfig", "to_model", "to_pixels"]


@dataclass(frozen=True)
class VAELossConfig:
    """Weights of the VAE's losses, and the clips that they see. A weight of 0 leaves its term out and costs nothing.

    Attributes:
        l1, l2: of the pixels' error.
        gradient: of the error of differences between neighbouring pixels, at full and half size: keeps edges.
        perceptual: of the distance by fixed filters, see ``perceptual.PerceptualLoss``.
        kl: of the Kullback-Leibler divergence from a unit normal, per latent number.
        adversary2d, adversary3d: of the discriminators of frames and of clips, see ``adversary``.
        image_decoding: of the image-decoding regularisation: an auxiliary image decoder makes every frame from its
            own quarter of the latent's channels; L1, and ``perceptual`` times the perceptual distance.
        latent_noise: largest standard deviation, relative to the latents' own, of noise that the decoder learns to
            put up with, so that it mends the small errors of a diffusion model; each clip gets a share of it.
        frames: lengths of the clips, one a step in turn.
        adversary_start: step at which the adversaries begin to learn and to count.
        adversary_ramp: steps over which their weights then grow from 0.
        adversary_limit: largest factor by which the adversaries' terms are scaled so that, before their weights, they
            pull at the decoder's last layer as hard as the other terms of the picture do; 0 does not scale them.
        adversary_frames: frames of each clip, drawn at random, that the 2D adversary sees; 0 for all.
        adversary2d_widths, adversary3d_widths: channels of the discriminators' layers.
        image_widths: channels of the auxiliary decoder's levels, from the frames inwards; none takes the VAE's own.
        structured_motion, motion_reach, dynamic_speed, crop, figure_crops: see ``clips.Augmentation``.
        train_shortcut: train the VAE's linear shortcut as well, where it has one. Principal components are its best
            value already, and steps of a size that suits the other layers only spoil them.
        bf16: train in bfloat16 autocast.
    """

    l1: float = 1.0
    l2: float = 1.0
    gradient: float = 1.0
    perceptual: float = 0.0
    kl: float = 3e-4
    adversary2d: float = 0.0
    adversary3d: float = 0.0
    image_decoding: float = 0.0
    latent_noise: float = 0.0
    frames: tuple[int, ...] = (5, 9)
    adversary_start: int = 0
    adversary_ramp: int = 0
    adversary_limit: float = 100.0
    adversary_frames: int = 4
    adversary2d_widths: tuple[int, ...] = (32, 64, 128)
    adversary3d_widths: tuple[int, ...] = (16, 32, 64)
    image_widths: tuple[int, ...] = ()
    structured_motion: float = 0.0
    motion_reach: float = 0.15
    dynamic_speed: float = 0.0
    crop: int = 0
    figure_crops: float = 0.8
    train_shortcut: bool = False
    bf16: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and value < 0:
                raise TrainingError(f"[vae_loss] {field.name} = {value} must be 0 or more")
        for name in ("structured_motion", "motion_reach", "dynamic_speed", "figure_crops"):
            if getattr(self, name) > 1:
                raise TrainingError(f"[vae_loss] {name} = {getattr(self, name)} is a share; give 0 to 1")
        for name in ("frames", "adversary2d_widths", "adversary3d_widths"):
            if not getattr(self, name):
                raise TrainingError(f"[vae_loss] {name} is empty; give at least one number")

    def adversary_share(self, step: int) -> float:
        """What the adversaries' weights are multiplied by at a step: 0 before their start, 1 after their ramp."""
        since = step - self.adversary_start
        return min(1.0, (since + 1) / max(self.adversary_ramp, 1)) if since >= 0 else 0.0

    @property
    def augmentation(self) -> Augmentation:
        """What is done to the clips."""
        return Augmentation(self.structured_motion, self.motion_reach, self.dynamic_speed, self.crop, self.figure_crops)


def gradient_loss(error: Tensor) -> Tensor:
    """Mean absolute difference between neighbours of an error image (B,3,T,H,W), at full and half size."""
    total = error.new_zeros(())
    for _ in range(2):
        total = total + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
        error = F.avg_pool3d(error, (1, 2, 2))
    return total / 2


class VAEObjective:
    """What training a VAE minimises (Sec. 4.2, Eq. 1-2); deterministic given the step's generator.

    Attributes:
        companions: the auxiliary image decoder as ``image_decoder``, where its term counts; trained with the VAE.
        rivals: the discriminators by the names of their weights, where they count; each minimises its own loss.
    """

    def __init__(
        self, films: Films, config: VAELossConfig, batch: int, device: torch.device, vae: AutoencoderKLISA
    ) -> None:
        """Make the auxiliary networks.

        Args:
            batch: clips per step.
            vae: the network to be trained, for the sizes of the auxiliary ones.

        Raises:
            TrainingError: when the films are too short for a clip, or a length or width does not suit ``vae``.
        """
        self.films, self.config, self.count, self.device = films, config, batch, device
        for length in config.frames:
            if length < 1 or (length - 1) % vae.temporal_factor:
                raise TrainingError(f"[vae_loss] frames has {length}; give 1 + multiples of {vae.temporal_factor}")
            if length > films.longest:
                raise TrainingError(
                    f"[vae_loss] frames has {length}, but the longest shots have {films.longest} frames; "
                    "give fewer, or make longer shots ([data] or [long_data] frames)"
                )
        if config.crop % vae.spatial_factor:
            raise TrainingError(f"[vae_loss] crop = {config.crop}; give a multiple of {vae.spatial_factor}, or 0")
        smallest = min(min(video.shape[2:4]) for video in films.video)
        if config.crop > smallest:
            raise TrainingError(
                f"[vae_loss] crop = {config.crop}, but the shots are {smallest} pixels; give at most that"
            )
        self.companions: dict[str, nn.Module] = {}
        self.rivals: dict[str, nn.Module] = {}
        self._perceptual = PerceptualLoss().to(device) if config.perceptual else None
        # Weights of their own numbers: the same in every process, whatever was drawn before.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if config.image_decoding:
                self.companions["image_decoder"] = _image_decoder(vae, config.image_widths).to(device)
            channels = vae.config["out_channels"]
            if config.adversary2d:
                self.rivals["adversary2d"] = PatchDiscriminator(2, config.adversary2d_widths, channels).to(device)
            if config.adversary3d:
                self.rivals["adversary3d"] = PatchDiscriminator(3, config.adversary3d_widths, channels).to(device)

    def __call__(
        self, model: nn.Module, step: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, float | Tensor]] | Iterator[Turn]:
        """The losses of a step, as ``Loop.run`` takes them.

        Returns:
            The loss and its figures; or, where there are rivals, an iterator of (player, loss, figures), the model's
            first. Figures: ``psnr`` in dB, ``kl``, ``l1`` and each further term before its weight;
            ``adversary*_weight`` the adaptive factor and ``adversary*_accuracy`` the share of patches that the
            discriminator judges rightly (0.5 when it cannot tell decoded from real).
        """
        assert isinstance(model, AutoencoderKLISA)
        turns = self._turns(model, step, generator)
        if self.rivals:
            return turns
        _, loss, figures = next(turns)
        return loss, dict(figures)

    def _turns(self, model: AutoencoderKLISA, step: int, generator: torch.Generator) -> Iterator[Turn]:
        config = self.config
        length = config.frames[step % len(config.frames)]
        x = self.films.batch(self.count, length, generator, config.augmentation).to(self.device)
        with autocast(self.device, config.bf16):
            posterior = model.encode(x, return_dict=False)[0]
            mean, deviation = posterior.mean.float(), posterior.std.float()
            noise = torch.randn(mean.shape, generator=generator).to(self.device)
            latents = mean + deviation * noise
            decoded = model.decode(self._disturbed(latents, mean, generator), return_dict=False)[0]
        decoded = decoded.float()
        error = decoded - x
        l1, squared = error.abs().mean(), error.square().mean()
        kl = 0.5 * (mean.square() + deviation.square() - 1 - 2 * deviation.log()).mean()
        figures: dict[str, float | Tensor] = {"psnr": 10 * torch.log10(4 / squared.detach()), "kl": kl, "l1": l1}
        picture = config.l1 * l1 + config.l2 * squared
        if config.gradient:
            picture = picture + config.gradient * gradient_loss(error)
        targets = self._perceptual.targets(x) if self._perceptual is not None else None
        if self._perceptual is not None and targets is not None:
            figures["perceptual"] = distance = self._perceptual.distance(decoded, targets)
            picture = picture + config.perceptual * distance
        loss = picture + config.kl * kl
        if "image_decoder" in self.companions:
            with autocast(self.device, config.bf16):
                frames = self.companions["image_decoder"](model.sub_latents(latents)).float()
            image = (frames - x).abs().mean()
            if self._perceptual is not None and targets is not None:
                image = image + config.perceptual * self._perceptual.distance(frames, targets)
            figures["image_decoding"] = image
            loss = loss + config.image_decoding * image
        share = config.adversary_share(step) if self.rivals else 0.0
        views: dict[str, tuple[Tensor, Tensor]] = {}
        for name, rival in self.rivals.items() if share else ():
            views[name] = self._view(name, x, generator, decoded)
            with autocast(self.device, config.bf16):
                fooling = fooling_loss(rival, views[name][1])
            factor = 1.0
            if config.adversary_limit:
                last = model.decoder.conv_out.weight
                factor = adaptive_weight(picture, fooling, last, config.adversary_limit)
                figures[f"{name}_weight"] = factor
            figures[name] = fooling
            loss = loss + share * getattr(config, name) * factor * fooling
        yield "model", loss, {name: _plain(figure) for name, figure in figures.items()}
        for name, (real, made) in views.items():
            with autocast(self.device, config.bf16):
                judging, accuracy = judging_loss(self.rivals[name], real, made.detach())
            yield name, judging, {f"{name}_accuracy": accuracy}

    def _disturbed(self, latents: Tensor, mean: Tensor, generator: torch.Generator) -> Tensor:
        """Latents (B,16,L,h,w) as the decoder gets them: with noise of up to ``latent_noise`` times their spread."""
        if not self.config.latent_noise:
            return latents
        level = self.config.latent_noise * torch.rand((len(latents), 1, 1, 1, 1), generator=generator)
        noise = level * torch.randn(latents.shape, generator=generator)
        return latents + mean.detach().std() * noise.to(latents)

    def _view(self, name: str, x: Tensor, generator: torch.Generator, decoded: Tensor) -> tuple[Tensor, Tensor]:
        """What a discriminator sees of the real and the decoded clips (B,3,T,H,W): the same frames of both."""
        count = self.config.adversary_frames
        if name != "adversary2d" or not count or count >= x.shape[2]:
            return x, decoded
        chosen = torch.randperm(x.shape[2], generator=generator)[:count].to(x.device)
        return x[:, :, chosen], decoded[:, :, chosen]


def _plain(figure: float | Tensor) -> float | Tensor:
    return figure.detach() if isinstance(figure, Tensor) else figure


def _image_decoder(vae: AutoencoderKLISA, widths: tuple[int, ...]) -> nn.Module:
    """The auxiliary image decoder, with levels of other widths than the VAE's where they are given."""
    own, groups = vae.config["block_out_channels"], vae.config["norm_num_groups"]
    if vae.config["latent_channels"] % vae.temporal_factor:
        raise TrainingError(
            f"[vae_loss] image_decoding needs latents that part into {vae.temporal_factor} alike; this VAE's have "
            f"{vae.config['latent_channels']} channels: leave image_decoding out"
        )
    if widths and len(widths) != len(own):
        raise TrainingError(f"[vae_loss] image_widths has {len(widths)} numbers; the VAE has {len(own)} levels")
    for width in widths:
        if width < 1 or width % min(groups, width):
            raise TrainingError(f"[vae_loss] image_widths has {width}; give multiples of the VAE's {groups} groups")
    return vae.auxiliary_image_decoder(widths or None)


@dataclass(frozen=True)
class VAEStartConfig:
    """What a VAE's training starts from.

    Attributes:
        image_vae: folder of an image VAE of SD3's layout (a diffusers ``AutoencoderKL``), whose inflated weights are
            the first ones; none starts from new weights.
    """

    image_vae: str = ""


def save_whole(model: AutoencoderKLISA, folder: Path) -> None:
    """Write a VAE's weights and configuration. The folder is there only when it is whole, or not at all."""
    partial = folder.with_name(folder.name + ".partial")
    model.save_pretrained(partial)
    partial.rename(folder)


def start_from_image_vae(spec: ModelSpec, folder: Path) -> AutoencoderKLISA:
    """The model's VAE with the inflated weights of an image VAE (Sec. 4.1): on stills it is that image VAE.

    Args:
        folder: of a diffusers ``AutoencoderKL``, or of a pipeline that has one in ``vae``.

    Returns:
        The VAE in float32, with the image VAE's normalisation of latents.

    Raises:
        TrainingError: when there is no such VAE, or it has another layout than the model's.
    """
    from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

    place = folder / "vae" if (folder / "vae" / "config.json").is_file() else folder
    if not (place / "config.json").is_file():
        raise TrainingError(f"[start] image_vae = {folder}: no config.json there; give a folder of an AutoencoderKL")
    with torch.device("meta"):
        wanted = new_vae(spec).config
    try:
        image_vae = AutoencoderKL.from_pretrained(place, torch_dtype=torch.float32, local_files_only=True)
        vae = AutoencoderKLISA.from_sd3(
            image_vae,
            temporal_resample=tuple(wanted["temporal_resample"]),
            temporal_kernels=tuple(wanted["temporal_kernels"]),
            downsample=wanted["downsample"],
        )
    except (OSError, ValueError, TypeError, KeyError, RuntimeError) as error:
        raise TrainingError(f"[start] image_vae = {folder}: cannot be inflated ({error})") from error
    for name, value in wanted.items():
        if name.startswith(("_", "latents_")):
            continue
        found = vae.config[name]
        if (list(found) if isinstance(found, tuple | list) else found) != (
            list(value) if isinstance(value, tuple | list) else value
        ):
            raise TrainingError(
                f"[start] image_vae = {folder}: its {name} is {found}, but {spec.id} has {value}; train a model whose "
                "[vae] section has the image VAE's layout, or leave image_vae out"
            )
    return vae


@torch.no_grad()
def start_from_components(model: AutoencoderKLISA, films: Films, samples: int = 120_000) -> None:
    """Set the VAE's linear shortcut to the principal components of its blocks of pixels.

    Component c is scaled by ``std_c**-0.5``, so that fine detail is neither drowned nor as loud as the coarse parts.
    """
    generator = torch.Generator().manual_seed(0)
    found, total, moment = 0, torch.zeros(()), torch.zeros(())
    while found < samples:
        x = films.batch(16, films.video[0].shape[1], generator)
        blocks = to_blocks(x, model.temporal_factor, model.spatial_factor, True).flatten(0, 3)
        # More would only repeat what there is.
        samples = min(samples, len(blocks) * sum(map(len, films.video)) // 16)
        total, moment = total + blocks.sum(dim=0).double(), moment + (blocks.T @ blocks).double()
        found += len(blocks)
    mean = total / found
    values, vectors = np.linalg.eigh((moment / found - mean[:, None] * mean).numpy())
    mean = mean.float()
    count = model.config["latent_channels"]
    components = torch.from_numpy(vectors[:, ::-1][:, :count].T.copy()).float()
    deviation = torch.from_numpy(values[::-1][:count].copy()).float().sqrt()
    model.set_linear_shortcut(mean, components, deviation**-0.5)


@torch.no_grad()
def latent_statistics(model: AutoencoderKLISA, films: Films, clips: int = 48, batch: int = 4) -> dict[str, list[float]]:
    """Mean of each channel of the latents and one standard deviation for all, to normalise them by.

    One number for all keeps the coarse channels louder than the fine ones, as in a picture.
    """
    generator = torch.Generator().manual_seed(0)
    device = next(model.parameters()).device
    latents = []
    for _ in range(clips // batch):
        x = films.batch(batch, films.video[0].shape[1], generator).to(device)
        latents.append(model.encode(x, return_dict=False)[0].mean.float().cpu().transpose(0, 1).flatten(1))
    stacked = torch.cat(latents, dim=1)
    return {
        "latents_mean": [round(float(v), 5) for v in stacked.mean(dim=1)],
        "latents_std": [round(float(stacked.std(dim=1).square().mean().sqrt()), 5)],
    }
