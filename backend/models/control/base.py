"""What all models of the family do alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ...catalogue.models import ModelSpec
from ...shot import Shot
from ..family import Family, Network, Plan
from ..lora.files import find_loras
from ..lora.fuse import with_loras
from ..wan import encode_text, load_text_tokenizer
from .build import NETWORKS, load_network
from .plan import base, make_plan

if TYPE_CHECKING:
    from ..generation import Generation


class WanFamily(Family):
    """See the module."""

    def plan(self, spec: ModelSpec, shot: Shot) -> Plan:
        """See ``Family.plan``."""
        return make_plan(spec, shot)

    def networks(self, spec: ModelSpec, shot: Shot, dtype: torch.dtype) -> Mapping[str, Network]:
        """See ``Family.networks``."""
        found = {name: Network(lambda name=name: load_network(spec, name, dtype)) for name in NETWORKS[base(spec)]}
        return with_loras(found, find_loras(spec, shot))

    def encode_text(self, run: Generation, networks: Mapping[str, Any], text: str) -> Tensor:
        """See ``TextReader.encode_text``."""
        tokenizer = load_text_tokenizer(run.spec, "tokenizer")
        return encode_text(tokenizer, networks["text_encoder"], text, run.device).cpu()
