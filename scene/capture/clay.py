"""Bodies in clay, mid grey and dull, in the place of the characters: what a picture shows of them is the light alone.

Nothing of the animator's is repainted. On a stage the characters and what they wear are kept from rendering, and
copies of their evaluated meshes stand in for them, each at one frame alone. What has no mesh (hair curves, volumes) has
no clay either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import bpy
from mathutils import Matrix

from ...backend.shot import Clay, Media
from ..rig.characters import GEOMETRY
from ..stage import Changes, Keeper, Stage, open_stage
from . import render
from .pace import BREATH
from .stills import Pictures
from .surfaces import Shown, shown

FIELD = "clay"
GREY = 0.2140
"""Linear albedo; 0.5 in sRGB."""

_AT_ONCE = 8
"""Frames whose clay stands at once: each has its own copy of the bodies."""
_RAYS = ("visible_diffuse", "visible_glossy", "visible_transmission", "visible_volume_scatter", "visible_shadow")


class ClayBodies:
    """What stands in for characters on one stage."""

    def __init__(self, stage: Stage, bodies: Iterable[bpy.types.Object]) -> None:
        """
        Args:
            bodies: characters and what they wear; from now on the stage evaluates them but renders none of them.
        """
        self._stage = stage
        self._bodies = set(bodies)
        self._material = _clay_material(stage.changes)
        root = stage.scene.collection
        unseen = bpy.data.collections.new("Maquette Clay")
        stage.changes.made(unseen)
        unseen.hide_render = True
        root.children.link(unseen)
        there = set(root.objects)
        for obj in self._bodies:
            if obj in there:
                root.objects.unlink(obj)
            unseen.objects.link(obj)
            obj.hide_set(False, view_layer=stage.view_layer)

    @contextmanager
    def standing(self, frame: int) -> Iterator[None]:
        """While the block runs, let the clay stand where the bodies are at a frame."""
        made = Changes()
        try:
            for _ in self.stand([frame], made):
                pass
            yield
        finally:
            made.undo()

    def stand(self, frames: Sequence[int], made: Changes) -> Iterator[None]:
        """Let the clay stand at some frames, at each where the bodies are then; yields on the way.

        All of it comes at once: whatever comes or goes has Blender draw its windows again.
        """
        for frame in frames:
            depsgraph = self._stage.at(frame)
            for item in shown(depsgraph, lambda obj: obj not in self._bodies):
                self._stand_in(item, depsgraph, made, frame if len(frames) > 1 else None)
            yield
        for obj in [datablock for datablock in made.new if isinstance(datablock, bpy.types.Object)]:
            self._stage.scene.collection.objects.link(obj)
        self._stage.update()
        yield

    def _stand_in(self, item: Shown, depsgraph: bpy.types.Depsgraph, made: Changes, frame: int | None) -> None:
        """Make the clay of one body; it shows at ``frame`` alone, at every frame when None."""
        try:
            mesh = bpy.data.meshes.new_from_object(item.object, depsgraph=depsgraph)
        except RuntimeError:  # Nothing to see, such as an empty text.
            return
        made.made(mesh)
        if not mesh.polygons:
            return
        mesh.materials.clear()
        mesh.materials.append(self._material)
        # Workbench takes colours from these where there are any.
        for name in [attribute.name for attribute in mesh.color_attributes]:
            mesh.color_attributes.remove(mesh.color_attributes[name])
        obj = bpy.data.objects.new("Maquette Clay", mesh)
        made.made(obj)
        obj.matrix_world = Matrix(item.matrix.tolist())
        obj.color = (GREY, GREY, GREY, 1.0)
        for ray in _RAYS:
            setattr(obj, ray, getattr(item.object, ray))
        if frame is not None:
            obj.driver_add("hide_render").driver.expression = f"frame != {frame}"


def scene_clay(
    keeper: Keeper,
    bodies: Sequence[bpy.types.Object],
    objects: Iterable[bpy.types.Object] | None,
    frames: Sequence[int],
    pictures: Pictures,
) -> Iterator[object]:
    """Render the bodies in clay, one PNG a frame; a single picture when nothing changes.

    Args:
        bodies: characters and what they wear.
        objects: the background's objects and lights, which surround the clay too; None for the bodies alone, under
            the scene's lights on transparent ground.
        frames: the shot's frames.

    Yields:
        None after each frame, ``BREATH`` between, and the clay at the end.
    """
    engine = pictures.engine
    surroundings = objects is not None
    if objects is None:
        objects = [o for o in keeper.scene.objects if engine == "SCENE" and o.type not in GEOMETRY]
    stage = open_stage(keeper.scene, keeper.view_layer, keeper.changes, objects, "Maquette Clay")
    side = render.film_side(keeper.scene)
    # Before the bodies come in: their looks must not change how Workbench colours the set.
    pictures.set_up(stage, transparent=not surroundings, side=side)
    if engine == "WORKBENCH" and surroundings:
        render.show_base_colours(stage.scene.objects, keeper.changes)
        render.show_world_colour(stage)
    clay = ClayBodies(stage, bodies)
    made: list[Media] = []
    known = pictures.known(FIELD)
    for first in range(0, len(frames), _AT_ONCE):
        some = frames[first : first + _AT_ONCE]
        standing = Changes()
        try:
            for _ in clay.stand([frame for frame in some if frame not in known], standing):
                yield BREATH
            for picture in pictures.take(FIELD, stage, some, FIELD):
                made.append(picture)
                yield None
        finally:
            standing.undo()
    pictures.note(FIELD, made)
    if all(picture.data == made[0].data for picture in made):
        made = made[:1]
    yield Clay(tuple(made), surroundings)


def _clay_material(changes: Changes) -> bpy.types.Material:
    material = bpy.data.materials.new("Maquette Clay")
    changes.made(material)
    material.diffuse_color = (GREY, GREY, GREY, 1.0)
    material.roughness, material.metallic, material.specular_intensity = 1.0, 0.0, 0.0
    if bpy.app.version < (5, 0):
        material.use_nodes = True
    tree = material.node_tree
    tree.nodes.clear()
    shader = tree.nodes.new("ShaderNodeBsdfDiffuse")
    shader.inputs["Color"].default_value = (GREY, GREY, GREY, 1.0)
    shader.inputs["Roughness"].default_value = 0.0
    tree.links.new(shader.outputs[0], tree.nodes.new("ShaderNodeOutputMaterial").inputs[0])
    return material
