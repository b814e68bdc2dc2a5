// The jobs panel, for operators: the schedule and the last run of each job, a switch, and a button to run it.

import { once, request } from "./api.js";
import { announce, byId, onNextFrame, part, setNote, setText } from "./dom.js";
import { capitalized, counted, duration, every, fullTime, time } from "./format.js";
import { LiveList } from "./list.js";

// The state of a run that was started here is asked for this often, more rarely the longer it takes.
const ASK_FIRST_AFTER = 150;
const ASK_AT_LEAST_EVERY = 2_000;

export class Jobs {
  #latest = [];
  #show = () => this.#list.show(this.#latest);
  #list = new LiveList(byId("jobs"), (job) => job.name, paint);

  constructor() {
    this.#list.on("trigger", trigger);
    this.#list.on("toggle", toggle);
  }

  update(jobs) {
    this.#latest = jobs;
    onNextFrame(this.#show);
  }
}

function trigger(name, button, row) {
  const note = part(row, "note");
  const work = async () => {
    setNote(note, "Queueing…", "done");
    const { run_id: id } = await request("POST", jobPath(name, "trigger"));
    await follow(id, note);
  };
  return once(button, work, (refused) => setNote(note, refused.message));
}

/** Show the state of a run until it has finished. */
async function follow(id, note) {
  for (let pause = ASK_FIRST_AFTER; ; pause = Math.min(2 * pause, ASK_AT_LEAST_EVERY)) {
    const run = await request("GET", `/api/runs/${encodeURIComponent(id)}`);
    setNote(note, progress(run), run.outcome === "failed" ? "error" : "done");
    if (run.state === "finished") return;
    await new Promise((done) => setTimeout(done, pause));
  }
}

/** "Queued…", "Running…", "Succeeded in 40 ms", "Failed: ValueError: no prices". */
function progress(run) {
  if (run.state !== "finished") return `${capitalized(run.state)}…`;
  if (run.error) return `${capitalized(run.outcome)}: ${run.error.trim().split("\n").at(-1)}`;
  return `${capitalized(run.outcome)}${run.started_at ? ` in ${duration(run.started_at, run.finished_at)}` : ""}`;
}

function toggle(name, button, row) {
  const enabled = button.ariaChecked !== "true";
  const note = part(row, "note");
  const work = async () => {
    setNote(note, "");
    await request("PUT", `${jobPath(name, "toggle")}?enabled=${enabled}`);
    paintSwitch(row, enabled);
    announce(`${name} is ${enabled ? "enabled" : "disabled"}`);
  };
  return once(button, work, (refused) => setNote(note, refused.message));
}

const jobPath = (name, verb) => `/api/jobs/${encodeURIComponent(name)}/${verb}`;

function paint(element, job) {
  setText(part(element, "name"), job.name);
  setText(part(element, "description"), job.description);
  setText(part(element, "schedule"), schedule(job));
  paintControls(element, job);
  paintRun(element, job.last_run);
}

function paintControls(element, job) {
  paintSwitch(element, job.enabled);
  element.querySelector("[role=switch]").setAttribute("aria-label", `${job.name} enabled`);
  element.querySelector("[data-action=trigger]").setAttribute("aria-label", `Run now: ${job.name}`);
}

function paintSwitch(element, enabled) {
  element.querySelector("[role=switch]").ariaChecked = String(enabled);
  setText(part(element, "state"), enabled ? "On" : "Off");
}

/** "Orders · every 5 seconds · next 14:05:00". */
function schedule(job) {
  return [capitalized(job.service), every(job.schedule), nextRun(job)].join(" · ");
}

function nextRun(job) {
  if (!job.enabled) return "off, runs only on request";
  if (job.retired_at) return "retired: nothing declares it any more";
  if (job.next_slot) return `next ${time(job.next_slot)}`;
  if (job.settings.after) return `after ${parents(job.settings.after)}`;
  return job.schedule === "off" ? "runs only on request" : "next run not scheduled yet";
}

function parents(after) {
  return typeof after === "string" ? after : after.map((edge) => edge.job).join(", ");
}

function paintRun(element, run) {
  const state = runState(run);
  part(element, "outcome").dataset.outcome = state;
  setText(part(element, "outcome"), capitalized(state));
  setText(part(element, "run"), run ? runText(run) : "");
  part(element, "run").title = fullTime(run?.queued_at);
  setText(part(element, "error"), run?.error ?? "");
  part(element, "error").hidden = !run?.error;
}

function runState(run) {
  if (!run) return "never run";
  return run.outcome ?? run.state;
}

function runText(run) {
  const at = time(run.finished_at ?? run.started_at ?? run.queued_at);
  const texts = [run.trigger === "manual" ? `${at}, started manually` : at];
  if (run.started_at && run.finished_at) texts.push(duration(run.started_at, run.finished_at));
  const counts = Object.entries(run.counts ?? {}).map(([name, count]) => counted(name, count));
  return [...texts, ...counts].join(" · ");
}
