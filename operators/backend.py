"""The backend: trying the connection, installing, starting and stopping the local one, and weights for its models."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import bpy
from bpy.props import StringProperty
from bpy.types import Context, Event, Operator

from ..scene import folders
from ..scene.job import backends, fetching, models
from ..scene.job.reports import reason
from .answers import possible, refused, refusing


class MAQUETTE_OT_test_connection(Operator):
    """Ask the backend who it is and which models it has"""

    bl_idname = "maquette.test_connection"
    bl_label = "Test Connection"

    def execute(self, context: Context) -> set[str]:
        """Begin; the answer appears in the preferences."""
        view = context.window_manager.maquette.backend
        try:
            backends.start_test()
        except backends.BackendProblem as error:
            view.test_state, view.test_message = "ERROR", str(error)
            return refused(self, str(error))
        return {"FINISHED"}


class MAQUETTE_OT_install_backend(Operator):
    """Install the backend on this computer, in an environment of its own that Blender's Python never sees"""

    bl_idname = "maquette.install_backend"
    bl_label = "Install Backend"

    def invoke(self, context: Context, event: Event) -> set[str]:
        """Ask first: it takes time and space, and Blender must be allowed to go online."""
        return context.window_manager.invoke_props_dialog(
            self, title="Install Backend", confirm_text="Install", width=420
        )

    def draw(self, context: Context) -> None:
        """What it costs, and where Blender is offline its own switch."""
        column = self.layout.column(align=True)
        for line in textwrap.wrap(backends.INSTALL_WORDS, 60):
            column.label(text=line)
        if not bpy.app.online_access:
            self.layout.label(text="Blender is offline, and the backend has to be downloaded", icon="ERROR")
        system = context.preferences.system
        self.layout.prop(system, "use_online_access", text="Allow Online Access", icon="INTERNET", toggle=True)

    def execute(self, context: Context) -> set[str]:
        """Begin; progress is shown in the preferences and in the Shot panel."""
        if not bpy.app.online_access:
            return refused(
                self,
                "Blender is offline, so nothing can be downloaded. Turn on Preferences > System > Network > Allow "
                "Online Access, or point Existing Python at an environment that has the backend",
            )
        status = backends.local().install()
        if status.state != "installing":
            return refused(self, status.message or "The backend is installed already")
        backends.poll()
        return {"FINISHED"}


class MAQUETTE_OT_cancel_install(Operator):
    """Stop the installation; installing again completes it"""

    bl_idname = "maquette.cancel_install"
    bl_label = "Cancel"

    def execute(self, context: Context) -> set[str]:
        """Ask pip to stop."""
        backends.local().cancel()
        backends.poll()
        return {"FINISHED"}


class MAQUETTE_OT_start_backend(Operator):
    """Start the backend on this computer"""

    bl_idname = "maquette.start_backend"
    bl_label = "Start"

    @refusing(backends.BackendProblem)
    def execute(self, context: Context) -> set[str]:
        """Begin; ``Generate`` does this by itself when it has to."""
        backends.start_local()
        backends.poll()
        return {"FINISHED"}


class MAQUETTE_OT_stop_backend(Operator):
    """Stop the backend on this computer and free its memory; its jobs are kept"""

    bl_idname = "maquette.stop_backend"
    bl_label = "Stop"

    def execute(self, context: Context) -> set[str]:
        """Ask it to stop."""
        backends.local().stop()
        backends.poll()
        return {"FINISHED"}


class MAQUETTE_OT_open_log(Operator):
    """Show what the local backend, or its installation, has printed"""

    bl_idname = "maquette.open_log"
    bl_label = "Open Log"

    def execute(self, context: Context) -> set[str]:
        """Open the newest log in the computer's own viewer."""
        logs = [backends.local().log, backends.local().folder / "install.log"]
        logs = sorted((log for log in logs if log.is_file()), key=lambda log: log.stat().st_mtime)
        if not logs:
            return refused(self, "There is no log yet")
        bpy.ops.wm.path_open(filepath=str(logs[-1]))
        return {"FINISHED"}


class MAQUETTE_OT_open_preferences(Operator):
    """Open the add-on's preferences"""

    bl_idname = "maquette.open_preferences"
    bl_label = "Backend Settings"

    def execute(self, context: Context) -> set[str]:
        """Show the add-on in the preferences window."""
        return bpy.ops.preferences.addon_show(module=folders.ADDON)


class MAQUETTE_OT_get_models(Operator):
    """Show in the preferences which models the backend cannot run, and what each lacks"""

    bl_idname = "maquette.get_models"
    bl_label = "Get Models"

    @classmethod
    def description(cls, context: Context, properties: MAQUETTE_OT_get_models) -> str:
        """Which these are."""
        names = [model.label for model in models.everyone() if model.state == "MISSING"]
        how = "The preferences say what each lacks, and Download there has the backend fetch it"
        return f"{', '.join(names)}\n\n{how}" if names else str(cls.__doc__)

    def execute(self, context: Context) -> set[str]:
        """Show the add-on's preferences, with the models."""
        return bpy.ops.preferences.addon_show(module=folders.ADDON)


class _Fetch:
    """Shared: one download at a time, and none where Blender may not go online."""

    @classmethod
    def poll(cls, context: Context) -> bool:
        """One at a time."""
        return possible(cls, not fetching.beside.busy(), "Another model is being downloaded")

    def _begun(self, begin: Callable[[], None]) -> set[str]:
        if not bpy.app.online_access:
            return refused(
                self,
                "Blender is offline, so nothing can be downloaded. Turn on Preferences > System > Network > Allow "
                "Online Access, or add the files by 'maquette models add'",
            )
        try:
            begin()
        except (OSError, backends.BackendProblem) as error:
            return refused(self, reason(error))
        return {"FINISHED"}


class MAQUETTE_OT_fetch_model(_Fetch, Operator):
    """Show who publishes what this model needs, its licence and size; nothing comes before you have agreed"""

    bl_idname = "maquette.fetch_model"
    bl_label = "Download"

    model: StringProperty(name="Model", description="Id of the model", options={"SKIP_SAVE"})

    def execute(self, context: Context) -> set[str]:
        """Ask; the answer is shown beneath the model."""
        found = models.find(self.model)
        if not fetching.can(found):
            return refused(self, f"{found.label} is here already, or not published, or no backend is installed")
        return self._begun(lambda: fetching.ask(found.id))


class MAQUETTE_OT_agree_fetch(_Fetch, Operator):
    """Agree to these licences and sizes, and have the backend download the model"""

    bl_idname = "maquette.agree_fetch"
    bl_label = "Agree and Download"

    def execute(self, context: Context) -> set[str]:
        """Begin; progress is shown in the preferences."""
        return self._begun(fetching.start)


class MAQUETTE_OT_dismiss_fetch(Operator):
    """Download nothing now"""

    bl_idname = "maquette.dismiss_fetch"
    bl_label = "Not Now"

    def execute(self, context: Context) -> set[str]:
        """Show it no longer."""
        fetching.dismiss()
        return {"FINISHED"}


class MAQUETTE_OT_cancel_fetch(Operator):
    """Stop the download; downloading again goes on from there"""

    bl_idname = "maquette.cancel_fetch"
    bl_label = "Cancel Download"

    def execute(self, context: Context) -> set[str]:
        """Ask it to stop."""
        fetching.beside.cancel()
        return {"FINISHED"}


class MAQUETTE_OT_open_results_folder(Operator):
    """Show the folder where this file's finished videos go"""

    bl_idname = "maquette.open_results_folder"
    bl_label = "Open Results Folder"

    def execute(self, context: Context) -> set[str]:
        """Open it, made if missing."""
        try:
            folder: Path = folders.results_folder()
        except OSError as error:
            return refused(self, f"The results folder cannot be made: {error}")
        bpy.ops.wm.path_open(filepath=str(folder))
        return {"FINISHED"}


CLASSES = (
    MAQUETTE_OT_test_connection,
    MAQUETTE_OT_install_backend,
    MAQUETTE_OT_cancel_install,
    MAQUETTE_OT_start_backend,
    MAQUETTE_OT_stop_backend,
    MAQUETTE_OT_open_log,
    MAQUETTE_OT_open_preferences,
    MAQUETTE_OT_get_models,
    MAQUETTE_OT_fetch_model,
    MAQUETTE_OT_agree_fetch,
    MAQUETTE_OT_dismiss_fetch,
    MAQUETTE_OT_cancel_fetch,
    MAQUETTE_OT_open_results_folder,
)
