// The form that sends: to whom, by which way, as what.

import { push } from "./api.js";
import { setFault } from "./field.js";
import { fault, format } from "./json.js";
import { label, onLanguage, text } from "./language.js";

const element = (id) => document.getElementById(id);

const chosen = (name) => document.querySelector(`input[name="${name}"]:checked`).value;

export class SendForm {
  #log;
  #send;
  #to = element("to");
  #name = element("name");
  #message = element("message");

  /** `send` sends a text over the socket, and says whether it could. */
  constructor(log, send) {
    this.#log = log;
    this.#send = send;
    const form = element("send-form");
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    form.addEventListener("change", () => this.#show());
    this.#name.addEventListener("input", () => setFault(this.#name, ""));
    this.#message.addEventListener("input", () => this.#check());
    this.#message.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
    });
    element("format").addEventListener("click", () => {
      if (this.#check()) this.#message.value = format(this.#message.value);
    });
    onLanguage(() => this.#show());
    this.#show();
  }

  /** Makes a connection the receiver. */
  toConnection(id) {
    element("by-http").checked = true;
    this.#to.value = "connection";
    this.#name.value = id;
    this.#show();
    this.#message.focus();
  }

  #show() {
    const [to, http, json] = [this.#to.value, chosen("by") === "http", chosen("as") === "json"];
    element("target").hidden = !http;
    element("target").dataset.to = to;
    element("raw-note").hidden = http;
    element("name-field").hidden = to === "all";
    if (to !== "all") label(element("name-label"), `send.name.${to}`);
    element("format").hidden = !json;
    setFault(this.#name, "");
    this.#check();
  }

  /** Whether the message can be what it is to be sent as; says so at the field. An empty one is not complained of yet. */
  #check() {
    const why = chosen("as") === "json" ? fault(this.#message.value) : null;
    const empty = this.#message.value.trim() === "";
    setFault(this.#message, why === null || empty ? "" : text("send.json.bad", { why }));
    return why === null;
  }

  /** What is wrong with the receiver's name; null where nothing is. */
  #nameFault(to, name) {
    if (to === "all") return null;
    if (name === "") return text("send.name.missing");
    if (to === "connection" && !/^(\d{1,16}|[0-9a-f]{32})$/i.test(name)) return text("send.name.no-id");
    return null;
  }

  async #submit() {
    const message = this.#message.value;
    if (!this.#check()) {
      setFault(this.#message, text("send.json.bad", { why: fault(message) }));
      this.#message.focus();
      return;
    }
    if (chosen("by") === "socket") {
      if (this.#send(message)) this.#log.add("sent", message, text("send.about.socket"));
      else this.#log.add("error", text("send.not-open"));
      return;
    }
    const to = this.#to.value;
    const name = to === "all" ? "" : this.#name.value.trim();
    const wrong = this.#nameFault(to, name);
    if (wrong !== null) {
      setFault(this.#name, wrong);
      this.#name.focus();
      return;
    }
    await this.#push(to, name, message);
  }

  async #push(to, name, message) {
    const about = `→ ${text(`send.to.${to}`)}${name && ` ${name}`}`;
    this.#log.add("sent", message, about);
    try {
      await push(to, name, message);
    } catch (error) {
      const unknown = text(to === "connection" ? "send.unknown" : "send.refused");
      const why = error.kind === "token" ? text("token.needed") : error.message || unknown;
      this.#log.add("error", text(error.kind === "unreachable" ? "send.unanswered" : "send.failed", { why }), about);
    }
  }
}
