// The node that serves this page: asked each second, shown in the page's head and in the charts.

import { isLocked, onToken, ownNode } from "./api.js";
import { Chart, SPAN } from "./charts.js";
import { moment, onLanguage, text } from "./language.js";

/** Milliseconds between two questions. */
const PACE = 1_000;

/** The charts: the key of its texts, its unit, and what is drawn of two answers, the former or null. */
const CHARTS = [
  ["connections", "count", (now) => now.connections],
  ["pushes", "rate", (now, before) => rate(now, before, "pushes")],
  ["deliveries", "rate", (now, before) => rate(now, before, "deliveries")],
  ["unsent", "bytes", (now) => now.unsent_bytes],
];

/** How long the answers of other nodes are passed over, in milliseconds, before one of them is shown instead. */
const LOYALTY = 15_000;

const element = (id) => document.getElementById(id);

/** A counter's growth per second; null where there is nothing to compare with, as after a restart. */
function rate(now, before, counter) {
  if (before === null || before.id !== now.id || now.clock_ms <= before.clock_ms) return null;
  return ((now[counter] - before[counter]) * 1000) / (now.clock_ms - before.clock_ms);
}

export class Figures {
  #charts = CHARTS.map(([key, unit]) => new Chart(element(`chart-${key}`), key, unit));
  /** For each chart its points, the oldest first. */
  #points = CHARTS.map(() => []);
  /** The last answer of the node that is shown. */
  #latest = null;
  /** When that came, by the page's clock. */
  #seen = 0;
  #failure = "";
  #onNode;
  #timer = 0;

  /** `onNode` is called after each question, with the node's state and its answer, null where there is none. */
  constructor(onNode) {
    this.#onNode = onNode;
    onLanguage(() => this.#show());
    onToken(() => {
      if (!isLocked()) this.#ask();
      this.#show();
    });
    addEventListener("resize", () => this.#draw());
    this.#ask();
  }

  async #ask() {
    clearTimeout(this.#timer);
    let node = null;
    let failure = "";
    try {
      node = await ownNode();
    } catch (error) {
      failure = error.kind;
    }
    if (!this.#isOther(node)) this.#take(node, failure);
    clearTimeout(this.#timer);
    // Without its token nothing is asked until there is one.
    if (!isLocked()) this.#timer = setTimeout(() => this.#ask(), PACE);
  }

  /** Whether an answer is another node's than the one shown: behind a load balancer each may come from another. */
  #isOther(node) {
    if (node === null || this.#latest === null || this.#failure !== "") return false;
    return node.id !== this.#latest.id && performance.now() - this.#seen < LOYALTY;
  }

  #take(node, failure) {
    this.#failure = failure;
    const time = performance.now();
    for (const [index, [, , of]] of CHARTS.entries()) {
      const points = this.#points[index];
      points.push({ time, value: node && of(node, this.#latest) });
      while (points[0].time < time - SPAN) points.shift();
    }
    // A failed question leaves a gap; the rate after it is that of the whole gap.
    if (node !== null) [this.#latest, this.#seen] = [node, time];
    this.#onNode(this.#state(node), node);
    this.#show(node);
  }

  /** The node's state, as the languages' keys `node.STATE` name it. */
  #state(now) {
    if (this.#failure === "token") return "locked";
    if (now === null) return "unreachable";
    return now.draining ? "draining" : now.state;
  }

  #show(now = this.#failure ? null : this.#latest) {
    const state = this.#state(now);
    const known = this.#latest !== null || this.#failure !== "";
    element("node").dataset.state = known ? state : "asked";
    const said = text(known ? `node.${state}` : "node.asked");
    if (element("node-state").textContent !== said) element("node-state").textContent = said;
    if (this.#latest) {
      const { id, version, start_time: started } = this.#latest;
      element("node-about").textContent = `${id.slice(0, 8)} · ${version}`;
      element("node-about").title = text("node.about", { id, version, started: moment(started * 1000) });
    }
    this.#notice(known ? state : "ready", now?.reason ?? "");
    this.#draw();
  }

  /** What somebody who looks at this page must know first. */
  #notice(state, reason) {
    const said = state === "ready" ? "" : text(`notice.${state}`, { reason });
    const notice = element("notice");
    if (notice.textContent !== said) notice.textContent = said;
    notice.hidden = said === "";
    notice.dataset.state = state;
  }

  #draw() {
    const now = performance.now();
    for (const [index, chart] of this.#charts.entries()) chart.draw(this.#points[index], now);
  }
}
