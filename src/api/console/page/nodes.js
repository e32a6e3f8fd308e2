// The cluster's nodes, as the directory has them. A node that vanishes from there is shown as gone for a while.

import { isLocked, liveNodes, onToken } from "./api.js";
import { label, moment, number, onLanguage, text } from "./language.js";

/** Milliseconds between two questions. */
const PACE = 2_000;

/** How long a node that is gone is still shown, in milliseconds, and how many of them at most. */
const REMEMBERED = 60_000;
const GONE = 20;

const element = (id) => document.getElementById(id);

export class Nodes {
  #live = [];
  /** By id: the summary of a node that is gone, and since when. */
  #gone = new Map();
  #own = "";
  #ownState = "ready";
  #read = null;
  #failure = "";
  #timer = 0;

  constructor() {
    onLanguage(() => this.#show());
    onToken(() => isLocked() || this.#ask());
    this.#ask();
  }

  /** Which node serves this page, and its state, which the directory doesn't have. */
  setOwn(state, id) {
    if (state === this.#ownState && id === this.#own) return;
    [this.#ownState, this.#own] = [state, id];
    this.#show();
  }

  async #ask() {
    clearTimeout(this.#timer);
    try {
      const { nodes } = await liveNodes();
      this.#compare(nodes);
      this.#read = Date.now();
      this.#failure = "";
    } catch (error) {
      this.#failure = error.message || text(`node.${error.kind === "token" ? "locked" : "unreachable"}`);
    }
    this.#show();
    clearTimeout(this.#timer);
    if (!isLocked()) this.#timer = setTimeout(() => this.#ask(), PACE);
  }

  #compare(nodes) {
    const now = Date.now();
    const ids = new Set(nodes.map(({ id }) => id));
    for (const node of this.#live) if (!ids.has(node.id)) this.#gone.set(node.id, { node, since: now });
    for (const [id, { since }] of this.#gone) {
      if (ids.has(id) || now - since > REMEMBERED || this.#gone.size > GONE) this.#gone.delete(id);
    }
    this.#live = nodes.sort((a, b) => a.address.localeCompare(b.address) || a.seq - b.seq);
  }

  #show() {
    const rows = this.#live.map((node) => this.#row(node, node.id === this.#own ? this.#ownState : "live"));
    for (const { node } of this.#gone.values()) rows.push(this.#row(node, "gone"));
    element("nodes-body").replaceChildren(...rows);
    const connections = this.#live.reduce((sum, { counters }) => sum + counters.connections, 0);
    const counts = { nodes: number(this.#live.length), connections: number(connections) };
    element("nodes-count").textContent = this.#read === null ? "" : text("nodes.count", counts);
    const stale = element("nodes-stale");
    const since = this.#read === null ? "–" : moment(this.#read, { timeStyle: "medium" });
    const said = this.#failure === "" ? "" : text("nodes.stale", { why: this.#failure, since });
    if (stale.textContent !== said) stale.textContent = said;
    stale.hidden = said === "";
    element("nodes-table").classList.toggle("stale", said !== "");
  }

  #row(node, state) {
    const own = node.id === this.#own;
    const row = document.createElement("tr");
    row.dataset.state = state;
    row.dataset.id = node.id;
    const name = document.createElement("th");
    name.scope = "row";
    const address = document.createElement("span");
    address.className = "address";
    address.textContent = node.address;
    name.append(address);
    if (own) {
      const mark = document.createElement("span");
      mark.className = "own";
      label(mark, "nodes.own");
      name.append(" ", mark);
    }
    const id = document.createElement("span");
    id.className = "id";
    id.textContent = node.id.slice(0, 8);
    id.title = node.id;
    name.append(id);
    const cell = (key, content) => {
      const made = document.createElement("td");
      made.dataset.column = text(`nodes.${key}`);
      made.textContent = content;
      return made;
    };
    const shown = cell("state", "");
    const pill = document.createElement("span");
    pill.className = "pill";
    label(pill, `node.${state}`);
    shown.append(pill);
    const connections = cell("connections", state === "gone" ? "–" : number(node.counters.connections));
    connections.className = "number";
    const accepted = cell("accepted", number(node.counters.accepted));
    accepted.className = "number";
    row.append(name, shown, connections, accepted, cell("started", moment(node.start_time * 1000)), cell("version", node.version));
    return row;
  }
}
