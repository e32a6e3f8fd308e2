// The page's texts in the reader's language. An element names its text by key: `data-text` is what it contains,
// `data-label` its accessible name, `data-hint` its placeholder, `data-title` its tooltip.

import { read, write } from "./storage.js";

const LANGUAGES = ["en", "zh", "uk", "ru"];
const listeners = [];
let table = {};
let language = "en";
let latestWish = language;

/** The text of a key, `{name}` in it replaced by the value of that name. */
export function text(key, values = {}) {
  const found = table[key] ?? key;
  return found.replace(/\{(\w+)\}/g, (whole, name) => (name in values ? String(values[name]) : whole));
}

/** A number as the language writes it. */
export function number(value, options = {}) {
  return new Intl.NumberFormat(language, options).format(value);
}

/** A moment's date and time as the language writes them. */
export function moment(milliseconds, options = { dateStyle: "medium", timeStyle: "medium" }) {
  return new Intl.DateTimeFormat(language, options).format(milliseconds);
}

/** Calls back whenever the language has changed. */
export function onLanguage(listener) {
  listeners.push(listener);
}

/** Gives an element the text of a key, now and after every change of language. */
export function label(element, key) {
  element.dataset.text = key;
  element.textContent = text(key);
}

/** Writes the texts of all elements below `root` that name one. */
function fill(root) {
  const set = (name, apply) => {
    for (const element of root.querySelectorAll(`[data-${name}]`)) apply(element, text(element.dataset[name]));
  };
  set("text", (element, value) => (element.textContent = value));
  set("label", (element, value) => element.setAttribute("aria-label", value));
  set("hint", (element, value) => element.setAttribute("placeholder", value));
  set("title", (element, value) => element.setAttribute("title", value));
}

async function load(wanted) {
  latestWish = wanted;
  const answer = await fetch(new URL(`languages/${wanted}.json`, import.meta.url));
  if (!answer.ok) throw new Error(`languages/${wanted}.json: status ${answer.status}`);
  const read = await answer.json();
  // Answers may overtake each other: the last wish counts.
  if (wanted !== latestWish) return;
  [table, language] = [read, wanted];
  document.documentElement.lang = wanted;
  document.title = text("title");
  fill(document);
  for (const listener of listeners) listener();
}

/** The language that was chosen before, else the first of the browser's that the page speaks, else English. */
function preferred() {
  const kept = read("localStorage", "language");
  const wishes = [kept, ...navigator.languages].filter(Boolean).map((wish) => wish.toLowerCase().split("-")[0]);
  return wishes.find((wish) => LANGUAGES.includes(wish)) ?? "en";
}

/** Loads the reader's language, and lets them choose another. */
export async function startLanguage(select) {
  for (let loaded = false; !loaded; ) {
    try {
      await load(preferred());
      loaded = true;
    } catch {
      // The node went away between the page and its texts; without them there is nothing to show.
      await new Promise((passed) => setTimeout(passed, 1_000));
    }
  }
  select.value = language;
  select.addEventListener("change", async () => {
    const wanted = select.value;
    try {
      await load(wanted);
      write("localStorage", "language", language);
    } catch {
      // The node does not answer, which the page says elsewhere; the language stays.
      if (wanted === latestWish) select.value = language;
    }
  });
}
