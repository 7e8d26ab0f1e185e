// Numbers, ages and sizes for people.

const plain = new Intl.NumberFormat("en", { maximumSignificantDigits: 6, useGrouping: false });
const counted = new Intl.NumberFormat("en");

/** A measured value: six significant digits, powers of ten only where they are needed. */
export function number(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return value.toExponential(4);
  return plain.format(value);
}

/** How many of something. */
export function count(value) {
  return counted.format(value ?? 0);
}

/** A stretch of time, to one unit. */
export function duration(milliseconds) {
  const seconds = Math.max(0, milliseconds) / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

/** A size on disk. */
export function bytes(size) {
  if (size < 1e6) return `${Math.round(size / 1e3)} kB`;
  if (size < 1e9) return `${(size / 1e6).toFixed(1)} MB`;
  return `${(size / 1e9).toFixed(1)} GB`;
}

/** An element with attributes and children; text children are text, never markup. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}
