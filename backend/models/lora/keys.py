"""A LoRA's keys in the layouts of the field, and the weights of a transformer that they change (no torch here).

Known are diffusers' and peft's (``transformer.M.lora_A.weight``), ComfyUI's (``diffusion_model.M.lora_down.weight``,
with ``.diff``, ``.diff_b`` and ``.diff_m`` beside it) and kohya's (``lora_unet_M`` with underscores for dots), each
with M in diffusers' names or in the original ones. A pair adds up @ down times ``alpha`` / rank, where there is an
alpha, to a weight (Hu et al. 2021); a difference is added as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod

from ..renaming import LTX2_CONNECTORS, LTX2_TRANSFORMER, WAN_TRANSFORMER

Shape = tuple[int, ...]

_PREFIX = re.compile(
    r"^(?:(?:base_model\.model|model|transformer|diffusion_model|text_embedding_projection|connectors|unet|dit|pipe\.dit)\."
    r"|lora_(?:unet|transformer)_|lycoris_)"
)
_PART = re.compile(
    r"\.(?:(?P<down>lora_A|lora_down|lora\.down)|(?P<up>lora_B|lora_up|lora\.up))(?:\.default)?(?:\.(?P<of>weight|bias))?$"
    r"|\.(?P<other>alpha|diff|diff_b|diff_m)$"
)
_RENAMINGS = {"audio_proj_in.": LTX2_TRANSFORMER, "video_connector.": LTX2_CONNECTORS}
"""Original names of parts by what some of their parameters begin with; Wan's of others."""

_UNKNOWN_KIND = re.compile(r"\.(?:dora_scale|lokr_|hada_|oft_|glora|lora_magnitude_vector)")


@dataclass
class Change:
    """What a LoRA adds to one parameter.

    Attributes:
        parameter: key of the transformer.
        keys: of the file: down and up, or a difference.
        alpha: key of the pair's factor; empty for none.
    """

    parameter: str
    keys: tuple[str, ...]
    alpha: str = ""

    def problem(self, given: Mapping[str, Shape], shape: Shape) -> str:
        """Why its shapes do not suit the parameter's, or empty."""
        parts = [given[key] for key in self.keys]
        if len(parts) == 1:
            added = parts[0]
            fits = prod(added) == prod(shape) and added[-1:] == shape[-1:]
        else:
            down, up = parts
            added = (up[0], prod(down[1:])) if down and up else ()
            if prod(up[1:]) != down[0]:
                return f"{self.keys[1]} has rank {prod(up[1:])}, its partner {down[0]}"
            fits = added == (shape[0], prod(shape[1:]))
        return "" if fits else f"{self.keys[0]} is for {_by(added)} values where the model has {_by(shape)}"


@dataclass
class Match:
    """A LoRA's keys in order.

    Attributes:
        changes: of weights that the transformer has.
        foreign: keys that belong to none of its weights.
        unpaired: a ``down`` or ``up`` without the other.
        unknown: keys of kinds that are not read here (LoKr, LoHa, DoRA, ...).
        misfits: sentences about shapes.
    """

    changes: list[Change] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    unpaired: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    misfits: list[str] = field(default_factory=list)

    def problem(self, label: str) -> str:
        """Why the file cannot be added to the model of that name, in one sentence, or empty."""
        if self.unknown:
            return f"{some(self.unknown)} of a kind that is not read here; take it as a plain LoRA"
        if self.misfits:
            more = f", and {len(self.misfits) - 1} more like it" if len(self.misfits) > 1 else ""
            return f"it was made for another model than {label}: {self.misfits[0]}{more}"
        if self.unpaired:
            return f"{some(self.unpaired)} without a partner: the file is not whole; download it again"
        if not self.changes:
            what = f"{some(self.foreign)} of weights that {label} does not have" if self.foreign else "it holds no keys"
            return f"it was made for another model: {what}"
        return ""

    def note(self, name: str, label: str) -> str:
        """What is left out, in one sentence, or empty."""
        return f"{name}: {some(self.foreign)} of weights that {label} does not have; left out" if self.foreign else ""


def some(keys: list[str]) -> str:
    """``3 keys (a, b, ...)``."""
    return f"{len(keys)} key{'s' * (len(keys) > 1)} ({', '.join(keys[:2])}{', ...' * (len(keys) > 2)})"


def match(given: Mapping[str, Shape], parameters: Mapping[str, Shape]) -> Match:
    """Hold a LoRA's keys and shapes against those of a transformer in diffusers' names."""
    modules = _modules(parameters)
    found, pairs = Match(), {}
    alphas: dict[str, str] = {}
    for key in given:
        if _UNKNOWN_KIND.search(key):
            found.unknown.append(key)
        elif (part := _PART.search(key)) is None:
            found.foreign.append(key)
        elif part["other"] == "alpha":
            alphas[key[: part.start()]] = key
        elif part["other"] or part["of"] == "bias":
            _add_difference(found, key, modules.get(_bare(key[: part.start()], modules)), part["other"], parameters)
        else:
            pairs.setdefault(key[: part.start()], {})["down" if part["down"] else "up"] = key
    for stem, pair in pairs.items():
        parameter = f"{modules.get(_bare(stem, modules))}.weight"
        if parameter not in parameters:
            found.foreign += pair.values()
        elif len(pair) < 2:
            found.unpaired += pair.values()
        else:
            found.changes.append(Change(parameter, (pair["down"], pair["up"]), alphas.pop(stem, "")))
    # An alpha of a pair that was left out is no other fault than the pair.
    found.foreign += [key for stem, key in alphas.items() if stem not in pairs]
    found.misfits = [why for each in found.changes if (why := each.problem(given, parameters[each.parameter]))]
    return found


def _add_difference(
    found: Match, key: str, module: str | None, kind: str | None, parameters: Mapping[str, Shape]
) -> None:
    ending = {"diff": ".weight", "diff_m": ".scale_shift_table"}.get(kind or "", ".bias")
    parameter = f"{module or ''}{ending}".removeprefix(".")
    if module is not None and parameter in parameters:
        found.changes.append(Change(parameter, (key,)))
    else:
        found.foreign.append(key)


def _modules(parameters: Iterable[str]) -> dict[str, str]:
    """Modules of the transformer by every name that files have for them."""
    named: dict[str, str] = {}
    parameters = list(parameters)
    known = (each for sign, each in _RENAMINGS.items() if any(key.startswith(sign) for key in parameters))
    renaming = next(known, WAN_TRANSFORMER)
    for parameter in parameters:
        module, _, _ = parameter.rpartition(".")
        published = renaming.published(parameter).rpartition(".")[0]
        # The head's table is the transformer's own.
        module = "" if parameter == "scale_shift_table" else module
        for name in (module, published):
            # ``head`` is both the table's and, in front of ``head.head``, a folder.
            for written in (name, name.replace(".", "_")):
                named.setdefault(written, module)
    named.pop("", None)
    return named


def _bare(stem: str, modules: Mapping[str, str]) -> str:
    """A module's name without what stands before it in the layouts."""
    while stem not in modules and (cut := _PREFIX.sub("", stem, count=1)) != stem:
        stem = cut
    return stem


def _by(shape: Shape) -> str:
    return " x ".join(map(str, shape)) or "no"
