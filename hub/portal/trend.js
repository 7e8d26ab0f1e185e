// A sparkline of the last minute: bounded, in order of time whatever the order of arrival, broken where readings failed.

const WINDOW_MS = 60000;
const STEP_MS = 250;
const POINTS_MAX = 2 * (WINDOW_MS / STEP_MS);
const WIDTH = 160;
const HEIGHT = 32;
const SVG = "http://www.w3.org/2000/svg";

/** The recent values of one signal. */
export class Trend {
  constructor() {
    this.points = [];
    this.drawing = document.createElementNS(SVG, "svg");
    this.drawing.setAttribute("class", "spark");
    this.drawing.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    this.drawing.setAttribute("preserveAspectRatio", "none");
    this.drawing.setAttribute("aria-hidden", "true");
    this.path = document.createElementNS(SVG, "path");
    this.drawing.append(this.path);
  }

  /** One value (null for a failed reading) at a time in milliseconds; those that crowd together become one. */
  add(time, value) {
    const { points } = this;
    let index = points.length;
    while (index > 0 && points[index - 1].time > time) index -= 1;
    const before = points[index - 1];
    if (before && time < before.time + STEP_MS) {
      if (index === points.length) before.value = value;
    } else if (index === points.length || points[index].time >= time + STEP_MS) {
      points.splice(index, 0, { time, value });
    }
    if (points.length > POINTS_MAX) points.shift();
  }

  /** Begin anew. */
  clear() {
    this.points.length = 0;
  }

  /** Draw the minute before `now`. */
  draw(now) {
    const from = now - WINDOW_MS;
    while (this.points.length && this.points[0].time < from) this.points.shift();
    const values = this.points.map((point) => point.value).filter((value) => value !== null);
    if (values.length < 2) {
      this.path.setAttribute("d", "");
      return;
    }
    const low = Math.min(...values);
    const span = Math.max(...values) - low;
    const y = (value) => (span > 0 ? HEIGHT - 3 - ((value - low) / span) * (HEIGHT - 6) : HEIGHT / 2);
    let drawn = "";
    let pen = "M";
    for (const { time, value } of this.points) {
      if (value === null) { pen = "M"; continue; }
      drawn += `${pen}${(((time - from) / WINDOW_MS) * WIDTH).toFixed(1)} ${y(value).toFixed(1)}`;
      pen = "L";
    }
    this.path.setAttribute("d", drawn);
  }
}
