// The portal: signs in, then shows agents, devices and live values from the public API and its event stream.

import { all, call, Failure, hubNow, mayBeSignedIn } from "./api.js";
import { backlog, deviceCounts, drawAgents } from "./devices.js";
import { count, duration } from "./format.js";
import { follow } from "./stream.js";
import { Values } from "./values.js";

const AGENTS_EVERY_MS = 2000;
const SENSORS_EVERY_MS = 15000;
const DRAW_EVERY_MS = 250;
const BACKLOG_WARN = 5000;
const TREND_MS = 60000;
const RECALL_MAX = 5000;
const LAG_WARN_MS = 5000;
const LAG_IDLE_MS = 60000;

const part = (id) => document.getElementById(id);
const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** What the signed-in page knows; null while nobody is signed in. */
let session = null;

function show(id) {
  for (const name of ["sign-in", "change-password", "facts", "account", "devices", "values"]) part(name).hidden = true;
  const shown = id === "lab" ? ["facts", "account", "devices", "values"] : [id];
  for (const name of shown) part(name).hidden = false;
  if (id !== "lab") part(id).querySelector("input:not([hidden])").focus();
}

function fact(name, text, tone) {
  const place = part(`fact-${name}`);
  if (place.textContent !== text) place.textContent = text;
  place.dataset.tone = tone;
}

function notice(text) {
  part("notice").textContent = text;
  part("notice").hidden = !text;
}

/** Show the page that fits whoever is signed in. */
async function begin() {
  if (!mayBeSignedIn()) {
    show("sign-in");
    return;
  }
  try {
    const user = await call("/auth/me");
    notice("");
    part("change-password-name").value = user.username;
    if (user.password_change_required) show("change-password");
    else enter(user);
  } catch (problem) {
    if (problem.status === 401) {
      notice("");
      show("sign-in");
      return;
    }
    notice(problem.message);
    await wait(AGENTS_EVERY_MS);
    await begin();
  }
}

function leave() {
  if (!session) return;
  session.stop();
  session = null;
  notice("");
  show("sign-in");
}

function enter(user) {
  show("lab");
  part("account-name").textContent = user.username;
  session?.stop();
  session = new Session();
  session.start();
}

/** Everything that goes on while someone is signed in. */
class Session {
  constructor() {
    this.ended = false;
    this.agents = [];
    this.newest = 0;
    this.sensorsWanted = true;
    this.values = new Values({ table: part("table"), count: part("values-count"), empty: part("values-empty"), filter: part("filter") });
  }

  start() {
    this.stream = follow({
      onLive: (reading) => this.#take(reading),
      onTelemetry: (reading) => {
        this.newest = Math.max(this.newest, Date.parse(reading.timestamp));
        this.#take(reading);
      },
      onState: (state, message) => this.#streamState(state, message),
      onSignedOut: leave,
    });
    this.#every(AGENTS_EVERY_MS, () => this.#pollAgents());
    this.#every(AGENTS_EVERY_MS, () => this.#pollSensors());
    this.#every(DRAW_EVERY_MS, async () => this.#draw());
    this.#recall();
  }

  stop() {
    this.ended = true;
    this.stream.stop();
  }

  async #every(milliseconds, work) {
    while (!this.ended) {
      try {
        await work();
      } catch (problem) {
        if (!(problem instanceof Failure)) throw problem;
        if (problem.status === 401) leave();
        else notice(problem.message);
      }
      await wait(milliseconds);
    }
  }

  #take(reading) {
    if (!this.values.take(reading)) this.sensorsWanted = true;
  }

  #streamState(state, message) {
    fact("stream", state === "live" ? "live" : "lost, trying again", state === "live" ? "good" : "bad");
    part("fact-stream").classList.toggle("dot", true);
    part("fact-stream").title = message ?? "";
  }

  async #pollAgents() {
    const agents = await all("/api/v1/agents", "agents");
    if (this.ended) return;
    notice("");
    this.agents = agents;
    drawAgents(part("agents"), agents, hubNow());
    const online = agents.filter((agent) => agent.online).length;
    fact("agents", `${online} of ${agents.length}`, agents.length && online < agents.length ? "warn" : agents.length ? "good" : "quiet");
    const devices = deviceCounts(agents);
    fact("devices", devices.failing ? `${devices.failing} of ${devices.total} failing` : devices.total ? `${devices.total} ok` : "–", devices.failing ? "bad" : devices.total ? "good" : "quiet");
    const waiting = backlog(agents);
    fact("backlog", count(waiting), waiting > BACKLOG_WARN ? "warn" : "quiet");
  }

  async #pollSensors() {
    if (!this.sensorsWanted && Date.now() - (this.sensorsAt ?? 0) < SENSORS_EVERY_MS) return;
    this.sensorsWanted = false;
    const sensors = await all("/api/v1/sensors", "sensors");
    this.sensorsAt = Date.now();
    if (!this.ended) this.values.setSensors(sensors);
  }

  /** The readings of the last minute, for the trends, and the newest one. */
  async #recall() {
    const from = new Date(hubNow() - TREND_MS).toISOString();
    for (const filter of [`time_from=${from}&limit=${RECALL_MAX}`, "limit=1"]) {
      const answer = await call(`/api/v1/telemetry/query?order=desc&${filter}`).catch(() => ({ points: [] }));
      for (const point of answer.points.reverse()) {
        this.newest = Math.max(this.newest, Date.parse(point.timestamp));
        this.#take(point);
      }
      if (this.ended || answer.points.length) return;
    }
  }

  #draw() {
    if (document.hidden) return;
    this.values.draw(hubNow());
    if (!this.newest) return;
    const lag = hubNow() - this.newest;
    const idle = lag > LAG_IDLE_MS;
    fact("lag", idle ? `last stored ${duration(lag)} ago` : duration(lag), idle ? "quiet" : lag > LAG_WARN_MS ? "warn" : "good");
  }
}

/** Send a form's fields; what is wrong is said in the form. */
function onSubmit(id, path, then) {
  const form = part(id);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const problem = part(`${id}-problem`);
    const button = form.querySelector("button");
    button.disabled = true;
    problem.hidden = true;
    try {
      await call(path, { method: "POST", body: Object.fromEntries(new FormData(form)), renew: false });
      form.reset();
      await then();
    } catch (failed) {
      problem.textContent = failed.message;
      problem.hidden = false;
    } finally {
      button.disabled = false;
    }
  });
}

onSubmit("sign-in", "/auth/login", begin);
onSubmit("change-password", "/auth/change-password", begin);
part("sign-out").addEventListener("click", async () => {
  await call("/auth/logout", { method: "POST", renew: false }).catch(() => null);
  leave();
});
begin();
