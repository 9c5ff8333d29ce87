"""Work on the scene and leave it exactly as found.

Nothing of the scene is switched over: frames are stepped and pictures rendered in a *stage*, a throw-away copy of
the scene that shares its objects. Render settings, view layers, the current frame, the selection, the mode, render
slots and image editors of the scene itself are never touched. What is shared, objects and materials, is changed only
through ``Changes``, which remembers the old value.

Evaluating another frame writes animated values back to the shared objects only where Blender takes a scene for the
one that is edited: because a window shows it, or ``ViewLayer.update`` was called on it. So a stage is evaluated through
its depsgraph alone. But what is changed for a while is evaluated in the scene as well, with its keys, and handlers of
other add-ons may write what they like when they hear of a frame. So animated channels are noted before and put back
after, together with anything the animator has changed but not keyed.

``Scene.frame_set``, and even assigning ``frame_current``, has Blender draw all its windows again, which costs many
times what a frame's evaluation does. A stage goes to a frame without telling anybody, wherever nobody listens.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import bpy

STAGE = "maquette_stage"
"""Custom property that marks a stage."""


class Changes:
    """Values set for a while, undone in reverse order."""

    def __init__(self) -> None:
        self._old: list[tuple[Any, str, Any]] = []
        self._made: list[bpy.types.ID] = []

    def set(self, owner: Any, attribute: str, value: Any) -> None:
        """Set an attribute and remember what it was. Values that are equal already are left alone."""
        old = _plain(getattr(owner, attribute))
        if old != value:
            setattr(owner, attribute, value)
            self._old.append((owner, attribute, old))

    def made(self, datablock: bpy.types.ID) -> None:
        """Note a datablock that has to go at the end."""
        self._made.append(datablock)

    @property
    def new(self) -> tuple[bpy.types.ID, ...]:
        """The datablocks that have to go."""
        return tuple(self._made)

    def undo(self) -> None:
        """Put everything back and remove what was made."""
        if self._made:
            bpy.data.batch_remove(self._made)
            self._made.clear()
        while self._old:
            owner, attribute, old = self._old.pop()
            setattr(owner, attribute, old)


@dataclass(frozen=True, eq=False)
class Stage:
    """A copy of the scene to work in.

    Attributes:
        scene: the copy, with one view layer.
        changes: for what it shares with the scene.
        lobby: an empty scene at the same frame, to call operators from.
    """

    scene: bpy.types.Scene
    changes: Changes
    lobby: bpy.types.Scene

    @property
    def view_layer(self) -> bpy.types.ViewLayer:
        """Its only view layer."""
        return self.scene.view_layers[0]

    @property
    def depsgraph(self) -> bpy.types.Depsgraph:
        """The evaluated stage."""
        return self.view_layer.depsgraph

    def at(self, frame: int) -> bpy.types.Depsgraph:
        """Go to a frame, cameras bound to markers included, and return the evaluated stage."""
        if frame == self.scene.frame_current or others_listen() or self._cuts(frame):
            self.scene.frame_set(frame)
        else:
            _put_frame(self.scene, frame)
            self.depsgraph.update()
        return self.depsgraph

    def update(self) -> None:
        """Evaluate again after a change at the same frame.

        What changed comes with the animated values of the scene's own frame: only ``frame_set`` reads its keys again.
        """
        self.scene.frame_set(self.scene.frame_current)

    @contextmanager
    def from_lobby(self) -> Iterator[None]:
        """In the block, operators may be called that take the stage by its name, and its frame from the context.

        An operator evaluates the view layer in context as one that is edited. No thread of Python may be at work
        meanwhile, see ``aside``.
        """
        _put_frame(self.lobby, self.scene.frame_current)
        with bpy.context.temp_override(scene=self.lobby, view_layer=self.lobby.view_layers[0]):
            yield

    def _cuts(self, frame: int) -> bool:
        """Whether a marker between here and a frame may switch the camera."""
        low, high = sorted((self.scene.frame_current, frame))
        return any(marker.camera is not None and low < marker.frame <= high for marker in self.scene.timeline_markers)


def open_stage(
    scene: bpy.types.Scene,
    view_layer: bpy.types.ViewLayer,
    changes: Changes,
    objects: Iterable[bpy.types.Object],
    name: str = "Maquette Stage",
) -> Stage:
    """Copy a scene, with these objects in it and no others.

    Objects stand in the copy's own collection, so that collections hidden in the viewport do not matter. What they
    depend on (armatures, targets, the camera) is evaluated wherever it is.
    """
    copy = scene.copy()
    changes.made(copy)
    copy.name = name
    copy[STAGE] = True
    copy.maquette.uid = ""  # Results of this scene must not be taken for the stage's.
    layer = copy.view_layers.get(view_layer.name) or copy.view_layers[0]
    for other in [other for other in copy.view_layers if other != layer]:
        copy.view_layers.remove(other)
    root = copy.collection
    for child in list(root.children):
        root.children.unlink(child)
    for obj in list(root.objects):
        root.objects.unlink(obj)
    for obj in objects:
        root.objects.link(obj)
        obj.hide_set(False, view_layer=copy.view_layers[0])
    # It makes the depsgraph, too, and sets the subframe to nought.
    copy.frame_set(scene.frame_current)
    lobby = bpy.data.scenes.new(f"{name} Lobby")
    changes.made(lobby)
    lobby[STAGE] = True
    return Stage(copy, changes, lobby)


def others_listen() -> bool:
    """Whether handlers that are not ours want to know of frames, and may do anything then."""
    handlers = bpy.app.handlers
    heard = (handlers.frame_change_pre, handlers.frame_change_post)
    ours = __name__.rpartition(".scene.")[0]
    return any(not str(getattr(handler, "__module__", "")).startswith(ours) for each in heard for handler in each)


def _put_frame(scene: bpy.types.Scene, frame: int) -> None:
    """Set a scene's frame as a bulk value, of which nobody is told."""
    scenes = bpy.data.scenes
    frames = [0] * len(scenes)
    scenes.foreach_get("frame_current", frames)
    frames[scenes.find(scene.name)] = frame
    scenes.foreach_set("frame_current", frames)


class Keeper:
    """Holds a scene as found while stages of it are evaluated.

    Attributes:
        changes: for what stages share with the scene.
    """

    def __init__(self, scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> None:
        self.scene = scene
        self.view_layer = view_layer
        self.changes = Changes()
        self._images = {image.as_pointer() for image in bpy.data.images}
        self._channels: list[_Channel] = []
        self.note()

    def note(self) -> None:
        """Note the animated values as they stand now."""
        self._channels = _animated_channels(self.scene)

    def settle(self) -> None:
        """Put animated values back that were written over meanwhile, unkeyed ones included."""
        if all(channel.stands() for channel in self._channels):
            return
        scene = self.scene
        if others_listen():  # They may have written more than that, for the stage's frame.
            camera = scene.camera  # A marker's camera would take over.
            scene.frame_set(scene.frame_current, subframe=scene.frame_subframe)
            if scene.camera != camera:
                scene.camera = camera
        for channel in self._channels:
            channel.restore()
        self.view_layer.update()

    def resume(self) -> None:
        """Note the animated values again after somebody else has had their turn."""
        if not bpy.app.background:
            self.note()

    def close(self) -> None:
        """Undo all changes, remove all stages, and evaluate the scene's own frame again."""
        self.changes.undo()
        # A first render leaves "Render Result" behind; an earlier one belongs to the animator.
        for image in [i for i in bpy.data.images if i.type == "RENDER_RESULT" and i.as_pointer() not in self._images]:
            bpy.data.images.remove(image)
        self.view_layer.update()  # What was changed for a while is evaluated anew, with its keys.
        self.settle()


@contextmanager
def scene_kept(scene: bpy.types.Scene, view_layer: bpy.types.ViewLayer) -> Iterator[Keeper]:
    """Leave a scene as found when the block ends, also by an exception."""
    keeper = Keeper(scene, view_layer)
    try:
        yield keeper
    finally:
        keeper.close()


def remove_stages() -> None:
    """Remove stages that nobody works on any more: an undo brings them back from the time of a capture."""
    for scene in [scene for scene in bpy.data.scenes if STAGE in scene]:
        if len(bpy.data.scenes) > 1:
            bpy.data.scenes.remove(scene)


def shown_layer(scene: bpy.types.Scene) -> bpy.types.ViewLayer:
    """The view layer in use: the window's when it shows this scene, else the first that renders."""
    layer = bpy.context.view_layer
    if layer is not None and layer.id_data == scene:
        return layer
    return next((layer for layer in scene.view_layers if layer.use), scene.view_layers[0])


def _plain(value: Any) -> Any:
    """A copy that does not follow its owner, of vectors, colours and arrays."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__len__") or isinstance(value, bpy.types.bpy_struct):
        return value
    return tuple(_plain(item) for item in value)


@dataclass(frozen=True, eq=False)
class _Channel:
    """One animated value as it stood."""

    owner: Any
    attribute: str
    value: Any

    def stands(self) -> bool:
        """Whether the value is what it was."""
        return _plain(self._read()) == self.value

    def restore(self) -> None:
        """Put the value back."""
        if not self.stands():
            if self.attribute.startswith("["):
                self.owner[self.attribute[2:-2]] = self.value
            else:
                setattr(self.owner, self.attribute, self.value)

    def _read(self) -> Any:
        if self.attribute.startswith("["):
            return self.owner[self.attribute[2:-2]]
        return getattr(self.owner, self.attribute)


def _animated_channels(scene: bpy.types.Scene) -> list[_Channel]:
    """Every value that an action writes to, in the scene and what it holds."""
    channels: list[_Channel] = []
    for datablock in animatable(scene):
        animation = datablock.animation_data
        if animation is None:
            continue
        for path in sorted({curve.data_path for curve in curves_of(animation)}):
            try:
                owner, attribute = owner_of(datablock, path)
                channel = _Channel(owner, attribute, None)
                value = _plain(channel._read())
            except (ValueError, KeyError, AttributeError, TypeError):
                continue  # A curve whose target is gone writes nothing either.
            channels.append(_Channel(owner, attribute, value))
    return channels


def animatable(scene: bpy.types.Scene) -> list[bpy.types.ID]:
    """The scene and all that it holds which can have keys."""
    found: dict[bpy.types.ID, None] = {scene: None}
    if scene.world is not None:
        found[scene.world] = None
    for obj in scene.objects:
        found[obj] = None
        if obj.data is not None:
            found[obj.data] = None
            if getattr(obj.data, "shape_keys", None) is not None:
                found[obj.data.shape_keys] = None
        for slot in obj.material_slots:
            if slot.material is not None:
                found[slot.material] = None
                if slot.material.node_tree is not None:
                    found[slot.material.node_tree] = None
    return [datablock for datablock in found if hasattr(datablock, "animation_data")]


def curves_of(animation: bpy.types.AnimData) -> list[bpy.types.FCurve]:
    """F-curves of the active action, and of the strips above it."""
    pairs = [(animation.action, getattr(animation, "action_slot", None))]
    for track in animation.nla_tracks:
        pairs += [(strip.action, getattr(strip, "action_slot", None)) for strip in track.strips]
    curves: list[bpy.types.FCurve] = []
    for action, slot in pairs:
        if action is None:
            continue
        if not hasattr(action, "layers"):  # Until 4.3.
            curves += action.fcurves
        elif slot is not None:
            for layer in action.layers:
                for strip in layer.strips:
                    bag = strip.channelbag(slot)
                    curves += bag.fcurves if bag is not None else []
    return curves


def owner_of(datablock: bpy.types.ID, path: str) -> tuple[Any, str]:
    """The owner of an animated value and the attribute, or the custom property as ``["name"]``."""
    if path.endswith('"]'):
        start = path.rindex('["')
        return (datablock.path_resolve(path[:start]) if start else datablock), path[start:]
    owner, _, attribute = path.rpartition(".")
    return (datablock.path_resolve(owner) if owner else datablock), attribute
