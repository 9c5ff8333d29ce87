"""A character's own picture matched to its body: pins dragged onto it say pose and camera."""

from __future__ import annotations

from dataclasses import dataclass, replace

import bpy
import numpy as np
from bpy.props import IntProperty
from bpy.types import Context, Event, Operator

from ..backend.bodies import BodyError, BodyModel, load_body
from ..backend.bodies.matching import Figure, Match, first_guess, match_pins
from ..backend.shot import ShotError
from ..scene.capture import match as kept_matches
from ..scene.capture.media import picture_from_image, pixels
from ..scene.rig.bodies import RigError, body_source, find_body, load_rig
from ..scene.screen.frame import Rectangle, around, moved, within, zoomed
from ..scene.screen.ghost import Ghost, told
from .answers import chosen, possible, refused, refusing
from .looks import active_character

_MARGIN = 40
"""Pixels around the picture, at the interface's scale 1."""
_REACH = 14
"""Pixels around a handle, at the interface's scale 1, in which a click takes it."""
_HINTS = (
    ("MOUSE_LMB_DRAG", "Drag Pin"),
    ("EVENT_X", "Remove Pin"),
    ("EVENT_CTRL", "Z  Undo"),
    ("EVENT_R", "Start Over"),
    ("EVENT_S", "Fit Shape"),
    ("EVENT_B", "Show Body"),
    ("MOUSE_MMB", "Zoom, Pan"),
    ("EVENT_RETURN", "Accept"),
    ("EVENT_ESC", "Cancel"),
)


@dataclass(frozen=True, eq=False)
class _Subject:
    """What is matched: a body, one of its pictures, and how it stood before."""

    image: bpy.types.Image
    kept: bpy.types.PropertyGroup
    body: BodyModel
    figure: Figure
    pins: dict[str, tuple[float, float]]
    guess: Match
    start: Match


def _subject(operator: Operator, context: Context) -> _Subject | None:
    """What to match; reports why there is nothing."""
    mesh = find_body(active_character(context))
    if mesh is None:
        operator.report({"ERROR"}, "Only a body from Add Body can be matched to a picture")
        return None
    marks = mesh.maquette
    index = operator.index  # type: ignore[attr-defined]
    if index >= 0 and chosen(operator, marks.references, index) is None:
        return None
    image, kept = kept_matches.entry_of(marks, index)
    if image is None:
        operator.report({"ERROR"}, "The reference has no picture; set Reference to Picture and choose one")
        return None
    try:
        rig = load_rig(mesh)
        picture_from_image(image, "picture")
        body = load_body(body_source(mesh))
        figure = Figure.of(body, rig.directions.shape[2])
    except (ShotError, RigError, BodyError, OSError) as error:
        operator.report({"ERROR"}, str(error))
        return None
    guess = first_guess(figure, rig.betas(), *image.size, box=_shown(image))
    same = kept.image == image
    start = kept_matches.match_of(kept, image)
    if start is None or len(start.poses) != len(figure.names):
        start = guess
    return _Subject(image, kept, body, figure, kept_matches.pins_of(kept, image) if same else {}, guess, start)


def _shown(image: bpy.types.Image) -> tuple[float, float, float, float] | None:
    """Left, top, right and bottom of what is opaque in a picture; None where nothing is transparent."""
    solid = pixels(image)[..., 3] >= 128
    if solid.all() or not solid.any():
        return None
    rows, columns = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


class _OfBody:
    """Mixin: a picture of the active body, which has a reference."""

    index: IntProperty(
        name="Index",
        description="Of the further reference whose picture it is; the first reference when negative",
        default=-1,
        options={"SKIP_SAVE"},
    )

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Only for an active body that has a reference."""
        mesh = find_body(active_character(context))
        if mesh is None:
            return possible(cls, False, "Select a body that was added with Add Body")
        shown = mesh.maquette.reference_source != "NONE"
        return possible(cls, shown, "Set the body's Reference to Picture first")


class MAQUETTE_OT_match_picture(_OfBody, Operator):
    """Drag pins of the body onto its picture, so that pose and camera of the picture are known"""

    bl_idname = "maquette.match_picture"
    bl_label = "Match to Picture"
    bl_options = {"UNDO", "BLOCKING"}

    @refusing(BodyError)
    def execute(self, context: Context) -> set[str]:
        """Match the picture with the pins that it has, without a window."""
        subject = _subject(self, context)
        if subject is None:
            return {"CANCELLED"}
        width, height = subject.image.size
        found = match_pins(subject.figure, subject.pins, width, height, subject.start)
        return self._keep(subject, subject.pins, found)

    def invoke(self, context: Context, _event: Event) -> set[str]:
        """Show the picture, and follow the mouse until it is accepted or given up."""
        area = context.area
        region = next((r for r in area.regions if r.type == "WINDOW"), None) if area is not None else None
        if area is None or area.type != "VIEW_3D" or region is None:
            return refused(self, "Pictures are matched in a 3D view; start it from there")
        subject = _subject(self, context)
        if subject is None:
            return {"CANCELLED"}
        self._subject, self._area, self._region = subject, area, region
        self._history: list[tuple[dict[str, tuple[float, float]], Match]] = []
        self._dragged, self._grip, self._panned = "", (0.0, 0.0), False
        self._mouse = (0.0, 0.0)
        self._shaped = not np.allclose(subject.start.betas, subject.guess.betas)
        frame, picture = self._layout(context)
        self._ghost = Ghost(
            image=subject.image,
            body=subject.body,
            figure=subject.figure,
            match=subject.start,
            frame=frame,
            picture=picture,
            pins=dict(subject.pins),
            scale=context.preferences.system.ui_scale,
            region=region.as_pointer(),
        )
        self._ghost.start()
        context.window_manager.modal_handler_add(self)
        context.workspace.status_text_set(_draw_hints)
        self._tell()
        return {"RUNNING_MODAL"}

    def modal(self, context: Context, event: Event) -> set[str]:
        """One event."""
        if self._region.as_pointer() != self._ghost.region or self._area not in context.screen.areas[:]:
            return self._end(context, {"CANCELLED"})
        x, y = event.mouse_x - self._region.x, event.mouse_y - self._region.y
        ghost, pressed = self._ghost, event.value == "PRESS"
        if event.type == "MOUSEMOVE":
            self._move(x, y)
        elif event.type == "LEFTMOUSE":
            self._press(x, y) if pressed else self._release()
        elif event.type == "MIDDLEMOUSE":
            self._panned = pressed
        elif event.type in ("WHEELUPMOUSE", "WHEELDOWNMOUSE", "NUMPAD_PLUS", "NUMPAD_MINUS") and pressed:
            by = 1.2 if event.type in ("WHEELUPMOUSE", "NUMPAD_PLUS") else 1 / 1.2
            ghost.frame, ghost.picture = (zoomed(each, by, (x, y)) for each in (ghost.frame, ghost.picture))
        elif event.type == "TRACKPADPAN":
            self._pan(event.mouse_x - event.mouse_prev_x, event.mouse_y - event.mouse_prev_y)
        elif event.type == "HOME" and pressed:
            ghost.frame, ghost.picture = self._layout(context)
        elif event.type in ("X", "DEL", "BACK_SPACE") and pressed and not self._dragged:
            self._remove()
        elif event.type == "Z" and (event.ctrl or event.oskey) and pressed:
            self._back()
        elif event.type == "R" and pressed and not self._dragged:
            self._note()
            ghost.pins.clear()
            ghost.match = self._subject.guess
        elif event.type == "S" and pressed and not self._dragged:
            self._note()
            self._shaped = not self._shaped
            self._solve()
        elif event.type == "B" and pressed:
            ghost.solid = not ghost.solid
        elif event.type in ("RET", "NUMPAD_ENTER") and pressed:
            self._end(context, {"FINISHED"})
            return self._keep(self._subject, ghost.pins, ghost.match)
        elif event.type == "RIGHTMOUSE" and pressed and self._dragged:
            self._dragged = ""
            self._back()
        elif event.type in ("ESC", "RIGHTMOUSE") and pressed:
            return self._end(context, {"CANCELLED"})
        elif event.type.startswith("TIMER") or event.type == "WINDOW_DEACTIVATE":
            return {"PASS_THROUGH"}
        self._mouse = (x, y)
        self._tell()
        return {"RUNNING_MODAL"}

    def cancel(self, context: Context) -> None:
        """Blender ends it: another file, or the window closed."""
        self._end(context, {"CANCELLED"})

    # -- what events do ------------------------------------------------------------------------------------------

    def _move(self, x: float, y: float) -> None:
        ghost = self._ghost
        if self._panned:
            self._pan(x - self._mouse[0], y - self._mouse[1])
        elif self._dragged:
            ghost.pins[self._dragged] = ghost.to_picture(x + self._grip[0], y + self._grip[1])
            self._solve(live=True)
        else:
            apart = {name: np.hypot(at[0] - x, at[1] - y) for name, at in ghost.handles().items()}
            name = min(apart, key=lambda each: (apart[each], each not in ghost.pins))
            ghost.hovered = name if apart[name] <= _REACH * ghost.scale else ""

    def _press(self, x: float, y: float) -> None:
        ghost = self._ghost
        self._move(x, y)
        if not ghost.hovered:
            return
        self._note()
        self._dragged = ghost.hovered
        at = ghost.handles()[self._dragged]
        self._grip = (at[0] - x, at[1] - y)
        ghost.pins[self._dragged] = ghost.to_picture(*at)
        self._solve(live=True)

    def _release(self) -> None:
        if self._dragged:
            self._dragged = ""
            self._solve()

    def _remove(self) -> None:
        if self._ghost.hovered in self._ghost.pins:
            self._note()
            del self._ghost.pins[self._ghost.hovered]
            self._solve()

    def _pan(self, x: float, y: float) -> None:
        ghost = self._ghost
        ghost.frame, ghost.picture = (moved(each, x, y) for each in (ghost.frame, ghost.picture))

    def _note(self) -> None:
        self._history.append((dict(self._ghost.pins), self._ghost.match))

    def _back(self) -> None:
        if self._history and not self._dragged:
            self._ghost.pins, self._ghost.match = self._history.pop()

    def _solve(self, live: bool = False) -> None:
        ghost, subject = self._ghost, self._subject
        start = ghost.match if ghost.pins else subject.guess
        if not self._shaped:
            start = replace(start, betas=subject.guess.betas)
        shape = subject.guess.betas if self._shaped else None
        width, height = ghost.size
        ghost.match = match_pins(subject.figure, ghost.pins, width, height, start, shape=shape, live=live)

    # -- around it -----------------------------------------------------------------------------------------------

    def _layout(self, context: Context) -> tuple[Rectangle, Rectangle]:
        """The shot's frame around the picture, which is as large as the view's free part allows."""
        region, render = self._region, context.scene.render
        left, right, top = 0, region.width, region.height
        for other in self._area.regions:  # What lies over the view.
            if other.type == "TOOLS" and other.width > 1:
                left = max(left, other.x + other.width - region.x)
            elif other.type == "UI" and other.width > 1:
                right = min(right, other.x - region.x)
            elif other.type in ("HEADER", "TOOL_HEADER") and other.y > region.y + region.height / 2:
                top = min(top, other.y - region.y)
        margin = _MARGIN * context.preferences.system.ui_scale
        free = Rectangle(left + margin, 2 * margin, right - margin, top - margin)
        picture = within(free, *self._subject.image.size)
        shape = render.resolution_x * render.pixel_aspect_x, render.resolution_y * render.pixel_aspect_y
        return around(picture, *shape), picture

    def _tell(self) -> None:
        ghost = self._ghost
        ghost.lines = [*told(ghost.match, ghost.pins), *_aspect(ghost)]
        if self._shaped:
            ghost.lines.append(("The shape is fitted as well, for this picture alone", (1, 1, 1, 0.7)))
        self._area.header_text_set(f"Match to Picture: {ghost.lines[0][0]}")
        self._area.tag_redraw()

    def _end(self, context: Context, result: set[str]) -> set[str]:
        self._ghost.stop()
        self._area.header_text_set(None)
        if context.workspace is not None:
            context.workspace.status_text_set(None)
        self._area.tag_redraw()
        return result

    def _keep(self, subject: _Subject, pins: dict[str, tuple[float, float]], found: Match) -> set[str]:
        kept_matches.keep(subject.kept, subject.image, pins, found)
        fit = f"Matched with {len(pins)} pins, {found.error:.1f} pixels off ({found.share:.1%} of the figure's height)"
        if found.trouble:
            self.report({"WARNING"}, f"{fit}. It is {found.trouble}")
        else:
            self.report({"INFO"}, fit)
        return {"FINISHED"}


class MAQUETTE_OT_clear_match(_OfBody, Operator):
    """Forget pins, pose and camera of this picture; it is taken to show the character at its frame again"""

    bl_idname = "maquette.clear_match"
    bl_label = "Clear Match"
    bl_options = {"REGISTER", "UNDO"}

    def execute(self, context: Context) -> set[str]:
        """Forget it."""
        marks = active_character(context).maquette  # type: ignore[union-attr]
        if self.index >= 0 and chosen(self, marks.references, self.index) is None:
            return {"CANCELLED"}
        kept_matches.forget(kept_matches.entry_of(marks, self.index)[1])
        return {"FINISHED"}


def _aspect(ghost: Ghost) -> list[tuple[str, tuple[float, float, float, float]]]:
    """A line on a picture of another shape than the shot's."""
    width, height = ghost.size
    frame = ghost.frame
    if abs((frame.right - frame.left) / (frame.top - frame.bottom) * height / width - 1) < 0.01:
        return []
    return [("The picture has another shape than the shot: it is used whole, with a camera of its own", (1, 1, 1, 0.7))]


def _draw_hints(header: bpy.types.Header, _context: Context) -> None:
    for icon, text in _HINTS:
        header.layout.label(text=text, icon=icon)


CLASSES = (MAQUETTE_OT_match_picture, MAQUETTE_OT_clear_match)
