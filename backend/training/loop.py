"""What every training run shares: schedule, steps, checkpoints, stopping and going on.

A step's random numbers depend on the run's seed, the step's number and the process' only, so a run that is stopped
and resumed gives the same weights as one that was not.

Several single-threaded processes that average their gradients once a step train a small network faster on a busy CPU
than one process whose threads wait for each other in every operation; on GPUs it is one process a GPU.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor, nn

from .checkpoint import pack, read_checkpoint, start_from, unpack, write_checkpoint
from .errors import TrainingError
from .launch import in_bfloat16, new_accelerator
from .logs import Log, average
from .players import EMA, Player, share
from .schedule import LoopConfig, step_generator
from .sharding import like, shard, sharded, whole

if TYPE_CHECKING:
    from accelerate import Accelerator

MODEL = "model"
"""The player that the model and its companions are; the others are called as the rivals."""

Figures: TypeAlias = Mapping[str, float | Tensor]
"""What a loss reports by name; tensors are scalars."""

Turn: TypeAlias = tuple[str, Tensor, Figures]
"""Whose turn it is, the loss, and its figures."""

Loss: TypeAlias = Callable[[nn.Module, int, torch.Generator], tuple[Tensor, Figures] | Iterator[Turn]]
"""``loss(model, step, generator)``; see ``Loop.run``."""


class Loop:
    """Trains a model, with its companions, against its rivals.

    Attributes:
        model: what is trained, averaged and exported.
        device: where all networks are; the loop moves them there.
        bf16: whether the losses are to compute in bfloat16 (``LoopConfig.precision`` on this device).
        ema: the averaged weights of ``model``.
        step: steps done.
        skipped: steps whose gradient was not finite, so that they moved nothing; each rival's counts for itself.
        figures: moving averages of what the loss reported.
    """

    def __init__(
        self,
        model: nn.Module,
        config: LoopConfig,
        checkpoint: Path,
        accelerator: Accelerator | None = None,
        companions: Mapping[str, nn.Module] | None = None,
        rivals: Mapping[str, nn.Module] | None = None,
    ) -> None:
        """Prepare to train.

        Args:
            checkpoint: where the state is kept.
            accelerator: device, processes and trackers, see ``new_accelerator``; one process on the CPU by default.
            companions: networks trained together with the model by its optimiser, not averaged and not exported: an
                auxiliary decoder, for instance.
            rivals: networks that each have a loss and an optimiser of their own: discriminators, for instance.

        Raises:
            TrainingError: the accelerator computes in another precision than ``config`` asks for, a rival is called as
                the model's player is, or the model cannot be sharded or checkpointed.
        """
        self.config, self.checkpoint, self.model = config, checkpoint, model
        self.accelerator = accelerator or new_accelerator("cpu", config.precision)
        self.device = self.accelerator.device
        self.bf16 = in_bfloat16(config.precision, self.device)
        if self.bf16 != (self.accelerator.mixed_precision == "bf16"):
            raise TrainingError(
                f"precision = {config.precision!r}, but the accelerator was made for "
                f"{self.accelerator.mixed_precision!r}; make it with new_accelerator(device, config.precision)"
            )
        networks = {MODEL: model, **(companions or {})}
        if MODEL in (rivals or {}) or len(networks) != 1 + len(companions or {}):
            raise TrainingError(f"no companion and no rival can be called {MODEL!r}")
        for module in (*networks.values(), *(rivals or {}).values()):
            nn.Module.to(module, self.device)
        if config.checkpointing:
            _remember_less(model)
        if config.sharded:
            if companions or rivals:
                raise TrainingError("sharded = true: a network with companions or rivals cannot be spread")
            shard(model, self.device, self.bf16)
        self.players = {MODEL: Player(networks, config)}
        for name, rival in (rivals or {}).items():
            self.players[name] = Player({name: rival}, config, config.rival_lr, muon=False)
        self.ema = EMA(model, config.ema)
        self.step = 0
        self.skipped = 0
        self.figures: dict[str, float] = {}
        self._log: Log | None = None
        self._stop = False

    def resume(self) -> bool:
        """Continue from the checkpoint when there is one; returns whether there was.

        Raises:
            TrainingError: the checkpoint is cut short, or of other networks, rivals or optimisers; names what differs.
        """
        if not self.checkpoint.exists():
            return False
        state = read_checkpoint(self.checkpoint, mapped=self.sharded)
        unpack(self.checkpoint, state, self.players)
        for name, value in state["ema"].items():
            self.ema.weights[name].copy_(like(value, self.ema.weights[name]))
        self.step, self.skipped, self.figures = state["step"], state["skipped"], state["figures"]
        return True

    @property
    def sharded(self) -> bool:
        """Whether the model is spread over processes, none of which can run it alone."""
        return sharded(self.model)

    def start_from(self, checkpoint: Path) -> None:
        """Begin where another loop ended: with its averaged weights, and its companions and rivals.

        Optimisers and steps begin anew, and so do companions and rivals that the other loop did not have.

        Raises:
            TrainingError: the checkpoint is cut short, or its networks differ from this loop's.
        """
        start_from(checkpoint, self.players)
        self.ema.reset(self.model)

    def save(self) -> None:
        """Write the checkpoint; the old one stays until the new one is whole. Only the first process writes."""
        state = {**pack(self.players), "ema": self.ema.weights}
        if self.sharded:
            state = whole(state)
        if self.accelerator.is_main_process:
            counts = {"step": self.step, "skipped": self.skipped, "figures": self.figures}
            write_checkpoint(self.checkpoint, {**state, **counts})

    def show(self, name: str, images: list) -> None:
        """Show pictures (H,W,3) uint8 of this step in TensorBoard; for ``on_save``."""
        if self._log is not None:
            self._log.pictures(name, images, self.step)

    def run(
        self,
        loss: Loss,
        until: float | None = None,
        label: str = "training",
        log: Path | None = None,
        on_save: Callable[[Loop], None] | None = None,
    ) -> bool:
        """Train to the last step.

        ``loss(model, step, generator)`` returns the loss and its figures; or, where there are rivals, an iterator of
        ``(player, loss, figures)``, ``"model"`` first and then the names of rivals (any may sit a step out). Each loss
        is gone back through, its player's gradients alone are clipped and applied, and only then is the iterator asked
        for the next. Random numbers of a loss come from ``generator``; those that layers draw by themselves (dropout)
        repeat as well, as torch's own generator is seeded for every step.

        SIGTERM and Ctrl-C end the step that is under way, write the checkpoint and return; a second Ctrl-C leaves at
        once.

        Args:
            until: stop early at this ``time.time()``, with a checkpoint.
            label: of the progress bar.
            log: a text file that gets one line of figures every hundred steps.
            on_save: called on the first process after every checkpoint.

        Returns:
            Whether the run is complete; False when it was asked to stop, even at its last step.
        """
        config = self.config
        samples = config.batch * self.accelerator.num_processes
        self._align()
        self._log = Log(self.accelerator, self.checkpoint.stem, label, self.step, config.steps, log)
        saved = time.time()
        try:
            with self._signals():
                self._train_mode()
                while self.step < config.steps and not self._agree(until):
                    news = self._one_step(loss)
                    average(self.figures, news)
                    extra = {"lr": config.lr_at(self.step - 1), "skipped": float(self.skipped)}
                    self._log.step(self.step, samples, self.figures, extra)
                    due = time.time() - saved > 60 * config.save_minutes
                    if (self._any(due)[0] if self.sharded else due) and self.step < config.steps:
                        self._save_and_tell(on_save)
                        saved = time.time()
                self._save_and_tell(on_save)
                # Whoever reads the checkpoint after this call finds it, in any process.
                self.accelerator.wait_for_everyone()
        finally:
            self._log.close()
            self._log = None
        return self.step >= config.steps and not self._stop

    def _one_step(self, loss: Loss) -> dict[str, float]:
        """Train one step, all players' turns; returns its figures."""
        stream = self.accelerator.process_index
        torch.manual_seed(step_generator(self.config.seed, self.step, stream).initial_seed())
        given = loss(self.model, self.step, step_generator(self.config.seed, self.step, stream))
        turns: Iterator[Turn] = iter([(MODEL, *given)]) if isinstance(given, tuple) else given
        lr = self.config.lr_at(self.step)
        news: dict[str, float | Tensor] = {}
        turn = None
        for turn, (name, value, figures) in enumerate(turns):
            if name not in self.players or (name == MODEL) != (turn == 0):
                raise TrainingError(f"turn {turn} of a step is {name!r}; 'model' comes first, then rivals by name")
            norm, moved = self.players[name].step(value, lr, self.accelerator)
            if not moved:
                self.skipped += 1
            elif name == MODEL:
                self.ema.update(self.model, self.step)
            prefix = "" if name == MODEL else f"{name}_"
            news |= {f"{prefix}loss": value.detach(), f"{prefix}norm": norm, **figures}
        if turn is None:
            raise TrainingError("a loss gave no turn at all; 'model' comes first")
        self._share_buffers()
        self.step += 1
        # One transfer for all figures: on a GPU every single one would wait for it.
        tensors = {k: v.detach().float() for k, v in news.items() if isinstance(v, Tensor)}
        values = torch.stack([v.to(self.device).reshape(()) for v in tensors.values()]).tolist()
        found = dict(zip(tensors, values, strict=True))
        return {k: float(found[k]) if k in found else float(v) for k, v in news.items()}

    def _modules(self) -> list[nn.Module]:
        return [module for player in self.players.values() for module in player.modules.values()]

    def _train_mode(self) -> None:
        for module in self._modules():
            module.train()

    def _save_and_tell(self, on_save: Callable[[Loop], None] | None) -> None:
        self.save()
        if on_save is not None and self.accelerator.is_main_process:
            on_save(self)
            self._train_mode()

    def _align(self) -> None:
        """Begin with the first process' weights everywhere."""
        if self.accelerator.num_processes > 1 and not self.sharded:
            for module in self._modules():
                share(module.state_dict().values())
            share(self.ema.weights.values())

    def _share_buffers(self) -> None:
        """Keep running statistics alike: the first process' are everybody's, and in the checkpoint."""
        if self.accelerator.num_processes > 1:
            for module in self._modules():
                kept = module.state_dict()
                share(buffer for name, buffer in module.named_buffers() if name in kept)

    def _agree(self, until: float | None) -> bool:
        """Whether any process is to stop, by a signal or the clock; the same answer on all, so that none waits."""
        self._stop, stop = self._any(self._stop, self._stop or (until is not None and time.time() >= until))
        return stop

    def _any(self, *flags: bool) -> list[bool]:
        """Whether each flag is set in any process; the same answer in all."""
        if self.accelerator.num_processes == 1:
            return list(flags)
        counts = self.accelerator.reduce(torch.tensor(flags, dtype=torch.float32, device=self.device), "sum")
        assert isinstance(counts, Tensor)
        return [count > 0 for count in counts.tolist()]

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Note SIGTERM and Ctrl-C instead of dying of them; a second Ctrl-C is one."""
        self._stop = False
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def ask(number: int, frame: object) -> None:
            if number == signal.SIGINT and self._stop:
                raise KeyboardInterrupt
            self._stop = True

        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _remember_less(model: nn.Module) -> None:
    """Turn gradient checkpointing on. Raises TrainingError where the network has none."""
    try:
        model.enable_gradient_checkpointing()  # type: ignore[operator]
    except (AttributeError, ValueError) as error:
        raise TrainingError(f"checkpointing = true: {type(model).__name__} knows no gradient checkpointing") from error
