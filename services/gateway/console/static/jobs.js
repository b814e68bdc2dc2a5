// The jobs panel, for operators: the schedule and the last run of each job, a switch, and a button to run it.

import { once, request } from "./api.js";
import { announce, byId, part, setNote, setText } from "./dom.js";
import { capitalized, counted, duration, every, fullTime, time } from "./format.js";
import { LiveList } from "./list.js";

export class Jobs {
  #list = new LiveList(byId("jobs"), (job) => job.name, paint);

  constructor() {
    this.#list.on("trigger", trigger);
    this.#list.on("toggle", toggle);
  }

  update(jobs) {
    this.#list.show(jobs);
  }
}

function trigger(name, button, row) {
  return ask(button, row, "POST", jobPath(name, "trigger"), `${name} is queued`);
}

function toggle(name, button, row) {
  const enabled = button.ariaChecked !== "true";
  const announcement = `${name} is ${enabled ? "enabled" : "disabled"}`;
  return ask(button, row, "PUT", `${jobPath(name, "toggle")}?enabled=${enabled}`, announcement);
}

const jobPath = (name, verb) => `/api/jobs/${encodeURIComponent(name)}/${verb}`;

function ask(button, row, method, path, announcement) {
  const note = part(row, "note");
  const work = async () => {
    setNote(note, "");
    await request(method, path);
    announce(announcement);
  };
  return once(button, work, (refused) => setNote(note, refused.message));
}

function paint(element, job) {
  setText(part(element, "name"), job.name);
  setText(part(element, "description"), job.description);
  setText(part(element, "schedule"), schedule(job));
  paintControls(element, job);
  paintRun(element, job.last_run);
}

function paintControls(element, job) {
  const control = element.querySelector("[role=switch]");
  control.ariaChecked = String(job.enabled);
  control.setAttribute("aria-label", `${job.name} enabled`);
  setText(part(element, "state"), job.enabled ? "On" : "Off");
  element.querySelector("[data-action=trigger]").setAttribute("aria-label", `Run now: ${job.name}`);
}

/** "Orders · every 5 seconds · next 14:05:00". */
function schedule(job) {
  return [capitalized(job.service), every(job.schedule), nextRun(job)].join(" · ");
}

function nextRun(job) {
  if (!job.enabled) return "off, runs only on request";
  if (job.next_slot) return `next ${time(job.next_slot)}`;
  if (job.settings.after) return `after ${job.settings.after}`;
  return job.schedule === "off" ? "runs only on request" : "next run not scheduled yet";
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
