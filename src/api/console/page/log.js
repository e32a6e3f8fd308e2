// The log: what was sent, received, happened and failed. Bounded in entries and in characters; the oldest go first.

import { laidOut } from "./json.js";
import { label, number, onLanguage, text } from "./language.js";

/** Entries that are kept, and characters of all of them together; a page that is open for days must not grow. */
const ENTRIES = 1_000;
const CHARACTERS = 8_000_000;

/** Characters of one message that are kept, and those that its line shows. */
const LONGEST = 100_000;
const PREVIEW = 300;

/** How often what has come is written, in milliseconds: a thousand messages a second are drawn ten times. */
const PACE = 100;

/** Pixels from the end that still count as the end. */
const AT_END = 24;

const ICONS = { sent: "↑", received: "↓", system: "•", error: "!" };

const element = (id) => document.getElementById(id);

export class Log {
  #list = element("log");
  #follow = element("follow");
  #search = element("log-search");
  #types = [...document.querySelectorAll("#log-types input")];
  #entries = [];
  #characters = 0;
  #waiting = [];
  #dropped = 0;
  #unseen = 0;
  #timer = 0;
  /** Where the list was left by following; a scroll away from there is the reader's. */
  #atEnd = true;

  constructor() {
    this.#list.addEventListener("scroll", () => {
      this.#atEnd = this.#list.scrollHeight - this.#list.scrollTop - this.#list.clientHeight < AT_END;
      if (this.#atEnd) this.#unseen = 0;
      this.#count();
    });
    this.#list.addEventListener("click", (event) => this.#toggle(event.target.closest(".line")));
    this.#list.addEventListener("keydown", (event) => this.#move(event));
    this.#follow.addEventListener("change", () => this.#follow.checked && this.#toEnd());
    element("log-unseen").addEventListener("click", () => this.#toEnd());
    element("log-clear").addEventListener("click", () => this.#clear());
    this.#search.addEventListener("input", () => this.#filter());
    for (const type of this.#types) type.addEventListener("change", () => this.#filter());
    onLanguage(() => this.#count());
  }

  /** Adds an entry: `type` is `sent`, `received`, `system` or `error`, `about` says to whom or what it is. */
  add(type, message, about = "") {
    const cut = message.length - LONGEST;
    const kept = cut > 0 ? message.slice(0, LONGEST) + "\n" + text("log.cut", { characters: number(cut) }) : message;
    this.#waiting.push({ type, message: kept, about, time: new Date() });
    if (this.#waiting.length > ENTRIES) {
      this.#waiting.shift();
      this.#dropped += 1;
    }
    // Not by animation frames, which a page in the background has none of.
    this.#timer ||= setTimeout(() => this.#write(), PACE);
  }

  #write() {
    this.#timer = 0;
    const following = this.#follow.checked && this.#atEnd;
    const fragment = document.createDocumentFragment();
    for (const entry of this.#waiting) {
      entry.item = item(entry);
      entry.item.hidden = !this.#shows(entry);
      this.#entries.push(entry);
      this.#characters += entry.message.length;
      if (!following && !entry.item.hidden) this.#unseen += 1;
      fragment.append(entry.item);
    }
    this.#waiting = [];
    this.#list.append(fragment);
    while (this.#entries.length > ENTRIES || (this.#characters > CHARACTERS && this.#entries.length > 1)) {
      const oldest = this.#entries.shift();
      this.#characters -= oldest.message.length;
      this.#dropped += 1;
      // The keyboard's place goes to the next one, not to the top of the page.
      if (oldest.item.contains(document.activeElement)) this.#list.focus();
      oldest.item.remove();
    }
    if (following) this.#toEnd();
    this.#count();
  }

  #shows({ type, message, about }) {
    const wanted = this.#search.value.trim().toLowerCase();
    const chosen = this.#types.some((box) => box.value === type && box.checked);
    return chosen && (wanted === "" || message.toLowerCase().includes(wanted) || about.toLowerCase().includes(wanted));
  }

  #filter() {
    for (const entry of this.#entries) entry.item.hidden = !this.#shows(entry);
    if (this.#follow.checked) this.#toEnd();
    this.#count();
  }

  #clear() {
    this.#list.replaceChildren();
    [this.#entries, this.#waiting] = [[], []];
    [this.#characters, this.#dropped, this.#unseen] = [0, 0, 0];
    this.#atEnd = true;
    this.#count();
  }

  #toEnd() {
    this.#list.scrollTop = this.#list.scrollHeight;
    this.#atEnd = true;
    this.#unseen = 0;
    this.#count();
  }

  #count() {
    const shown = this.#entries.filter((entry) => !entry.item.hidden).length;
    const counts = text("log.count", { shown: number(shown), all: number(this.#entries.length) });
    const dropped = this.#dropped > 0 ? " · " + text("log.dropped", { entries: number(this.#dropped) }) : "";
    element("log-count").textContent = counts + dropped;
    element("log-empty").hidden = shown > 0;
    label(element("log-empty"), this.#entries.length > 0 ? "log.none" : "log.empty");
    const unseen = element("log-unseen");
    unseen.hidden = this.#unseen === 0 || this.#atEnd;
    unseen.textContent = text("log.unseen", { entries: number(this.#unseen) });
  }

  /** Opens or closes an entry. */
  #toggle(line) {
    if (!line) return;
    const open = line.getAttribute("aria-expanded") !== "true";
    line.setAttribute("aria-expanded", String(open));
    if (open) {
      const entry = this.#entries.find((entry) => entry.item === line.parentElement);
      const whole = document.createElement("pre");
      whole.textContent = laidOut(entry.message) ?? entry.message;
      line.after(whole);
    } else {
      line.nextElementSibling.remove();
    }
  }

  /** The list is one stop for the Tab key; inside it arrows, Home and End move. */
  #move(event) {
    const lines = [...this.#list.querySelectorAll("li:not([hidden]) > .line")];
    if (lines.length === 0) return;
    const at = lines.indexOf(document.activeElement);
    const last = lines.length - 1;
    const steps = {
      ArrowDown: at < 0 ? 0 : Math.min(at + 1, last),
      ArrowUp: at < 0 ? last : Math.max(at - 1, 0),
      Home: 0,
      End: last,
    };
    if (!(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    lines[steps[event.key]].focus();
  }
}

/** An entry's element. Everything in it is put in as text. */
function item({ type, message, about, time }) {
  const part = (tag, name, content) => {
    const made = document.createElement(tag);
    made.className = name;
    made.textContent = content;
    return made;
  };
  const entry = part("li", `entry ${type}`, "");
  const line = part("button", "line", "");
  line.type = "button";
  line.tabIndex = -1;
  line.setAttribute("aria-expanded", "false");
  const clock = part("time", "", clockOf(time));
  clock.dateTime = time.toISOString();
  const icon = part("span", "icon", ICONS[type]);
  icon.setAttribute("aria-hidden", "true");
  const name = part("span", "type", "");
  label(name, `type.${type}`);
  const preview = message.slice(0, PREVIEW) + (message.length > PREVIEW ? "…" : "");
  line.append(clock, icon, name, part("span", "about", about), part("span", "message", preview));
  entry.append(line);
  return entry;
}

/** Hours to milliseconds, in the reader's time zone. */
function clockOf(time) {
  const two = (part) => String(part).padStart(2, "0");
  const seconds = `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}`;
  return `${seconds}.${String(time.getMilliseconds()).padStart(3, "0")}`;
}
