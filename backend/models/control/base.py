"""What all models of the family do alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...catalogue.models import ModelSpec
from ...shot import Shot
from ..family import Family, Network, Plan
from ..lora.files import TEXTS, FoundLora, find_loras, of_texts
from ..lora.fuse import with_loras
from ..wan import encode_text, load_text_tokenizer
from .build import NETWORKS, load_network
from .plan import base, make_plan, sampling

if TYPE_CHECKING:
    from ..generation import Generation


class ControlBase(Family):
    """See the module."""

    def plan(self, spec: ModelSpec, shot: Shot) -> Plan:
        """See ``Family.plan``."""
        return make_plan(spec, shot)

    def networks(self, spec: ModelSpec, shot: Shot, dtype: torch.dtype) -> Mapping[str, Network]:
        """See ``Family.networks``."""
        found = {name: Network(lambda name=name: load_network(spec, name, dtype)) for name in NETWORKS[base(spec)]}
        loras = [*self.own_loras(spec, shot), *find_loras(spec, shot)]
        if TEXTS in found:
            found = with_loras(found, of_texts(spec, loras), TEXTS)
        return with_loras(found, loras)

    def own_loras(self, spec: ModelSpec, shot: Shot) -> Sequence[FoundLora]:
        """LoRAs that the model itself comes with, as far as a shot needs them. Raises EngineError."""
        return ()

    def texts(self, run: Generation) -> tuple[str, ...]:
        """See ``Family.texts``: what is to be seen, or else what its authors say, and, with guidance, what is not."""
        positive = run.shot.prompt.strip() or str(sampling(run.spec).get("prompt", ""))
        return (positive, str(run.options["negative_prompt"]).strip()) if run.guidance > 1 else (positive,)


class WanFamily(ControlBase):
    """Wan's models, which have umT5 read."""

    def encode_text(self, run: Generation, networks: Mapping[str, Any], text: str) -> Tensor:
        """See ``TextReader.encode_text``."""
        tokenizer = load_text_tokenizer(run.spec, "tokenizer")
        return encode_text(tokenizer, networks["text_encoder"], text, run.device).cpu()
