"use strict";
// Shows GET /v1/status, every two seconds while somebody looks. Whatever a job is called is put in as text.

const find = (id) => document.getElementById(id);
let token = sessionStorage.getItem("token") || "";
let picture = "";

const ask = (path) => fetch(path, {
  headers: { "X-Maquette-Wire": "1", ...(token && { Authorization: `Bearer ${token}` }) },
  cache: "no-store",
});

const gigabytes = (bytes) => `${(bytes / 1e9).toFixed(1)} GB`;
const clock = (seconds) => new Date(1000 * seconds).toLocaleString();

function duration(seconds) {
  if (seconds === null) return "";
  const minutes = Math.round(seconds / 60);
  if (seconds < 90) return `${Math.round(seconds)} s`;
  return minutes < 90 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}

function fill(table, rows, empty) {
  const cells = rows.length ? rows : [[[empty]]];
  table.replaceChildren(...cells.map((row) => {
    const line = document.createElement("tr");
    for (const [text, look] of row) {
      const cell = document.createElement("td");
      cell.textContent = text ?? "";
      if (look) cell.className = look;
      line.append(cell);
    }
    return line;
  }));
}

function complain(text) {
  find("problem").textContent = text;
  find("problem").hidden = !text;
}

async function showPreview(job) {
  const answer = job && await ask("/v1/status/preview");
  const fresh = answer && answer.status === 200 ? URL.createObjectURL(await answer.blob()) : "";
  find("preview").hidden = !fresh;
  if (fresh) find("preview").src = fresh;
  if (picture) URL.revokeObjectURL(picture);
  picture = fresh;
}

function show(now) {
  find("about").textContent = `version ${now.version} on ${now.device}`;
  complain(now.runner.alive ? now.runner.problem : "Nothing takes jobs from the queue: start this backend again.");
  const job = now.running;
  find("idle").hidden = Boolean(job);
  find("running").hidden = !job;
  if (job) {
    find("name").textContent = job.name || "(no name)";
    find("model").textContent = job.model;
    find("progress").value = job.progress;
    const step = job.steps ? ` ${job.step} of ${job.steps}` : "";
    const left = job.eta_seconds === null ? "" : `, about ${duration(job.eta_seconds)} left`;
    find("stage").textContent = `${job.stage || "starting"}${step}${left}`;
  }
  find("engines").hidden = now.engines.length < 2;
  fill(find("engines"), now.engines.map((engine) => [
    [engine.device], [engine.model, "number"], [engine.running ? engine.running.name : engine.problem || engine.doing],
    [engine.running ? `${Math.round(engine.running.progress)} %` : "", "number"],
  ]), "");
  find("waiting").textContent = now.waiting ? `${now.waiting} wait` : "";
  fill(find("queue"), now.queue.map((each, place) => [
    [place + 1, "number"], [each.name], [each.model, "number"], [clock(each.created_at), "number"],
    [each.eta_seconds === null ? "" : `done in ${duration(each.eta_seconds)}`, "number"],
  ]), "Nobody waits.");
  fill(find("models"), now.models.map((model) => [
    [model.label], [model.available ? "ready" : "not ready", model.available ? "good" : "bad"], [model.reason],
  ]), "There are none.");
  const kept = [[now.retention.days, "days"], [now.retention.gigabytes, "GB"]].filter(([most]) => most !== null);
  fill(find("computer"), [
    [["Disk"], [`${gigabytes(now.disk.free)} of ${gigabytes(now.disk.total)} free`, "number"]],
    [["Memory"], [`${gigabytes(now.memory.free)} of ${gigabytes(now.memory.total)} free`, "number"]],
    [["This backend"], [`${gigabytes(now.memory.server)} of memory`, "number"]],
    [["Results"], [kept.length ? `deleted beyond ${kept.map((each) => each.join(" ")).join(" or ")}` : "kept until they are deleted"]],
  ]);
  fill(find("errors"), now.errors.map((error) => [
    [clock(error.at), "number"], [error.name], [error.model, "number"], [error.message],
  ]), "None.");
}

async function look() {
  try {
    const answer = await ask("/v1/status");
    find("login").hidden = answer.status !== 401;
    if (answer.status === 401) {
      find("main").hidden = true;
      complain(token ? "This backend refuses this token." : "");
    } else if (answer.ok) {
      const now = await answer.json();
      show(now);
      find("main").hidden = false;
      await showPreview(now.running);
    } else {
      complain((await answer.json()).error.message);
    }
  } catch (error) {
    complain("The backend does not answer.");
  }
}

find("login").addEventListener("submit", (event) => {
  event.preventDefault();
  token = find("token").value.trim();
  sessionStorage.setItem("token", token);
  look();
});

look();
setInterval(() => document.hidden || look(), 2000);
