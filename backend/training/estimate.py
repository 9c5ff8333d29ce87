"""How much memory training takes, before a machine is rented for it: `maquette train base --estimate`.

Weights and what the optimiser keeps of them are counted; what a forward pass saves for the way back is seen in one that
computes nothing (fake tensors: shapes alone). Left out: the runtime itself (a GB or two), fragments, and what kernels
need while they run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..models.isa.build import new_transformer
from ..models.isa.inputs import ISAInputs
from .config import RunConfig
from .data import DataConfig

GB = 10**9

CLIP_TOKENS = 257
"""Of one picture: the class token, and 16 x 16 patches of the published encoders."""

_OUTSIDE = -1
"""The block of what no block saves."""


@dataclass(frozen=True)
class Estimate:
    """Bytes that each of a run's processes takes to train the transformer.

    Attributes:
        parameters: number of the transformer's, all of them.
        kept: weights, gradients, AdamW's two moments and the average, in float32; a process' share where sharded.
        gathered: weights that are gathered, or converted, while they are at work.
        activations: what the way back needs of the largest step, see ``LoopConfig.checkpointing``.
        checkpoint: size of the file, and main memory of the first process while it is written.
    """

    parameters: int
    kept: int
    gathered: int
    activations: int
    checkpoint: int

    @property
    def total(self) -> int:
        """Device memory of one process."""
        return self.kept + self.gathered + self.activations


def estimate(config: RunConfig, processes: int, bf16: bool) -> Estimate:
    """What training the transformer of ``config`` takes.

    Args:
        processes: that share the run, each with ``config.dit.batch`` clips a step.
        bf16: whether they compute in bfloat16.
    """
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        model = new_transformer(config.spec)
        sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
        saved = max(_activations(model, shots, config, bf16) for shots in _largest(config))
    number = sum(sizes.values())
    shared = config.dit.sharded and processes > 1
    width = 2 if bf16 else 4
    blocks: dict[str, int] = defaultdict(int)
    for name, size in sizes.items():
        blocks[".".join(name.split(".")[:2]) if name.startswith("blocks.") else ""] += size
    # One block at work and the next under way, with the gradient of one; what lies outside the blocks is always there.
    largest = max((size for name, size in blocks.items() if name), default=0)
    spread = width * (2 * largest + blocks[""]) + 4 * (largest + blocks[""])
    return Estimate(
        parameters=number,
        kept=20 * number // (processes if shared else 1),
        gathered=spread if shared else 2 * number * bf16,
        activations=saved,
        checkpoint=16 * number,
    )


def as_text(config: RunConfig, found: Estimate, processes: int, bf16: bool) -> str:
    """An estimate in lines for a person."""
    dit = config.dit
    what = [f"{processes} process{'es' if processes > 1 else ''}", f"{dit.batch} clips each"]
    what += ["bfloat16" if bf16 else "float32"]
    what += [name for name, on in (("sharded", dit.sharded), ("checkpointing", dit.checkpointing)) if on]
    rows = (
        ("weights, gradients, moments, average", found.kept),
        ("weights at work", found.gathered),
        ("activations", found.activations),
        ("device memory of one process", found.total),
        ("a checkpoint, and main memory to write it", found.checkpoint),
    )
    lines = [f"{config.model}: {found.parameters / 1e9:.2f} B parameters; {', '.join(what)}"]
    lines += [f"  {name:<44}{size / GB:8.1f} GB" for name, size in rows]
    return "\n".join(
        [*lines, "Beside it the runtime takes a GB or two. Less: fewer clips, more processes, checkpointing."]
    )


def blank_inputs(
    batch: int, characters: int, frames: int, points: int, height: int, width: int, image_embed_dim: int | None = None
) -> ISAInputs:
    """Conditions of clips in which nothing is: zeros of the right shapes, all present.

    Args:
        height, width: of the latents. frames: of the film, 1 + 4k. image_embed_dim: of CLIP tokens, if there are any.
    """
    latents = torch.zeros(batch, 16, 1 + (frames - 1) // 4, height, width)
    there = torch.ones(batch, characters, frames, points, dtype=torch.bool)
    present = torch.ones(batch, dtype=torch.bool)
    return ISAInputs(
        points=torch.zeros(batch, characters, frames, points, 3),
        rest_points=torch.zeros(batch, characters, points, 3),
        point_mask=there,
        point_visibility=there.float(),
        reference_latents=torch.zeros(batch, characters, 16, height, width),
        reference_points=torch.zeros(batch, characters, points, 2),
        reference_visibility=there[:, :, 0],
        reference_present=there[:, :, 0, 0],
        plucker=torch.zeros(batch, frames, 6, height, width),
        camera_present=present,
        background_latents=latents,
        background_present=present,
        carried_latents=latents,
        known=latents[:, 0],
        carried_present=present,
        image_embeds=torch.zeros(batch, characters, CLIP_TOKENS, image_embed_dim) if image_embed_dim else None,
    )


def _largest(config: RunConfig) -> Iterator[tuple[DataConfig, int]]:
    """The shots of each length with the most characters, and how many of them a step takes."""
    shortest = min(data.frames for data in (config.data, config.long_data) if data.count)
    for data in (config.data, config.long_data):
        if data.count:
            latents = 1 + (data.frames - 1) // 4
            yield data, max(config.dit.batch * (1 + (shortest - 1) // 4) // latents, 1)


def _activations(model: nn.Module, shots: tuple[DataConfig, int], config: RunConfig, bf16: bool) -> int:
    """Bytes that one forward pass on such shots saves; with checkpointing, what the way back adds."""
    data, batch = shots
    characters = data.cast(data.count - 1)[0]
    sides = [side // 8 for side in data.size_of(0)]
    inputs = blank_inputs(
        batch,
        characters,
        data.frames,
        data.points,
        *sides,
        model.config["image_embed_dim"],  # type: ignore[index]
    )
    noisy = torch.zeros(batch, 16, 1 + (data.frames - 1) // 4, *sides)
    ledger = _saved_by_block(model, (noisy, torch.full((batch,), 500.0), inputs), bf16)
    outside = ledger.saved.pop(_OUTSIDE, 0)
    blocks = ledger.saved.values()
    # The way back through a block that is computed again holds what that saves, and about as much of gradients.
    return outside + (sum(ledger.entries) + 2 * max(blocks) if config.dit.checkpointing else sum(blocks))


class _Ledger:
    """What a forward pass saves: bytes by block, and bytes of the tokens that go into each block.

    What several operations save of one storage counts once; weights do not count.
    """

    def __init__(self, weights: Iterable[Tensor]) -> None:
        self.saved: dict[int, int] = defaultdict(int)
        self.entries: list[int] = []
        self._block = _OUTSIDE
        # Tensors are held: a storage that is gone may lend its address to another.
        self._seen = {tensor.untyped_storage()._cdata: tensor for tensor in weights}

    def pack(self, tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._seen:
            self._seen[storage._cdata] = tensor
            self.saved[self._block] += storage.nbytes()
        return tensor

    def watch(self, index: int, block: nn.Module) -> list[RemovableHandle]:
        def enter(_: nn.Module, arguments: tuple, named: dict) -> None:
            if "method" not in named:
                self._block = index
                self.entries.append(sum(tokens.nbytes for tokens in arguments[:2]))

        def leave(*_: object) -> None:
            self._block = _OUTSIDE

        return [block.register_forward_pre_hook(enter, with_kwargs=True), block.register_forward_hook(leave)]


def _saved_by_block(model: nn.Module, arguments: tuple, bf16: bool) -> _Ledger:
    """What one forward pass of the transformer saves, computed as ``DiTLoss`` does."""
    weights = {name: p.to(torch.bfloat16) if bf16 else p for name, p in model.named_parameters()}
    ledger = _Ledger(weights.values())
    handles = [handle for i, block in enumerate(model.blocks) for handle in ledger.watch(i, block)]  # type: ignore[arg-type]
    try:
        with torch.autograd.graph.saved_tensors_hooks(ledger.pack, lambda tensor: tensor):
            torch.func.functional_call(model, weights, arguments, {"return_dict": False})
    finally:
        for handle in handles:
            handle.remove()
    return ledger
