"""What a film loses when one of the conditions that it is made of is taken away."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ..shot.types import Background, Character, Shot

KNOWN = "known"
"""What no shot holds: which spots of a body its references show. It is withheld where the film is made, see
``carry_shot`` and ``ISAFamily``."""


@dataclass(frozen=True)
class Condition:
    """A condition: its name, what stands in its place in words, and the shot without it."""

    name: str
    instead: str
    drop: Callable[[Shot], Shot]


def _held(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[:1], len(values), axis=0)


def _still(character: Character) -> Character:
    body = character.body
    if body is not None:
        body = replace(body, poses=_held(body.poses), trans=_held(body.trans))
    joints = None if character.joints is None else _held(character.joints)
    return replace(character, points=_held(character.points), joints=joints, body=body)


def _without_points(shot: Shot) -> Shot:
    meshes = tuple(replace(m, vertices=_held(m.vertices)) if m.character >= 0 else m for m in shot.meshes)
    return replace(shot, characters=tuple(map(_still, shot.characters)), meshes=meshes)


def _without_visibility(shot: Shot) -> Shot:
    seen = tuple(replace(one, visibility=np.ones_like(one.visibility)) for one in shot.characters)
    return replace(shot, characters=seen, meshes=tuple(mesh for mesh in shot.meshes if mesh.character >= 0))


def _without_camera(shot: Shot) -> Shot:
    return replace(shot, clip=replace(shot.clip, viewmats=_held(shot.clip.viewmats), Ks=_held(shot.clip.Ks)))


def _without_reference(shot: Shot) -> Shot:
    bare = tuple(replace(one, reference=None, further_references=()) for one in shot.characters)
    return replace(shot, characters=bare)


def _without_light(shot: Shot) -> Shot:
    def unlit(character: Character) -> Character:
        first, more = character.reference, character.further_references
        return replace(
            character,
            reference=None if first is None else replace(first, clay=None),
            further_references=tuple(replace(one, clay=None) for one in more),
        )

    return replace(shot, clay=None, characters=tuple(map(unlit, shot.characters)))


CONDITIONS: Mapping[str, Condition] = {
    one.name: one
    for one in (
        Condition("points", "bodies stand as in the first frame", _without_points),
        Condition("visibility", "nothing of the set hides a body, every point counts as seen", _without_visibility),
        Condition("camera", "the first frame's camera throughout", _without_camera),
        Condition("reference", "bodies in plain grey", _without_reference),
        Condition(KNOWN, "every spot of a body counts as seen in its references", lambda shot: shot),
        Condition("light", "no clay, neither of the film nor of the references", _without_light),
        Condition("background", "plain grey", lambda shot: replace(shot, background=Background())),
    )
}
