// Agents and their devices, as they report themselves.

import { bytes, count, duration, element } from "./format.js";

const TONES = { ok: "good", starting: "quiet", waiting: "warn", failing: "bad" };
const CONNECTIONS = { online: "good", offline: "bad", conflict: "bad" };

/** Draw all agents; `now` is the hub's clock in milliseconds. */
export function drawAgents(place, agents, now) {
  place.replaceChildren(...(agents.length ? agents.map((agent) => agentCard(agent, now)) : [noAgents()]));
}

/** Readings that wait on all agents' disks. */
export function backlog(agents) {
  return agents.reduce((sum, agent) => sum + agent.backlog_readings, 0);
}

/** How the devices of connected agents are: {total, failing}. */
export function deviceCounts(agents) {
  const devices = agents.filter((agent) => agent.online).flatMap((agent) => agent.devices);
  const failing = devices.filter((device) => device.status === "failing" || device.status === "waiting").length;
  return { total: devices.length, failing };
}

function noAgents() {
  return element("div", { class: "empty" },
    element("p", {}, "No agent yet. An agent runs on the PC that the instruments are connected to. Enrol it with a code of this hub, then run it:"),
    element("p", {}, element("code", {}, `labrelay agent enrol --hub ${location.origin} --code CODE`)),
    element("p", {}, element("code", {}, "labrelay agent run")));
}

function agentCard(agent, now) {
  const since = !agent.online && agent.last_seen ? ` for ${duration(now - Date.parse(agent.last_seen))}` : "";
  const about = [agent.host, agent.version && `version ${agent.version}`].filter(Boolean).join(" · ");
  return element("article", { class: "card", "data-agent": agent.name },
    element("header", {},
      element("h3", {}, agent.name),
      element("span", { class: "dot", "data-tone": CONNECTIONS[agent.connection] }, `${agent.connection}${since}`),
      element("span", { class: "hint" }, about)),
    ...remarks(agent),
    agent.devices.length ? deviceTable(agent, now) : null);
}

function remarks(agent) {
  const said = [
    agent.status !== "enrolled" && ["problem", `This agent is ${agent.status}; the hub takes nothing from it.`],
    agent.connection === "conflict" && ["problem", "Two processes of this agent run at once (a copied disk?). Stop one of them, or enrol it anew."],
    !agent.last_seen && ["hint", "It has not connected yet. Start it with: labrelay agent run"],
    agent.last_seen && !agent.online && ["hint", "It keeps its readings on disk and sends them later. Check that its PC is on and reaches the broker."],
    agent.error && ["problem", agent.error],
    agent.sensors_refused && ["problem", `${count(agent.sensors_refused)} sensor names are refused: this agent has as many sensors as the hub allows.`],
    agent.dropped_readings && ["problem", `${count(agent.dropped_readings)} readings were dropped because its disk quota was reached; gap records say which.`],
    agent.quarantined_batches && ["problem", `${count(agent.quarantined_batches)} batches are in quarantine; see: labrelay agent spool`],
    agent.backlog_readings && ["hint", waiting(agent)],
    agent.online && !agent.devices.length && ["hint", "It has no devices. Describe them in its configuration file."],
  ];
  return said.filter(Boolean).map(([kind, text]) => element("p", { class: `remark ${kind}` }, text));
}

function waiting(agent) {
  const quota = agent.spool_quota_bytes ? ` of ${bytes(agent.spool_quota_bytes)}` : "";
  const size = agent.spool_bytes ? `; its spool takes ${bytes(agent.spool_bytes)}${quota}` : "";
  const age = agent.lag_s ? `, the oldest for ${duration(agent.lag_s * 1000)}` : "";
  return `${count(agent.backlog_readings)} readings wait on its disk${age}${size}.`;
}

function deviceTable(agent, now) {
  const title = (text, kind) => element("th", { scope: "col", class: kind }, text);
  const head = element("tr", {}, title("Device"), title("State"), title("Points", "number wide"),
    title("Readings", "number"), title("Failures", "number"), title("Last reading", "number wide"));
  const caption = element("caption", { class: "visually-hidden" }, `Devices of ${agent.name}`);
  return element("table", { class: "devices" }, caption, element("thead", {}, head),
    element("tbody", {}, ...agent.devices.flatMap((device) => deviceRows(device, now, agent.online))));
}

function deviceRows(device, now, online) {
  const last = device.last_reading_at ? `${duration(now - Date.parse(device.last_reading_at))} ago` : "none yet";
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
