// The node's HTTP interfaces. The page itself stands below `/console/`, the interfaces beside it.

import { read, write } from "./storage.js";

const ROOT = new URL("../", import.meta.url);

/** The longest that an answer is waited for, in milliseconds. */
const PATIENCE = 10_000;

/** A call that was not carried out. `kind`: `token` (refused for want of the right one), `unreachable` (no answer),
 *  `refused` (`message` says why). */
export class CallError extends Error {
  constructor(kind, message = "") {
    super(message);
    this.kind = kind;
  }
}

let token = read("sessionStorage", "token") ?? "";
let locked = false;
const lockListeners = [];

/** Whether the node wants a token that the page doesn't have. */
export function isLocked() {
  return locked;
}

/** Whether a token is kept. */
export function hasToken() {
  return token !== "";
}

/** Calls back when the node begins to want a token, or one was taken or forgotten. */
export function onToken(listener) {
  lockListeners.push(listener);
}

/** Keeps a token for this tab. */
export function keepToken(value) {
  token = value;
  write("sessionStorage", "token", value);
  setLocked(false);
}

/** Forgets the token. Whether one is needed shows at the next call. */
export function forgetToken() {
  token = "";
  write("sessionStorage", "token", null);
  setLocked(false);
}

function setLocked(value) {
  locked = value;
  for (const listener of lockListeners) listener();
}

function authorization(value) {
  if (value === "") return {};
  // A header holds bytes: the token's UTF-8, one character for each byte.
  return { Authorization: `Bearer ${String.fromCharCode(...new TextEncoder().encode(value))}` };
}

async function request(path, options, presented) {
  let headers;
  try {
    headers = new Headers({ ...options.headers, ...authorization(presented) });
  } catch {
    // A token that can't be in a header can't be right.
    throw new CallError("token");
  }
  const signal = AbortSignal.timeout(PATIENCE);
  let answer;
  let reply;
  try {
    answer = await fetch(new URL(path, ROOT), { ...options, headers, signal, cache: "no-store" });
    reply = await answer.json();
  } catch (error) {
    throw new CallError("unreachable", answer && !answer.ok ? `HTTP ${answer.status}` : error.message);
  }
  if (answer.status === 401 || reply.message === "access deny" || reply.msg === "token error") {
    throw new CallError("token");
  }
  if (!answer.ok) throw new CallError("refused", reply.error ?? `HTTP ${answer.status}`);
  return reply;
}

async function call(path, options = {}) {
  const presented = token;
  try {
    return await request(path, options, presented);
  } catch (error) {
    // An answer to a token that has been exchanged meanwhile says nothing of the present one.
    if (error.kind === "token" && presented === token && !locked) setLocked(true);
    throw error;
  }
}

function post(body) {
  return call("", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

/** Whether the node takes this token; throws where it doesn't say. */
export async function accepts(value) {
  try {
    await request("console/node", {}, value);
    return true;
  } catch (error) {
    if (error.kind === "token") return false;
    throw error;
  }
}

/** The node's own figures. */
export function ownNode() {
  return call("console/node");
}

/** The live nodes of the cluster. */
export function liveNodes() {
  return call("console/nodes");
}

/** Pushes a text to `all`, or to the `connection`, `channel`, `user` or `group` of that name. */
export async function push(to, name, message) {
  if (to === "connection" && /[a-f]|^.{17,}$/i.test(name)) return pushByHex(name.toLowerCase(), message);
  const target = to === "all" ? {} : { [to]: name };
  const reply = await post({ action: "push", to, ...target, message });
  if (reply.status !== true) throw new CallError("refused", reply.message ?? "");
}

/** Pushes to the connection whose id is spelled in hexadecimal, which is the events API's spelling. */
async function pushByHex(id, message) {
  const event = "sendMessageTo_Id";
  const reply = await post({ event, [event]: { _id: id, msg: message } });
  if (reply.code !== 0) throw new CallError("refused", reply.msg ?? reply.message ?? "");
  const counts = Object.values(reply.data?.[event] ?? {});
  if (counts.some((count) => count === 1)) return;
  // A node that could not be asked has an error in place of its count.
  throw new CallError("refused", counts.find((count) => count?.msg)?.msg ?? "");
}
