"""A character's own picture over a 3D view, the body as it is matched to it, and the pins between both.

The picture is laid out in the region alone: the view, the camera and the scene are not touched.

Shape letters: V vertices, F triangles, J joints, P spots.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np

from ...backend.bodies import BodyModel
from ...backend.bodies.matching import GOOD, SPOTS, Figure, Match, label, spots_of
from ..capture.media import pixels
from .colour import LINEAR
from .frame import Rectangle

_SIDE = 2048
"""Pixels of the picture's longest side that are drawn."""
_BODY_OPACITY = 0.5
_DIM = (0.02, 0.02, 0.02, 0.8)
_BARS = (0.0, 0.0, 0.0, 0.55)
_FRAME = (1.0, 1.0, 1.0, 0.5)
_LEFT, _RIGHT, _MIDDLE = (0.95, 0.35, 0.3), (0.3, 0.6, 1.0), (1.0, 0.85, 0.3)
_WHITE, _GREEN = (1.0, 1.0, 1.0, 1.0), (0.4, 0.9, 0.4, 1.0)
_ORANGE, _RED = (1.0, 0.75, 0.2, 1.0), (1.0, 0.35, 0.3, 1.0)
_SIDES = ("Left, in red, is the figure's own left", _WHITE)
_LIMBS = (
    ("head", "nose"),
    ("left_shoulder", "right_shoulder"),
    ("left_hip", "right_hip"),
    *(
        (f"{side}_{a}", f"{side}_{b}")
        for side in ("left", "right")
        for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("wrist", "hand"), ("shoulder", "hip"), ("hip", "knee"),
                     ("knee", "ankle"), ("ankle", "toes"))
    ),
)  # fmt: skip
_VERTEX = """
void main()
{
  place = pos;
  gl_Position = vec4(pos.xy * vec2(scale.x, -scale.y) + offset * pos.z, pos.z * depth.x - depth.y, pos.z);
}
"""
_FRAGMENT = """
void main()
{
  vec3 normal = normalize(cross(dFdx(place), dFdy(place)));
  float lit = 0.35 + 0.65 * abs(normal.z);
  color = vec4(vec3(0.55, 0.75, 0.95) * lit, 1.0);
}
"""
_PICTURE_VERTEX = """
void main()
{
  place = at;
  gl_Position = vec4(pos, 0.0, 1.0);
}
"""
_PICTURE = (
    LINEAR
    + """
void main()
{
  vec4 c = texture(image, place);
  color = vec4(linear(c.rgb), c.a * opacity);
}
"""
)


@dataclass(eq=False)
class Ghost:
    """What is drawn. Change its fields and redraw the region.

    Attributes:
        image: the picture.
        body: the model of the character's body.
        figure: the body's, for its spots.
        match: how the body stands in the picture now.
        frame: where in the region the shot's frame lies.
        picture: where the picture lies.
        pins: pixels of the picture.
        hovered: the spot under the mouse.
        solid: whether the body's surface is drawn.
        scale: of the interface.
        lines: what is told, each with its colour.
        region: the only one to draw in, by its pointer.
    """

    image: bpy.types.Image
    body: BodyModel
    figure: Figure
    match: Match
    frame: Rectangle
    picture: Rectangle
    pins: dict[str, tuple[float, float]] = field(default_factory=dict)
    hovered: str = ""
    solid: bool = True
    scale: float = 1.0
    lines: list[tuple[str, tuple[float, float, float, float]]] = field(default_factory=list)
    region: int = 0

    def __post_init__(self) -> None:
        self._handle: Any = None
        self._shaders: dict[str, Any] = {}
        self._texture: Any = None
        self._offscreen: Any = None
        self._shape: tuple[Match, Any] | None = None
        self._skin = _Skin(self.body)

    # -- places --------------------------------------------------------------------------------------------------

    @property
    def size(self) -> tuple[int, int]:
        """Pixels of the picture."""
        return self.image.size[0], self.image.size[1]

    def to_region(self, places: np.ndarray) -> np.ndarray:
        """Pixels of the picture (...,2), from its upper left corner, as pixels of the region from its lower left."""
        frame, (width, height) = self.picture, self.size
        share = np.asarray(places, dtype=np.float64) / (width, height)
        low, across = np.array((frame.left, frame.top)), (frame.right - frame.left, frame.bottom - frame.top)
        return low + share * across

    def to_picture(self, x: float, y: float) -> tuple[float, float]:
        """Pixel of the picture at a pixel of the region; of what lies beyond the picture the nearest one."""
        frame, (width, height) = self.picture, self.size
        across = (x - frame.left) / (frame.right - frame.left) * width
        down = (frame.top - y) / (frame.top - frame.bottom) * height
        return float(np.clip(across, 0, width)), float(np.clip(down, 0, height))

    def handles(self) -> dict[str, np.ndarray]:
        """Where in the region each spot can be taken hold of: at its pin, else on the body."""
        spots = self.to_region(spots_of(self.figure, self.match, *self.size))
        found = dict(zip(SPOTS, spots, strict=True))
        return found | {name: self.to_region(np.array(at)) for name, at in self.pins.items()}

    # -- drawing -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Draw from now on."""
        if self._handle is None and not bpy.app.background:
            self._handle = bpy.types.SpaceView3D.draw_handler_add(self._draw, (), "WINDOW", "POST_PIXEL")

    def stop(self) -> None:
        """Draw no more."""
        if self._handle is not None:
            bpy.types.SpaceView3D.draw_handler_remove(self._handle, "WINDOW")
        self._handle = self._texture = self._offscreen = self._shape = None
        self._shaders.clear()

    def _draw(self) -> None:
        region = bpy.context.region
        if region is None or region.as_pointer() != self.region:
            return
        import gpu

        blend, depth = gpu.state.blend_get(), gpu.state.depth_test_get()
        gpu.state.depth_test_set("NONE")
        gpu.state.blend_set("ALPHA")
        _fill(Rectangle(0, 0, region.width, region.height), _DIM)
        _fill(self.frame, _BARS)
        self._draw_picture(region)
        _outline(self.frame, _FRAME)
        if self.solid:
            self._draw_body(region)
        self._draw_pins()
        self._draw_text()
        gpu.state.blend_set(blend)
        gpu.state.depth_test_set(depth)

    def _draw_picture(self, region: bpy.types.Region) -> None:
        import gpu

        if self._texture is None:
            values = pixels(self.image)[::-1].astype(np.float32) / 255
            step = -(-max(values.shape[:2]) // _SIDE)
            values = np.ascontiguousarray(values[::step, ::step])
            rows, columns = values.shape[:2]
            buffer = gpu.types.Buffer("FLOAT", rows * columns * 4, values.reshape(-1))
            self._texture = gpu.types.GPUTexture((columns, rows), format="RGBA8", data=buffer)
        self._lay(self._texture, self.picture, region, 1.0)

    def _draw_body(self, region: bpy.types.Region) -> None:
        import gpu

        size = (region.width, region.height)
        if self._offscreen is None or (self._offscreen.width, self._offscreen.height) != size:
            self._offscreen = gpu.types.GPUOffScreen(*size)
        if self._shape is None or self._shape[0] is not self.match:
            from gpu_extras.batch import batch_for_shader

            places = self._skin.pose(self.match)
            batch = batch_for_shader(self._program("body"), "TRIS", {"pos": places}, indices=self.body.faces)
            self._shape = (self.match, batch)
        frame, (width, height) = self.picture, self.size
        wide, high = frame.right - frame.left, frame.top - frame.bottom
        focal = self.match.focal * max(width, height)
        middle = np.array(((frame.left + frame.right) / size[0] - 1, (frame.bottom + frame.top) / size[1] - 1))
        scale = 2 * focal * np.array((wide / width / size[0], high / height / size[1]))
        near, far = 0.05, 100.0
        shader = self._program("body")
        with self._offscreen.bind():
            gpu.state.active_framebuffer_get().clear(color=(0, 0, 0, 0), depth=1.0)
            gpu.state.blend_set("NONE")
            gpu.state.depth_test_set("LESS_EQUAL")
            gpu.state.depth_mask_set(True)
            shader.bind()
            shader.uniform_float("scale", scale)
            shader.uniform_float("offset", middle)
            shader.uniform_float("depth", ((far + near) / (far - near), 2 * far * near / (far - near)))
            self._shape[1].draw(shader)
            gpu.state.depth_mask_set(False)
            gpu.state.depth_test_set("NONE")
        gpu.state.blend_set("ALPHA")
        self._lay(self._offscreen.texture_color, Rectangle(0, 0, *size), region, _BODY_OPACITY)

    def _draw_pins(self) -> None:
        body = dict(zip(SPOTS, self.to_region(spots_of(self.figure, self.match, *self.size)), strict=True))
        for a, b in _LIMBS:
            _line([body[a], body[b]], (*_colour(b), 0.9), 2 * self.scale)
        for name, at in self.handles().items():
            pinned, hovered = name in self.pins, name == self.hovered
            if pinned:
                _line([at, body[name]], _WHITE, self.scale)
            radius = (7 if pinned else 5) * self.scale * (1.4 if hovered else 1)
            _disc(at, radius + 1.5 * self.scale, (0, 0, 0, 0.8))
            _disc(at, radius, (*_colour(name), 1) if pinned else _WHITE)
            if not pinned:
                _disc(at, radius - 2 * self.scale, (*_colour(name), 1))
            if hovered:
                off = f", {self.match.errors[name]:.0f} px off" if name in self.match.errors else ""
                _text(label(name) + off, at + 12 * self.scale, 13 * self.scale, _WHITE)

    def _draw_text(self) -> None:
        up = 20 * self.scale
        for text, colour in reversed(self.lines):  # At the bottom: Blender's own text is at the top.
            _text(text, np.array((60 * self.scale, up)), 14 * self.scale, colour)
            up += 22 * self.scale

    def _lay(self, texture: Any, frame: Rectangle, region: bpy.types.Region, opacity: float) -> None:
        from gpu_extras.batch import batch_for_shader

        corners = np.array(_corners(frame)) / (region.width, region.height) * 2 - 1
        shader = self._program("picture")
        at = {"pos": corners.tolist(), "at": [(0, 0), (1, 0), (1, 1), (0, 1)]}
        batch = batch_for_shader(shader, "TRI_FAN", at)
        shader.bind()
        shader.uniform_sampler("image", texture)
        shader.uniform_float("opacity", opacity)
        batch.draw(shader)

    def _program(self, kind: str) -> Any:
        """The shader of the ``body`` or of a ``picture``."""
        if kind not in self._shaders:
            import gpu

            info = gpu.types.GPUShaderCreateInfo()
            passed = gpu.types.GPUStageInterfaceInfo(f"maquette_ghost_{kind}")
            if kind == "body":
                passed.smooth("VEC3", "place")
                info.vertex_in(0, "VEC3", "pos")
                for name in ("scale", "offset", "depth"):
                    info.push_constant("VEC2", name)
            else:
                passed.smooth("VEC2", "place")
                info.vertex_in(0, "VEC2", "pos")
                info.vertex_in(1, "VEC2", "at")
                info.sampler(0, "FLOAT_2D", "image")
                info.push_constant("FLOAT", "opacity")
            info.vertex_out(passed)
            info.fragment_out(0, "VEC4", "color")
            info.vertex_source(_VERTEX if kind == "body" else _PICTURE_VERTEX)
            info.fragment_source(_FRAGMENT if kind == "body" else _PICTURE)
            self._shaders[kind] = gpu.shader.create_from_info(info)
        return self._shaders[kind]


class _Skin:
    """A body's vertices by the turns of its joints alone, fast enough to follow the mouse."""

    def __init__(self, body: BodyModel) -> None:
        self._body = body
        self._betas: np.ndarray | None = None
        self._spread = np.zeros(0)

    def pose(self, match: Match) -> np.ndarray:
        """(V,3) float32 in the camera's frame."""
        body = self._body
        if self._betas is None or not np.array_equal(self._betas, match.betas):
            shaped = np.column_stack([body.shaped(match.betas), np.ones(len(body.v_template), dtype=np.float32)])
            self._spread = (body.weights[:, :, None] * shaped[:, None]).reshape(len(shaped), -1)
            self._betas = match.betas
        world = body.forward_kinematics(match.betas, match.poses[None], match.trans[None])[0, :, :3]
        turned = (world[:, :, :3] @ body.joints_rest(match.betas)[..., None])[..., 0]
        world[:, :, 3] -= turned
        return self._spread @ world.transpose(0, 2, 1).reshape(-1, 3)


def told(match: Match, pins: Mapping[str, object]) -> list[tuple[str, tuple[float, float, float, float]]]:
    """How well a match fits its pins, in words, each line with its colour."""
    if not pins:
        return [("Drag the body's handles onto the picture: head, hands, feet, hips, shoulders", _WHITE), _SIDES]
    count = f"{len(pins)} pins" if len(pins) > 1 else "1 pin"
    fit = f"{count}: {match.error:.1f} pixels off, {match.share:.1%} of the figure's height"
    if match.trouble:
        return [(fit, _RED), (f"It is {match.trouble}", _RED), _SIDES]
    lines = [(fit, _GREEN if match.share <= GOOD else _ORANGE)]
    if len(pins) < 6:
        lines.append(("Few pins: where none is, the pose is a guess", _ORANGE))
    return lines


def _colour(name: str) -> tuple[float, float, float]:
    return _LEFT if name.startswith("left") else _RIGHT if name.startswith("right") else _MIDDLE


def _shader_of(name: str) -> Any:
    import gpu

    return gpu.shader.from_builtin(name)


def _fill(frame: Rectangle, colour: tuple[float, ...]) -> None:
    from gpu_extras.batch import batch_for_shader

    shader = _shader_of("UNIFORM_COLOR")
    batch = batch_for_shader(shader, "TRI_FAN", {"pos": _corners(frame)})
    shader.uniform_float("color", colour)
    batch.draw(shader)


def _outline(frame: Rectangle, colour: tuple[float, ...]) -> None:
    corners = _corners(frame)
    _line([*corners, corners[0]], colour, 1.0)


def _line(places: Any, colour: tuple[float, ...], width: float) -> None:
    import gpu
    from gpu_extras.batch import batch_for_shader

    shader = _shader_of("POLYLINE_UNIFORM_COLOR")
    batch = batch_for_shader(shader, "LINE_STRIP", {"pos": [(float(x), float(y), 0.0) for x, y in places]})
    shader.bind()
    shader.uniform_float("viewportSize", gpu.state.viewport_get()[2:])
    shader.uniform_float("lineWidth", width)
    shader.uniform_float("color", colour)
    batch.draw(shader)


def _disc(at: np.ndarray, radius: float, colour: tuple[float, ...]) -> None:
    from gpu_extras.batch import batch_for_shader

    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    around = at + radius * np.column_stack([np.cos(angles), np.sin(angles)])
    shader = _shader_of("UNIFORM_COLOR")
    batch = batch_for_shader(shader, "TRI_FAN", {"pos": around.tolist()})
    shader.uniform_float("color", colour)
    batch.draw(shader)


def _text(text: str, at: np.ndarray, size: float, colour: tuple[float, ...]) -> None:
    import blf

    blf.size(0, size)
    wide, high = blf.dimensions(0, text)
    x, y, pad = float(at[0]), float(at[1]), 0.35 * size
    _fill(Rectangle(x - pad, y - pad, x + wide + pad, y + high + pad), (0.0, 0.0, 0.0, 0.6))
    blf.color(0, *colour)
    blf.position(0, x, y, 0)
    blf.draw(0, text)


def _corners(frame: Rectangle) -> list[tuple[float, float]]:
    return [
        (frame.left, frame.bottom), (frame.right, frame.bottom), (frame.right, frame.top), (frame.left, frame.top),
    ]  # fmt: skip
