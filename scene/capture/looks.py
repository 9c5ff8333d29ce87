"""All the pictures that say what a character looks like: its reference, and further ones from other sides.

Shape letters: N points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import bpy
import numpy as np

from ...backend.shot import Reference
from .characters import Performer
from .match import entry_of, match_of
from .reference import Asked, Studio, Taking, picture_reference, render_reference

_NEW = 0.01
"""Share of the points that a further reference must show for the first time, or larger, to be of use."""
_LARGER = 1.2


def asked_of(obj: bpy.types.Object) -> list[Asked]:
    """The references that the animator asks for of a character, the first one first."""
    marks = obj.maquette
    if marks.reference_source == "NONE":
        return []
    asked = []
    for number in range(-1, len(marks.references)):
        entry = marks if number < 0 else marks.references[number]
        image, kept = entry_of(marks, number)
        rendered = (marks.reference_source if number < 0 else entry.source) == "RENDER"
        asked.append(
            Asked(
                obj.name,
                rendered,
                image,
                marks.reference_frame if number < 0 else entry.frame,
                "" if number < 0 else entry.name or f"{number + 2}",
                None if rendered else match_of(kept, image),
                kept.margin / 100 if kept.cut_out else None,
            )
        )
    return asked


def look(studio: Studio, performer: Performer, index: int, asked: list[Asked], frames: range) -> Iterator[object]:
    """Take the references of a character, one after another; None for one that is left out, ``BREATH`` on the way.

    Args:
        index: of the character in the shot.
        frames: of the shot; they have been read.

    Raises:
        ShotError: a picture is missing or unreadable, or the camera does not see the character at its frame.
    """
    name = performer.object.name
    if not asked and studio.clay:
        studio.notices.append(
            f"'{name}' has no reference: it is drawn in clay grey. Set its Looks > Reference to Render or Picture"
        )
    taken: list[Reference] = []
    for one in asked:
        take = render_reference if one.rendered else picture_reference
        made = yield from take(studio, performer, index, one)
        if not shows(made) and not taken:
            made = yield from _at_best(studio, performer, index, one, frames)
        elif not shows(made):
            studio.notices.append(
                f"'{name}' is not in the picture at {one.moment}, which is left out; set it to a frame at which the "
                "camera sees that side"
            )
            yield None
            continue
        if taken and not _adds(made, taken):
            studio.notices.append(
                f"'{name}': its {one.words} at frame {one.frame} adds nothing: it shows no side that the ones before "
                "it do not, and none larger"
            )
        taken.append(made)
        yield made


def shows(reference: Reference) -> bool:
    """Whether a reference shows anything of its character."""
    return reference.visibility is None or bool(reference.visibility.any())


def _at_best(studio: Studio, performer: Performer, index: int, asked: Asked, frames: range) -> Taking:
    """Render the frame of the shot at which most of the character shows."""
    best = frames[int(np.stack(performer.visibility_T).sum(axis=1).argmax())]
    studio.notices.append(
        f"'{performer.object.name}' is not in the picture at {asked.moment}; frame {best} is taken, where most of it "
        "shows"
    )
    return (yield from render_reference(studio, performer, index, replace(asked, frame=best)))


def _adds(made: Reference, taken: list[Reference]) -> bool:
    """Whether a reference shows spots that none of those taken shows, or shows them clearly larger."""
    before = np.max([_scale(one) for one in taken], axis=0)
    return bool((_scale(made) > _LARGER * before).mean() > _NEW)


def _scale(reference: Reference) -> np.ndarray:
    """(N,) pixels a metre at which a reference shows each point; 0 where it does not show it."""
    depth = reference.points @ reference.viewmat[2, :3] + reference.viewmat[2, 3]
    seen = np.ones(len(depth), dtype=bool) if reference.visibility is None else reference.visibility
    return np.where(seen & (depth > 0), reference.K[0, 0] / np.maximum(depth, 1e-6), 0.0)
