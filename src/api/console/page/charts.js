// One line chart of the last few minutes, as SVG. What it shows is also said in words: the present value beside the name,
// lowest and highest in the picture's accessible name.

import { number, text } from "./language.js";

/** How far back a chart goes, in milliseconds. */
export const SPAN = 180_000;

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 112;
const MARGIN = { left: 46, right: 6, top: 8, bottom: 18 };

/** The width from which on each minute has room for its name, in pixels. */
const ROOMY = 280;

const BYTE_UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** A figure with its unit: `count`, `rate` (per second) or `bytes`. */
export function figure(value, unit) {
  if (unit === "bytes") {
    const power = value < 1024 ? 0 : Math.min(Math.floor(Math.log2(value) / 10), BYTE_UNITS.length - 1);
    const scaled = value / 1024 ** power;
    return `${number(scaled, { maximumFractionDigits: scaled < 10 && power > 0 ? 1 : 0 })} ${BYTE_UNITS[power]}`;
  }
  const shown = number(value, {
    notation: value >= 100_000 ? "compact" : "standard",
    maximumFractionDigits: unit === "rate" && value < 10 ? 1 : 0,
  });
  return unit === "rate" ? text("unit.rate", { value: shown }) : shown;
}

/** The least round number that is not below `value`, and that halves well. */
function ceiling(value, unit) {
  if (unit === "bytes") return 2 ** Math.max(10, Math.ceil(Math.log2(Math.max(value, 1))));
  const power = 10 ** Math.floor(Math.log10(Math.max(value, 1)));
  return Math.max(2, ([1, 2, 4, 6, 8, 10].find((step) => step * power >= value) ?? 10) * power);
}

function make(tag, attributes, content = "") {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  made.textContent = content;
  return made;
}

export class Chart {
  #svg;
  #value;
  #range;
  #key;
  #unit;

  /** Draws into a `figure` element, whose texts are of the language's keys `chart.KEY`. */
  constructor(root, key, unit) {
    [this.#key, this.#unit] = [key, unit];
    this.#svg = make("svg", { role: "img", height: HEIGHT });
    this.#value = root.querySelector(".value");
    this.#range = root.querySelector(".range");
    root.append(this.#svg);
  }

  /** Draws points (`time` in milliseconds, `value` or null where it is not known), the last `SPAN` before `now`. */
  draw(points, now) {
    const width = this.#svg.clientWidth || 280;
    const known = points.filter(({ value }) => value !== null).map(({ value }) => value);
    const top = ceiling(Math.max(0, ...known), this.#unit);
    const x = (time) => MARGIN.left + (1 - (now - time) / SPAN) * (width - MARGIN.left - MARGIN.right);
    const y = (value) => HEIGHT - MARGIN.bottom - (value / top) * (HEIGHT - MARGIN.top - MARGIN.bottom);

    const parts = [];
    for (const tick of [0, top / 2, top]) {
      const at = y(tick);
      parts.push(make("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at }));
      parts.push(make("text", { x: MARGIN.left - 6, y: at + 3.5, "text-anchor": "end" }, figure(tick, this.#axisUnit())));
    }
    for (const minutes of width < ROOMY ? [3, 0] : [3, 2, 1, 0]) {
      const at = x(now - minutes * 60_000);
      const said = minutes === 0 ? text("chart.now") : text("chart.minutes", { minutes: number(minutes) });
      const anchor = minutes === 3 ? "start" : minutes === 0 ? "end" : "middle";
      parts.push(make("text", { x: at, y: HEIGHT - 4, "text-anchor": anchor }, said));
    }
    for (const run of runs(points)) {
      const line = run.map(({ time, value }) => `${x(time).toFixed(1)},${y(value).toFixed(1)}`).join(" L");
      const [first, last] = [x(run[0].time).toFixed(1), x(run.at(-1).time).toFixed(1)];
      parts.push(make("path", { class: "area", d: `M${first},${y(0)} L${line} L${last},${y(0)} Z` }));
      parts.push(make("path", { class: "line", d: `M${line}` }));
    }
    this.#svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    this.#svg.replaceChildren(...parts);
    this.#say(known, points.at(-1)?.value ?? null);
  }

  #say(known, latest) {
    const shown = (value) => figure(value, this.#unit);
    this.#value.textContent = latest === null ? "–" : shown(latest);
    const [low, high] = known.length === 0 ? ["–", "–"] : [shown(Math.min(...known)), shown(Math.max(...known))];
    this.#range.textContent = known.length === 0 ? "" : text("chart.range", { low, high });
    const name = text(`chart.${this.#key}`);
    this.#svg.setAttribute("aria-label", text("chart.said", { name, value: this.#value.textContent, low, high }));
  }

  /** The axis has no room for a "per second" at each tick. */
  #axisUnit() {
    return this.#unit === "bytes" ? "bytes" : "count";
  }
}

/** The stretches without an unknown value in between. */
function runs(points) {
  const found = [[]];
  for (const point of points) {
    if (point.value === null) found.push([]);
    else found.at(-1).push(point);
  }
  return found.filter((run) => run.length > 0);
}
