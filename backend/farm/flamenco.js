// SPDX-License-Identifier: GPL-3.0-or-later
// A job type of Flamenco 3: lay this file into the folder "scripts" beside Flamenco Manager.

const JOB_TYPE = {
  label: "Maquette",
  description: "Blender captures shots, a backend makes a film of each, and a table and a contact sheet tell of all",
  settings: [
    { key: "bundle", type: "string", subtype: "dir_path", required: true,
      description: "The bundle's folder, where all workers find it" },
    { key: "blend", type: "string", subtype: "file_path", default: "",
      description: "The .blend file of the shots that are yet to be captured" },
    { key: "captures", type: "string", default: "[]", visible: false,
      description: "JSON: shot, scene, start and end of each" },
    { key: "films", type: "string", required: true, visible: false,
      description: "JSON: name of each task, the shot that it is made of, and whether it is a draft" },
    { key: "gpus", type: "int32", default: 1,
      description: "GPUs of a worker that make each film together; a draft needs none" },
    { key: "expression", type: "string", default: "", visible: false, description: "What Blender runs" },
    { key: "blender", type: "string", default: "{blender}", description: "Blender on the workers" },
    { key: "maquette", type: "string", default: "maquette", description: "Maquette's command on the workers" },
  ],
};

function compileJob(job) {
  const settings = job.settings;
  const bundle = settings.bundle.replace(/[\\/]+$/, "");
  const captured = {};
  for (const each of JSON.parse(settings.captures)) {
    const task = author.Task(`capture-${each.shot}`, "blender");
    task.addCommand(author.Command("exec", {
      exe: settings.blender,
      args: [
        "-b", settings.blend, "-S", each.scene, "-s", String(each.start), "-e", String(each.end),
        "--python-exit-code", "1", "--python-expr", settings.expression, "--", `${bundle}/shots/${each.shot}.shot`,
      ],
    }));
    job.addTask(task);
    captured[each.shot] = task;
  }
  const collect = author.Task("collect", "misc");
  for (const film of JSON.parse(settings.films)) {
    const task = author.Task(`generate-${film.name}`, "misc");
    const gpus = film.draft || settings.gpus < 2 ? [] : ["--gpus", [...Array(settings.gpus).keys()].join("+")];
    task.addCommand(batch(settings, bundle, `tasks/${film.name}`, ["--no-report"].concat(gpus)));
    if (captured[film.shot]) task.addDependency(captured[film.shot]);
    job.addTask(task);
    collect.addDependency(task);
  }
  collect.addCommand(batch(settings, bundle, "films", []));
  job.addTask(collect);
}

function batch(settings, bundle, list, more) {
  return author.Command("exec", {
    exe: settings.maquette,
    args: ["batch", `${bundle}/${list}.txt`, "-o", `${bundle}/films`, "--quiet"].concat(more),
  });
}
