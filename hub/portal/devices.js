// Agents and their devices, as they report themselves.

import { bytes, count, duration, element } from "./format.js";

const TONES = { ok: "good", starting: "quiet", waiting: "warn", failing: "bad" };

/** Draw all agents; `now` is the hub's clock in milliseconds. */
export function drawAgents(place, agents, now) {
  place.replaceChildren(...(agents.length ? agents.map((agent) => agentCard(agent, now)) : [noAgents()]));
}

/** Whether an agent is connected. */
export function isOnline(agent) {
  return agent.online ?? agent.state?.status === "online";
}

/** Readings that wait on all agents' disks. */
export function backlog(agents) {
  return agents.reduce((sum, agent) => sum + (agent.state?.spool?.pending_readings ?? 0), 0);
}

function noAgents() {
  return element("div", { class: "empty" },
    element("p", {}, "No agent yet. An agent runs on the PC that the instruments are connected to. Enrol one with a code of this hub and start it:"),
    element("p", {}, element("code", {}, `labrelay agent enrol --hub ${location.origin} --code CODE`)),
    element("p", {}, element("code", {}, "labrelay agent run")));
}

function agentCard(agent, now) {
  const state = agent.state ?? {};
  const online = isOnline(agent);
  const devices = state.devices ?? [];
  const header = element("header", {},
    element("h3", {}, agent.name),
    element("span", { class: "dot", "data-tone": online ? "good" : "bad" }, online ? "online" : `offline${since(agent, now)}`),
    element("span", { class: "hint" }, [state.host, state.version && `version ${state.version}`].filter(Boolean).join(" · ")));
  return element("article", { class: "card" }, header, ...problems(agent, state, online), devices.length ? deviceTable(devices, now, online) : null, spoolLine(state.spool, now));
}

function problems(agent, state, online) {
  const found = [];
  if (agent.status === "retired" || agent.status === "compromised") found.push(`This agent is ${agent.status}; the hub takes nothing from it.`);
  if (!online && agent.last_seen) found.push("Nothing is lost: the agent keeps its readings on disk. Check that its PC is on and reaches the broker.");
  if (!agent.state) found.push("It has not connected yet. Start it with labrelay agent run.");
  if (state.error) found.push(state.error);
  if (state.spool?.dropped_readings) found.push(`${count(state.spool.dropped_readings)} readings were dropped because the disk quota was reached; gap records say which.`);
  if (state.spool?.quarantined_batches) found.push(`${count(state.spool.quarantined_batches)} batches are in quarantine; see labrelay agent spool.`);
  return found.map((text) => element("p", { class: "problem" }, text));
}

function since(agent, now) {
  return agent.last_seen ? ` for ${duration(now - Date.parse(agent.last_seen))}` : "";
}

function deviceTable(devices, now, online) {
  const head = element("tr", {},
    element("th", { scope: "col" }, "Device"),
    element("th", { scope: "col" }, "State"),
    element("th", { scope: "col", class: "number wide" }, "Points"),
    element("th", { scope: "col", class: "number" }, "Readings"),
    element("th", { scope: "col", class: "number" }, "Failures"),
    element("th", { scope: "col", class: "number wide" }, "Last reading"));
  return element("table", { class: "devices" }, element("thead", {}, head),
    element("tbody", {}, ...devices.flatMap((device) => deviceRows(device, now, online))));
}

function deviceRows(device, now, online) {
  const last = device.last_reading_us ? `${duration(now - device.last_reading_us / 1000)} ago` : "none yet";
  const tone = online ? TONES[device.status] ?? "quiet" : "quiet";
  const row = element("tr", {},
    element("td", { class: "name" }, device.name, " ", element("span", { class: "signal" }, device.driver)),
    element("td", { class: "dot", "data-tone": tone }, online ? device.status : `was ${device.status}`),
    element("td", { class: "number wide" }, count(device.points)),
    element("td", { class: "number" }, count(device.readings)),
    element("td", { class: "number", "data-tone": device.failures && device.status !== "ok" ? "bad" : null }, count(device.failures)),
    element("td", { class: "number wide" }, last));
  if (!device.error) return [row];
  return [row, element("tr", { class: "error" }, element("td", { colspan: "6" }, device.error))];
}

function spoolLine(spool, now) {
  if (!spool?.pending_readings) return null;
  const age = spool.oldest_us ? `, the oldest ${duration(now - spool.oldest_us / 1000)} old` : "";
  const size = spool.bytes ? `; the spool takes ${bytes(spool.bytes)}${spool.quota_bytes ? ` of ${bytes(spool.quota_bytes)}` : ""}` : "";
  return element("header", {}, element("span", { class: "hint" }, `${count(spool.pending_readings)} readings wait on its disk${age}${size}.`));
}
