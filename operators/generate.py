"""Sending the shot to the backend, and what can be done about the job on its way."""

from __future__ import annotations

from typing import Any

import bpy
from bpy.props import BoolProperty, EnumProperty, IntProperty, StringProperty
from bpy.types import Context, Event, Operator

from ..backend.client import events as ev
from ..backend.client import state as s
from ..scene.job import effects, preview
from ..scene.job.farm import parts, performers
from .answers import possible, refused


class MAQUETTE_OT_generate(Operator):
    """Capture this scene's shot and have its video made"""

    bl_idname = "maquette.generate"
    bl_label = "Generate"
    bl_options = {"REGISTER"}

    wait: BoolProperty(
        name="Wait",
        description="Return only when the video is here, for scripts; the window stands still meanwhile",
        default=False,
        options={"SKIP_SAVE"},
    )

    def execute(self, context: Context) -> set[str]:
        """Start the job; with ``wait`` see it through. Errors are reported."""
        if self.wait and effects.busy():
            return refused(self, "A job is under way already: wait for it, or cancel it")
        preview.runner.cancel()
        if context.screen is not None and context.screen.is_animation_playing:
            # Playing on would take the time that the capture needs.
            bpy.ops.screen.animation_cancel(restore_frame=False)
        job = effects.generate(context.scene)
        if not self.wait:
            # What is wrong from the start is said by the operator itself; the rest comes from the timer.
            return _said(self, job.state) if not job.state.busy else {"FINISHED"}
        try:
            effects.wait()
        except KeyboardInterrupt:
            effects.runner.dispatch(ev.Cancel())
            effects.wait()
        return _said(self, effects.runner.state)


class MAQUETTE_OT_generate_all(Operator):
    """Capture every shot of this file, one after the other, and have all their videos made: each scene, cut where \
markers change the camera"""

    bl_idname = "maquette.generate_all"
    bl_label = "Generate All Shots"
    bl_options = {"REGISTER"}

    def execute(self, context: Context) -> set[str]:
        """Start a job for each; what is wrong with one does not stop the others."""
        found = [(scene, part) for scene in bpy.data.scenes if performers(scene) for part in parts(scene)]
        if not found:
            return refused(self, "Nobody performs in any scene of this file: add a body, or tick Is a Character")
        preview.runner.cancel()
        begun = 0
        for scene, part in found:
            state = effects.generate(scene, part).state
            begun += state.busy
            if not state.busy:
                self.report({"WARNING"}, f"{scene.name}: {state.message}")
        self.report({"INFO"}, f"Shots that wait to be captured: {begun}")
        return {"FINISHED"} if begun else {"CANCELLED"}


class MAQUETTE_OT_change_queue(Operator):
    """Change the order of the jobs that wait, or take one of them out"""

    bl_idname = "maquette.change_queue"
    bl_label = "Change Queue"
    bl_options = {"INTERNAL"}

    place: IntProperty(name="Place", description="In the list of waiting jobs, from 0", options={"SKIP_SAVE"})
    change: EnumProperty(
        name="Change",
        description="What becomes of the job",
        items=(
            ("UP", "Move Up", "Have this job run before the one in front of it"),
            ("CANCEL", "Cancel", "Take this job out of the list"),
            ("AGAIN", "Try Again", "Have this job, which has failed, wait for its turn again"),
        ),
        options={"SKIP_SAVE"},
    )

    @classmethod
    def description(cls, context: Context, properties: Any) -> str:
        """What the button does."""
        return cls.bl_rna.properties["change"].enum_items[properties.change].description

    def execute(self, context: Context) -> set[str]:
        """Change it."""
        if not 0 <= self.place < len(effects.queue):
            return refused(self, f"No job waits at place {self.place}")
        {"UP": effects.move_up, "CANCEL": effects.cancel, "AGAIN": effects.try_again}[self.change](self.place)
        return {"FINISHED"}


class MAQUETTE_OT_cancel(Operator):
    """Cancel the job: at the backend too, which stops within one step"""

    bl_idname = "maquette.cancel"
    bl_label = "Cancel"
    bl_options = {"REGISTER"}

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Only while a job is under way."""
        return possible(cls, effects.runner.state.busy, "No job is under way")

    def execute(self, context: Context) -> set[str]:
        """Ask for the cancel; the job's state tells when it has happened."""
        effects.runner.dispatch(ev.Cancel())
        effects.poll()
        return {"FINISHED"}


class MAQUETTE_OT_resume_job(Operator):
    """Follow the job again, or send its shot once more when the backend does not have it"""

    bl_idname = "maquette.resume_job"
    bl_label = "Try Again"
    bl_options = {"REGISTER"}

    wait: BoolProperty(name="Wait", description="Return only when the video is here", options={"SKIP_SAVE"})

    @classmethod
    def poll(cls, context: Context) -> bool:
        """Only after a job has failed that can be taken up."""
        return possible(cls, effects.runner.state.resumable, "There is no job to take up")

    def execute(self, context: Context) -> set[str]:
        """Take the job up again."""
        effects.runner.dispatch(ev.Resume())
        effects.poll()
        if self.wait:
            effects.wait()
            return _said(self, effects.runner.state)
        return {"FINISHED"}


class MAQUETTE_OT_dismiss(Operator):
    """Clear away the message about the last job"""

    bl_idname = "maquette.dismiss"
    bl_label = "Dismiss"
    bl_options = {"INTERNAL"}

    def execute(self, context: Context) -> set[str]:
        """Back to idle; then offer a job that an earlier session left behind, if there is another."""
        effects.runner.dispatch(ev.Dismiss())
        effects.take_up(follow=not bpy.app.background)
        effects.poll()
        return {"FINISHED"}


class MAQUETTE_OT_tell(Operator):
    """Show a message in the status bar"""

    bl_idname = "maquette.tell"
    bl_label = "Maquette"
    bl_options = {"INTERNAL"}

    level: EnumProperty(
        name="Level",
        description="How it is shown",
        items=(
            ("INFO", "Info", "Something to know"),
            ("WARNING", "Warning", "Something to look at"),
            ("ERROR", "Error", "Something that did not work"),
        ),
    )
    message: StringProperty(name="Message", description="What is shown")

    def invoke(self, context: Context, event: Event) -> set[str]:
        """Report from within Blender's own event loop: what a timer reports is not shown."""
        context.window_manager.modal_handler_add(self)
        return {"RUNNING_MODAL"}

    def modal(self, context: Context, event: Event) -> set[str]:
        """Report, and let the event pass."""
        self.report({self.level}, self.message)
        return {"FINISHED", "PASS_THROUGH"}

    def execute(self, context: Context) -> set[str]:
        """Report at once."""
        self.report({self.level}, self.message)
        return {"FINISHED"}


def _said(operator: Operator, state: s.JobState) -> set[str]:
    """Report how the job ended; returns the operator's result."""
    effects.runner.notices.clear()
    if state.phase is s.Phase.DONE:
        # Of several models some may have failed.
        whole = all(outcome.phase is s.Phase.DONE for outcome in state.outcomes)
        operator.report({"INFO"} if whole else {"WARNING"}, state.message)
        return {"FINISHED"}
    if state.phase is s.Phase.CANCELLED:
        operator.report({"WARNING"}, state.message)
        return {"CANCELLED"}
    return refused(operator, state.message)


CLASSES = (
    MAQUETTE_OT_generate,
    MAQUETTE_OT_generate_all,
    MAQUETTE_OT_change_queue,
    MAQUETTE_OT_cancel,
    MAQUETTE_OT_resume_job,
    MAQUETTE_OT_dismiss,
    MAQUETTE_OT_tell,
)
KEYS = (("Screen", "EMPTY", MAQUETTE_OT_generate.bl_idname, "F12", {"ctrl": True, "shift": True}),)
