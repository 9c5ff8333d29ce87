"""A LoRA's keys in the layouts of the field, and the weights of a transformer that they change (no torch here).

Known are diffusers' and peft's (``transformer.M.lora_A.weight``), ComfyUI's (``diffusion_model.M.lora_down.weight``,
with ``.diff``, ``.diff_b`` and ``.diff_m`` beside it) and kohya's (``lora_unet_M`` with underscores for dots), each
with M in diffusers' names or in the original ones. A pair adds up @ down times ``alpha`` / rank, where there is an
alpha, to a weight (Hu et al. 2021); a difference is added as it is. A LoHa of LyCORIS or peft (``.hada_w1_a``, ...)
adds the product, value by value, of two such products (Hyeon-Woo et al. 2022), a LoKr (``.lokr_w1``, ...) the Kronecker
product of two factors (Yeh et al. 2024), and a DoRA (``.dora_scale``, ``.lora_magnitude_vector``) then brings every row
of the whole weight, or column, to a length of its own (Liu et al. 2024).
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
_ENDING = r"(?:\.default)?(?:\.(?P<of>weight|bias))?$"
_PART = re.compile(
    r"\.(?:(?P<down>lora_A|lora_down|lora\.down)|(?P<up>lora_B|lora_up|lora\.up)"
    r"|(?P<own>hada_w[12]_[ab]|lokr_w[12](?:_[ab])?)"
    r"|(?P<magnitude>dora_scale|lora_magnitude_vector))" + _ENDING + r"|\.(?P<other>alpha|diff|diff_b|diff_m)$"
)
_RENAMINGS = {"audio_proj_in.": LTX2_TRANSFORMER, "video_connector.": LTX2_CONNECTORS}
"""Original names of parts by what some of their parameters begin with; Wan's of others."""

_UNKNOWN_KIND = re.compile(r"\.(?:lokr_t2|hada_t[12]|lora_mid|b?oft_|oft|glora|a[12]\.weight|b[12]\.weight)")

LORA = ("down", "up")
LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b")
_LOKR = tuple(tuple((f"lokr_{w}",) if whole else (f"lokr_{w}_a", f"lokr_{w}_b") for whole in (True, False))
              for w in ("w1", "w2"))  # fmt: skip
WHOLE = (LORA, LOHA, *((*one, *other) for one in _LOKR[0] for other in _LOKR[1]))
"""Roles that together make a change: of a LoRA, of a LoHa, and of a LoKr, whose factors may be products themselves."""

_RANKED = ("down", "hada_w1_b", "lokr_w2_b", "lokr_w1_b")
"""Roles whose tensor's first side is the rank."""


@dataclass
class Change:
    """What a file adds to one parameter.

    Attributes:
        parameter: key of the transformer.
        parts: the file's keys by their roles, see ``WHOLE``; of a plain difference ``diff`` alone.
        alpha: key of its factor; empty for none.
        magnitude: of a DoRA, the key of the lengths that the weight's rows or columns are brought to; else empty.
    """

    parameter: str
    parts: Mapping[str, str]
    alpha: str = ""
    magnitude: str = ""

    @property
    def keys(self) -> tuple[str, ...]:
        """All keys of the file but the factor's."""
        return (*self.parts.values(), *filter(None, [self.magnitude]))

    @property
    def key(self) -> str:
        """One of them, by which people find it."""
        return self.keys[0]

    @property
    def rank_key(self) -> str:
        """The key whose tensor's first side is the rank; empty where it has none."""
        return next((self.parts[role] for role in _RANKED if role in self.parts), "")

    @property
    def is_pair(self) -> bool:
        """Whether it is a plain LoRA's: the product of two thin matrices and nothing else."""
        return "down" in self.parts and not self.magnitude

    def problem(self, given: Mapping[str, Shape], shape: Shape) -> str:
        """Why its shapes do not suit the parameter's, or empty."""
        try:
            added = self._shape(given)
        except ValueError as error:
            return str(error)
        plain = "diff" in self.parts
        wanted = (prod(added), added[-1:]) if plain else added
        if wanted != ((prod(shape), shape[-1:]) if plain else (shape[0], prod(shape[1:]))):
            return f"{self.key} is for {_by(added)} values where the model has {_by(shape)}"
        if self.magnitude and prod(found := given[self.magnitude]) not in (shape[0], prod(shape[1:2])):
            return f"{self.magnitude} is for {prod(found)} rows or columns where the model has {_by(shape)} values"
        return ""

    def _shape(self, given: Mapping[str, Shape]) -> Shape:
        """Shape of what is added, sides of kernels flattened. Raises ValueError where parts do not fit each other."""

        def product(left: str, right: str) -> Shape:
            one, other = given[self.parts[left]], given[self.parts[right]]
            if prod(one[1:]) != other[0]:
                raise ValueError(f"{self.parts[left]} has rank {prod(one[1:])}, its partner {other[0]}")
            return (one[0], prod(other[1:]))

        def factor(name: str) -> Shape:
            whole = self.parts.get(name)
            return (given[whole][0], prod(given[whole][1:])) if whole else product(f"{name}_a", f"{name}_b")

        if any(not given[key] for key in self.parts.values()):
            raise ValueError(f"{self.key} holds a single number")
        if "diff" in self.parts:
            return given[self.parts["diff"]]
        if "down" in self.parts:
            return product("up", "down")
        if "hada_w1_a" in self.parts:
            one, other = product("hada_w1_a", "hada_w1_b"), product("hada_w2_a", "hada_w2_b")
            if one != other:
                raise ValueError(f"{self.key} is for {_by(one)} values, its partner for {_by(other)}")
            return one
        one, other = factor("lokr_w1"), factor("lokr_w2")
        return (one[0] * other[0], one[1] * other[1])


@dataclass
class Match:
    """A LoRA's keys in order.

    Attributes:
        changes: of weights that the transformer has.
        foreign: keys that belong to none of its weights.
        unpaired: parts of a change, such as a ``down`` or ``up``, without the others.
        unknown: keys of kinds that are not read here (OFT, GLoRA, Tucker's core, ...).
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
    found, stems = Match(), {}
    loose: dict[str, dict[str, str]] = {"alpha": {}, "magnitude": {}}
    for key in given:
        if _UNKNOWN_KIND.search(key):
            found.unknown.append(key)
        elif (part := _PART.search(key)) is None:
            found.foreign.append(key)
        elif part["other"] == "alpha" or part["magnitude"]:
            loose["magnitude" if part["magnitude"] else "alpha"][key[: part.start()]] = key
        elif part["other"] or part["of"] == "bias":
            _add_difference(found, key, modules.get(_bare(key[: part.start()], modules)), part["other"], parameters)
        else:
            role = part["own"] or ("down" if part["down"] else "up")
            stems.setdefault(key[: part.start()], {})[role] = key
    for stem, parts in stems.items():
        parameter = f"{modules.get(_bare(stem, modules))}.weight"
        own = {name: keys.pop(stem, "") for name, keys in loose.items()}
        if parameter not in parameters:
            found.foreign += [*parts.values(), *filter(None, [own["magnitude"]])]
        elif set(parts) not in map(set, WHOLE):
            found.unpaired += parts.values()
        else:
            found.changes.append(Change(parameter, parts, **own))
    found.foreign += loose["alpha"].values()
    # Without what it stretches a magnitude is a part of a change that is not there.
    found.unpaired += loose["magnitude"].values()
    found.misfits = [why for each in found.changes if (why := each.problem(given, parameters[each.parameter]))]
    return found


def _add_difference(
    found: Match, key: str, module: str | None, kind: str | None, parameters: Mapping[str, Shape]
) -> None:
    ending = {"diff": ".weight", "diff_m": ".scale_shift_table"}.get(kind or "", ".bias")
    parameter = f"{module or ''}{ending}".removeprefix(".")
    if module is not None and parameter in parameters:
        found.changes.append(Change(parameter, {"diff": key}))
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
