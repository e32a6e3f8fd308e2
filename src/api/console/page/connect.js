// The form that connects to a WebSocket, and what it shows of the connection.

import { Connection } from "./connection.js";
import { setFault } from "./field.js";
import { label, number, onLanguage, text } from "./language.js";
import { read, write } from "./storage.js";

/** Close codes that have an explanation (RFC 6455, section 7.4.1, and the server's own). */
const EXPLAINED = new Set([1000, 1001, 1002, 1003, 1006, 1007, 1008, 1009, 1011, 1012, 1013, 4008, 4009, 4010]);

const ID = /^[0-9a-f]{32}$/;

const element = (id) => document.getElementById(id);

export class ConnectForm {
  #log;
  #connection;
  #url = element("url");
  #channels = element("channels");
  /** The address that the page guessed, as long as nobody has written another. */
  #guess = "";
  /** Whether the connection was last told to go where the page guessed. */
  #isGuessTried = false;
  #received = 0;
  #sent = 0;
  #id = "";
  #onId;

  /** `onId` is called with the connection's own id where the server tells it. */
  constructor(log, onId) {
    this.#log = log;
    this.#onId = onId;
    this.#connection = new Connection(
      (state) => this.#changed(state),
      (data) => this.#heard(data),
    );
    this.#url.value = read("sessionStorage", "url") ?? "";
    this.#channels.value = read("sessionStorage", "channels") ?? "";
    element("connect-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit();
    });
    element("disconnect").addEventListener("click", () => this.#connection.close());
    element("retry").addEventListener("click", () => this.#connection.retry());
    const reconnect = element("reconnect");
    reconnect.addEventListener("change", () => (this.#connection.reconnect = reconnect.checked));
    element("use-id").addEventListener("click", () => this.#onId(this.#id));
    this.#url.addEventListener("input", () => setFault(this.#url, ""));
    onLanguage(() => this.#show());
    setInterval(() => this.#show(), 250);
    this.guess(null);
  }

  /** Where the node's WebSocket port is thought to be: its number, or null where it is this page's own port. */
  guess(port, known = false) {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const host = known && port === null ? location.host : `${location.hostname}:${port ?? 8090}`;
    const guess = `${scheme}//${host}/`;
    if (guess === this.#guess) return;
    const isGuessed = this.#url.value === "" || this.#url.value === this.#guess;
    if (isGuessed) this.#url.value = guess;
    this.#guess = guess;
    // Somebody may have been quicker than the node's answer: what tries the former guess would try it for ever.
    const isTrying = ["connecting", "waiting"].includes(this.#connection.state.name);
    if (isGuessed && this.#isGuessTried && isTrying) this.#submit();
  }

  /** Sends a text over the socket; false where that can't be done now. */
  send(message) {
    const sent = this.#connection.send(message);
    if (sent) this.#sent += 1;
    return sent;
  }

  #submit() {
    let url;
    try {
      url = this.#address();
      this.#connection.open(url);
    } catch (error) {
      setFault(this.#url, text("connect.url.bad", { why: error.message }));
      this.#url.focus();
      return;
    }
    setFault(this.#url, "");
    // What the page guesses by itself it guesses again.
    this.#isGuessTried = this.#url.value === this.#guess;
    write("sessionStorage", "url", this.#isGuessTried ? null : this.#url.value);
    write("sessionStorage", "channels", this.#channels.value);
    this.#log.add("system", text("log.connecting", { url }));
  }

  /** The URL with the channels in its query. Throws where it is none. */
  #address() {
    const written = this.#url.value.trim();
    const url = new URL(/^[a-z]+:\/\//i.test(written) ? written : `${this.#guess.split("//")[0]}//${written}`);
    if (url.protocol === "http:") url.protocol = "ws:";
    if (url.protocol === "https:") url.protocol = "wss:";
    if (url.protocol !== "ws:" && url.protocol !== "wss:") throw new Error(text("connect.url.scheme"));
    url.hash = "";
    const channels = this.#channels.value.split(",").map((name) => name.trim());
    const query = channels.filter(Boolean).map((name) => `channel[]=${encodeURIComponent(name)}`);
    // Put in as text: what is in the query already stays as it was written.
    url.search = [url.search.slice(1), ...query].filter(Boolean).join("&");
    return url.href;
  }

  #heard(data) {
    this.#received += 1;
    if (typeof data !== "string") {
      const bytes = new Uint8Array(data);
      const hex = Array.from(bytes.subarray(0, 4096), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
      this.#log.add("received", hex, text("log.binary", { bytes: number(bytes.length) }));
      return;
    }
    this.#learn(data);
    this.#log.add("received", data);
  }

  /** A client of the profile `center` is told its id on open. */
  #learn(message) {
    if (message.length > 200 || !message.includes('"open"')) return;
    try {
      const { cmd, _id: id } = JSON.parse(message);
      if (cmd === "open" && ID.test(id)) this.#id = id;
    } catch {
      // A message like any other.
    }
  }

  #changed(state) {
    if (state.name !== "open" && state.name !== "closing") this.#id = "";
    if (state.name === "open") this.#log.add("system", text("log.open"));
    if (state.name === "waiting" || state.name === "closed") this.#logEnd(state);
    this.#show();
  }

  #logEnd(state) {
    const why = this.#why(state);
    if (state.givenUp) this.#log.add("system", text("log.given-up"));
    else if (!state.opened) this.#log.add("error", text("log.failed", { why }));
    else this.#log.add(state.name === "closed" && state.code === 1000 ? "system" : "error", text("log.closed", { why }));
  }

  /** Why a connection ended, for people. */
  #why({ code, reason }) {
    const explanation = EXPLAINED.has(code) ? text(`close.${code}`) : "";
    return [code, explanation, reason && `“${reason}”`].filter(Boolean).join(" · ");
  }

  #show() {
    const state = this.#connection.state;
    const { name, code } = state;
    element("connection").dataset.state = name;
    // Only what has changed is written, as each change of a status is read out.
    const put = (id, value) => {
      if (element(id).textContent !== value) element(id).textContent = value;
    };
    put("connection-state", text(`state.${name}`));
    const left = name === "waiting" ? Math.max(0, Math.ceil((state.until - Date.now()) / 1000)) : 0;
    put("connection-countdown", name === "waiting" ? text("state.seconds", { seconds: number(left) }) : "");
    put("connection-why", code === undefined ? "" : this.#why(state));
    put("connection-id", this.#id);
    element("connection-id-line").hidden = this.#id === "";
    put("connection-counts", text("connect.counts", { received: number(this.#received), sent: number(this.#sent) }));
    element("retry").hidden = name !== "waiting";
    element("disconnect").disabled = name === "idle" || name === "closed" || name === "closing";
    const again = name === "idle" || name === "closed" ? "connect.connect" : "connect.again";
    if (element("connect").dataset.text !== again) label(element("connect"), again);
  }
}
