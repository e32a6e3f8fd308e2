// What the tests of the console stand on: real nodes, a real Redis, a real browser. A test owns what it starts; all of it
// ends with the process, whatever happens.

import { spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { delimiter, dirname, join, resolve } from "node:path";
import { createInterface } from "node:readline";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const ROOT = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const CARILLON = process.env.CARILLON ?? join(ROOT, "target/debug/carillon");
const SCREENSHOTS = join(ROOT, "target/console");

/** Longer than anything here takes, in milliseconds; a condition that has not come true by then fails its test. */
export const DEADLINE = 60_000;

const children = new Set();
const directories = [];

function endAll() {
  for (const child of children) child.kill("SIGKILL");
  for (const directory of directories.splice(0)) rmSync(directory, { recursive: true, force: true });
}

// What runs keeps this process alive; and it may be told to end before the tests have.
after(endAll);
process.on("exit", endAll);
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => process.exit(1));

function run(command, args, environment) {
  const child = spawn(command, args, { env: environment, stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  child.ended = new Promise((ended) => child.once("exit", ended));
  child.ended.then(() => children.delete(child));
  child.lines = [];
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on("line", (line) => child.lines.push(line));
  }
  return child;
}

/** Polls until `check` gives something that is true, and gives that back. */
export async function eventually(what, check) {
  const end = Date.now() + DEADLINE;
  for (;;) {
    const found = await check();
    if (found) return found;
    if (Date.now() > end) throw new Error(`did not come true in time: ${what}`);
    await new Promise((passed) => setTimeout(passed, 20));
  }
}

/** Below the ports that the system gives out by itself (32768 and up): one of these would be somebody's by the time it is
 *  used, if only as the near end of a connection of the browser. */
const FIRST_PORT = 20_000;
const PORTS = 12_000;

/** Each process begins elsewhere: 37 shares no divisor with the count. */
let looked = process.pid * 37;

/** A port that nobody listens on at the moment, and that no other test gets. */
async function freePort() {
  for (;;) {
    const port = FIRST_PORT + (looked++ % PORTS);
    const server = createServer();
    const free = await new Promise((answered) => {
      server.once("error", () => answered(false));
      server.listen(port, "127.0.0.1", () => answered(true));
    });
    if (!free) continue;
    await new Promise((closed) => server.close(closed));
    return port;
  }
}

async function answers(url, status = 200) {
  try {
    return (await fetch(url)).status === status;
  } catch {
    return false;
  }
}

/** A `carillon` process. */
export class Node {
  /** Starts a node with these variables and waits until it is ready. Ports that aren't given are free ones. */
  static async start(variables = {}) {
    const node = new Node();
    node.variables = {
      WS_HOST: "127.0.0.1",
      HTTP_HOST: "127.0.0.1",
      WS_PORT: String(await freePort()),
      HTTP_PORT: String(await freePort()),
      LOG_FORMAT: "json",
      ...variables,
    };
    await node.again();
    return node;
  }

  get http() {
    return `http://127.0.0.1:${this.variables.HTTP_PORT}`;
  }

  get ws() {
    return `ws://127.0.0.1:${this.variables.WS_PORT}/`;
  }

  get console() {
    return `${this.http}/console/`;
  }

  /** Starts it, after an end on the same ports. */
  async again() {
    this.child = run(CARILLON, [], this.variables);
    await eventually("the node is ready", () => {
      if (this.child.exitCode !== null) throw new Error(`the node ended:\n${this.child.lines.join("\n")}`);
      return answers(`${this.http}/readyz`);
    });
  }

  /** `kill -9`. */
  async kill() {
    this.child.kill("SIGKILL");
    await this.child.ended;
  }

  /** SIGTERM. */
  stop() {
    this.child.kill("SIGTERM");
  }

  /** A call of the actions API, as a backend makes it; its reply. */
  async call(parameters, token) {
    // A header's characters are bytes, here those of the token's UTF-8.
    const bytes = Buffer.from(token ?? "").toString("latin1");
    const headers = token === undefined ? {} : { Authorization: `Bearer ${bytes}` };
    const answer = await fetch(`${this.http}/?${new URLSearchParams(parameters)}`, { headers });
    return answer.json();
  }
}

/** A `redis-server` process. */
export class Redis {
  static async start() {
    const redis = new Redis();
    redis.port = await freePort();
    redis.directory = mkdtempSync(join(tmpdir(), "carillon-console-"));
    directories.push(redis.directory);
    await redis.again();
    return redis;
  }

  get url() {
    return `redis://127.0.0.1:${this.port}`;
  }

  async again() {
    const options = ["--port", this.port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", this.directory];
    this.child = run("redis-server", options.map(String), process.env);
    await eventually("redis takes connections", () => this.child.lines.some((line) => line.includes("Ready to accept")));
  }

  async kill() {
    this.child.kill("SIGKILL");
    await this.child.ended;
  }
}

/** Where Chromium is: `CHROMIUM`, else the first of its usual names in the path. */
function chromiumPath() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  const names = ["chromium", "chromium-browser", "google-chrome"];
  const places = (process.env.PATH ?? "").split(delimiter).flatMap((place) => names.map((name) => join(place, name)));
  const found = places.find((place) => existsSync(place));
  if (!found) throw new Error("no chromium in PATH: install it, or name it in CHROMIUM");
  return found;
}

/** A browser, closed at the end of the tests. */
export function startBrowser() {
  return chromium.launch({
    executablePath: chromiumPath(),
    timeout: DEADLINE,
    args: ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
  });
}

/** Writes a picture of the page, for people to look at. */
export async function picture(page, name, whole = true) {
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`), fullPage: whole });
}
