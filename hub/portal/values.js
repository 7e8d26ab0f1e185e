// The table of live values: one row a signal, grouped by the first part of the sensors' names.

import { count, duration, element, number } from "./format.js";
import { Trend } from "./trend.js";

const ROWS_MAX = 400;
const STALE_MS = 30000;

const REASONS = {
  not_a_number: "not a number",
  infinite: "infinite",
  out_of_range: "out of range",
  not_representable: "too large for a float",
  conversion_overflow: "conversion overflows",
  conversion_domain: "conversion undefined here",
  instrument: "marked bad by the instrument",
};

/** All signals that were heard of, and the tables that show them. */
export class Values {
  constructor(parts) {
    this.parts = parts; // {table, count, empty, filter}
    this.sensors = new Map();
    this.signals = new Map();
    this.changed = new Set();
    this.stale = true;
    parts.filter.addEventListener("input", () => { this.stale = true; });
  }

  /** The sensors as the API lists them. */
  setSensors(sensors) {
    this.sensors = new Map(sensors.map((sensor) => [sensor.id, sensor]));
    for (const [key, signal] of this.signals) if (!this.sensors.has(signal.sensorId)) this.signals.delete(key);
    this.stale = true;
  }

  /** One reading, live or committed. Returns false where its sensor is not known yet. */
  take(reading) {
    const key = `${reading.sensor_id}/${reading.signal}`;
    let signal = this.signals.get(key);
    if (!signal) {
      signal = { key, sensorId: reading.sensor_id, name: reading.signal, time: 0, trend: new Trend(), unit: "", rawUnit: "" };
      this.signals.set(key, signal);
      this.stale = true;
    }
    const time = Date.parse(reading.timestamp);
    this.#trace(signal, time, reading);
    if (reading.unit) signal[reading.physical_value === null ? "rawUnit" : "unit"] = reading.unit;
    if (time >= signal.time) {
      signal.time = time;
      signal.reading = reading;
      this.changed.add(signal);
    }
    return this.sensors.has(reading.sensor_id);
  }

  /** Draw what has changed. `now` is the hub's clock. */
  draw(now) {
    if (this.stale) this.#build();
    for (const signal of this.changed) if (signal.row) this.#fill(signal, now);
    this.changed.clear();
    for (const signal of this.signals.values()) if (signal.row) this.#age(signal, now);
  }

  /** Raw and physical values are never in one line: a profile that comes into force begins a new one. */
  #trace(signal, time, reading) {
    if (reading.conversion_status === "conversion_failed") {
      signal.trend.add(time, null);
      return;
    }
    const converted = reading.physical_value !== null;
    if (converted !== signal.converted) {
      if (time < signal.time) return;
      signal.converted = converted;
      signal.trend.clear();
    }
    signal.trend.add(time, reading.physical_value ?? reading.raw_value);
  }

  #build() {
    this.stale = false;
    const wanted = this.parts.filter.value.trim().toLowerCase();
    const known = [...this.signals.values()].filter((signal) => this.sensors.has(signal.sensorId));
    const shown = known.filter((signal) => this.#title(signal).toLowerCase().includes(wanted));
    shown.sort((a, b) => this.#title(a).localeCompare(this.#title(b), "en", { numeric: true }));
    for (const signal of known) signal.row = null;
    this.parts.table.replaceChildren(...(shown.length ? [this.#table(shown.slice(0, ROWS_MAX))] : []));
    const hidden = shown.length - Math.min(shown.length, ROWS_MAX);
    this.parts.count.textContent = known.length
      ? `${count(shown.length)} signal${shown.length === 1 ? "" : "s"}${hidden ? `, the first ${ROWS_MAX} shown; filter to see others` : ""}`
      : "";
    this.#explainEmptiness(known.length, shown.length);
  }

  #explainEmptiness(known, shown) {
    const { empty } = this.parts;
    empty.hidden = shown > 0;
    if (shown > 0) return;
    if (known > 0) empty.textContent = "No signal's name contains this.";
    else if (this.sensors.size > 0) empty.textContent = `${count(this.sensors.size)} sensors, and none has sent since this page was opened.`;
    else empty.textContent = "No values yet: they appear here as soon as an agent, or a sensor with its token, sends some.";
  }

  #title(signal) {
    const name = this.sensors.get(signal.sensorId)?.name ?? "";
    return signal.name === "value" ? name : `${name} ${signal.name}`;
  }

  #group(signal) {
    return this.sensors.get(signal.sensorId).name.match(/^(.+?)[./:_ -]/)?.[1] ?? "Other sensors";
  }

  #table(signals) {
    const titles = ["Signal", "Raw", "Physical", "Status", "Age", "Last minute"];
    const head = element("tr", {}, ...titles.map((title) =>
      element("th", { scope: "col", class: title === "Raw" || title === "Physical" ? "number" : null }, title)));
    const groups = new Map();
    for (const signal of signals) {
      const name = this.#group(signal);
      if (!groups.has(name)) groups.set(name, []);
      groups.get(name).push(signal);
    }
    const bodies = [...groups].map(([name, members]) => element("tbody", {},
      groups.size > 1 ? element("tr", { class: "group" }, element("th", { scope: "rowgroup", colspan: "6" }, name)) : null,
      ...members.map((signal) => this.#row(signal))));
    const caption = element("caption", { class: "visually-hidden" }, "Live values");
    return element("div", { class: "card" },
      element("table", { class: "values" }, caption, element("thead", {}, head), ...bodies));
  }

  #row(signal) {
    const sensor = this.sensors.get(signal.sensorId);
    const cells = {
      raw: element("td", { class: "raw number" }),
      physical: element("td", { class: "physical number" }),
      status: element("td", { class: "status" }),
      age: element("td", { class: "age", "data-tone": "quiet" }),
    };
    const name = element("td", { class: "name" }, sensor.name);
    if (signal.name !== "value") name.append(element("span", { class: "signal" }, signal.name));
    cells.row = element("tr", { "data-signal": this.#title(signal) },
      name, cells.raw, cells.physical, cells.status, cells.age, element("td", { class: "trend" }, signal.trend.drawing));
    signal.row = cells;
    this.changed.add(signal);
    return cells.row;
  }

  #fill(signal, now) {
    const { reading, row } = signal;
    const sensor = this.sensors.get(signal.sensorId);
    const converted = reading.physical_value !== null;
    quantity(row.raw, reading.raw_value, sensor.input_unit || signal.rawUnit);
    quantity(row.physical, converted ? reading.physical_value : null, sensor.display_unit || signal.unit);
    row.row.classList.toggle("unconverted", !converted);
    const failed = reading.conversion_status === "conversion_failed";
    const reason = reading.meta?.__system?.reason;
    row.status.textContent = failed ? `failed: ${REASONS[reason] ?? reason ?? "unknown"}` : reading.conversion_status.replaceAll("_", " ");
    row.status.dataset.tone = failed ? "bad" : "quiet";
    signal.trend.draw(now);
  }

  #age(signal, now) {
    const age = now - signal.time;
    signal.row.age.textContent = duration(age);
    signal.row.age.dataset.tone = age > STALE_MS ? "warn" : "quiet";
  }
}

function quantity(cell, value, unit) {
  cell.replaceChildren(number(value));
  if (unit && value !== null && value !== undefined) cell.append(" ", element("span", { class: "unit" }, unit));
}
