// The console of one node: connecting, sending, receiving, the log, the charts, the token.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { eventually, Node, picture } from "./harness.js";
import { connect, connectionIs, entry, inContext, nodeIs, says, send, withBrowser } from "./page.js";

const { open } = await withBrowser({ before, after });

/** What would run if a page took messages for HTML. */
const MISCHIEF = `<img src=x onerror="alert(1)"><script>alert(2)</script>`;

test("receives what a backend pushes, as text", async () => {
  const node = await Node.start();
  const page = await open(node);
  await eventually("the node has told its port", async () => (await page.inputValue("#url")) === node.ws);
  await picture(page, "light-start");
  await connect(page, "news, sport");
  assert.deepEqual((await node.call({ action: "getChannels" })).response.channels, { news: [1], sport: [1] });
  const reply = await node.call({ action: "push", to: "channel", channel: "news", message: MISCHIEF });
  assert.equal(reply.status, true);
  const received = await entry(page, "received", MISCHIEF);
  await received.locator(".line").click();
  assert.equal(await received.locator("pre").textContent(), MISCHIEF);
  assert.equal(await page.locator("#log img, #log script").count(), 0);
  assert.deepEqual(page.faults, []);
});

test("connects where the node listens, also when asked before the node has told where that is", async () => {
  const node = await Node.start();
  const page = await open(node);
  let tell;
  const told = new Promise((resolve) => (tell = resolve));
  await page.route("**/console/node", (route) => told.then(() => route.continue()));
  // Whoever listens on the port that is tried first, here it is nobody.
  await page.routeWebSocket(/:8090\//, (socket) => socket.close({ code: 1013 }));
  await page.reload();
  await page.locator("body:not([data-loading])").waitFor();
  await page.click("#connect");
  await connectionIs(page, "waiting");
  tell();
  await connectionIs(page, "open");
  assert.equal(await page.inputValue("#url"), node.ws);
  assert.deepEqual(page.faults, []);
});

test("sends by the HTTP API to everybody, a channel and a connection", async () => {
  const node = await Node.start();
  const page = await open(node);
  await connect(page, "news");
  const [id] = (await node.call({ action: "getConnections" })).response.connections;
  for (const [to, name] of [["all", ""], ["channel", "news"], ["connection", String(id)]]) {
    await send(page, to, name, `to ${to} ї 好 ${MISCHIEF}`);
    await entry(page, "sent", `to ${to} ї 好 ${MISCHIEF}`);
    await entry(page, "received", `to ${to} ї 好 ${MISCHIEF}`);
  }
  // Taken, though it reaches nobody.
  for (const to of ["user", "group"]) {
    await send(page, to, "7", `to ${to}`);
    await entry(page, "sent", `to ${to}`);
  }
  assert.equal(await page.locator(".entry.error").count(), 0);
  await send(page, "connection", String(id + 1), "to nobody");
  await entry(page, "error", "Not taken: there is no such connection");
  assert.deepEqual(page.faults, []);
});

test("says at the field what is wrong, and sends nothing", async () => {
  const node = await Node.start();
  const page = await open(node);
  await connect(page);
  await send(page, "connection", "abc", "x");
  await says(page, "#name-error", /^A connection id is/);
  await page.fill("#name", "");
  await page.click("#send");
  await says(page, "#name-error", /^To whom/);
  assert.equal(await page.getAttribute("#name", "aria-invalid"), "true");
  await page.selectOption("#to", "all");
  await page.check("input[name=as][value=json]");
  await page.fill("#message", '{"a": 1,}');
  await says(page, "#message-error", /^Not JSON: /);
  await page.click("#send");
  assert.equal(await page.evaluate(() => document.activeElement.id), "message");
  await picture(page, "light-faults");
  assert.equal(await page.locator(".entry.sent").count(), 0);
  await page.fill("#message", '{"a":[1,{}],"n":12345678901234567890}');
  await says(page, "#message-error", "");
  await page.click("#format");
  const laidOut = '{\n  "a": [\n    1,\n    {}\n  ],\n  "n": 12345678901234567890\n}';
  assert.equal(await page.inputValue("#message"), laidOut);
  await page.click("#send");
  await page.locator(".entry.received").waitFor();
  await page.locator(".entry.received .line").click();
  assert.equal(await page.locator(".entry.received pre").textContent(), laidOut);

  await page.fill("#url", "ftp://example.org/");
  await page.click("#connect");
  await says(page, "#url-error", "Not a WebSocket URL: it begins with ws:// or wss://");
  await connectionIs(page, "open");
  assert.deepEqual(page.faults, []);
});

test("sends a frame over the socket as it is", async () => {
  const node = await Node.start();
  const page = await open(node);
  await page.check("#by-socket");
  await page.fill("#message", MISCHIEF);
  await page.click("#send");
  await entry(page, "error", "Not sent: the socket is not open, or has too much to send already.");
  await connect(page);
  await page.click("#send");
  await entry(page, "sent", MISCHIEF);
  // The profile of this path sends a message back to its sender.
  await entry(page, "received", MISCHIEF);
  await says(page, "#connection-counts", "1 received, 1 sent");
  await picture(page, "light-socket");
  assert.deepEqual(page.faults, []);
});

test("shows the id that a client is told on open, and sends to it", async () => {
  const node = await Node.start({ CLIENT_PROFILES: "/app=center,/=channel" });
  const page = await open(node);
  await page.fill("#url", `${node.ws}app`);
  await connect(page);
  const id = /^[0-9a-f]{32}$/;
  await says(page, "#connection-id", id);
  await page.click("#use-id");
  assert.match(await page.inputValue("#name"), id);
  assert.equal(await page.inputValue("#to"), "connection");
  await picture(page, "light-id");
  await page.fill("#message", MISCHIEF);
  await page.click("#send");
  await entry(page, "received", MISCHIEF);
  // The last digit belongs to the connection: this is none.
  const other = (await page.inputValue("#name")).replace(/.$/, (digit) => (digit === "0" ? "1" : "0"));
  await send(page, "connection", other, "to nobody");
  await page.locator(".entry.error", { hasText: "Not taken: there is no such connection" }).waitFor();
  assert.deepEqual(page.faults, []);
});

test("comes back by itself when its node was killed and runs again", async () => {
  const node = await Node.start();
  const page = await open(node);
  await connect(page, "news");
  await node.kill();
  await connectionIs(page, "waiting");
  await says(page, "#connection-why", "1006 · no connection, or it broke off");
  await nodeIs(page, "unreachable");
  await picture(page, "light-node-killed");
  await node.again();
  await connectionIs(page, "open");
  await nodeIs(page, "ready");
  await node.call({ action: "push", to: "channel", channel: "news", message: "after the restart" });
  await entry(page, "received", "after the restart");
  assert.deepEqual(page.faults, []);
});

test("stays disconnected where that was asked for", async () => {
  const node = await Node.start({ DRAIN_DELAY: "60s" });
  const page = await open(node);
  await connect(page);
  await page.click("#disconnect");
  await connectionIs(page, "closed");
  await says(page, "#connection-why", "1000 · closed normally");
  await connect(page);
  const [id] = (await node.call({ action: "getConnections" })).response.connections;
  await node.call({ action: "close", to: "connection", connection: id });
  await entry(page, "error", "Connection ended: 1000 · closed normally");
  await connectionIs(page, "open");
  await page.uncheck("#reconnect");
  node.stop();
  await nodeIs(page, "draining");
  await picture(page, "light-node-stopping");
  await node.kill();
  await connectionIs(page, "closed");
  assert.deepEqual(page.faults, []);
});

test("the log filters, stays where it is read, is bounded and is cleared", async () => {
  const node = await Node.start();
  const page = await open(node);
  await connect(page);
  const push = (message) => node.call({ action: "push", to: "all", message });
  const shown = () => page.locator(".entry:not([hidden])").count();
  for (let at = 0; at < 40; at += 1) await push(`message ${at}`);
  await entry(page, "received", "message 39");

  await page.fill("#log-search", "MESSAGE 1");
  assert.equal(await shown(), 11);
  await page.fill("#log-search", "");
  await page.uncheck("#log-types .received input");
  assert.equal(await shown(), 2);
  await page.uncheck("#log-types .system input");
  await says(page, "#log-empty", "No entry passes the filter.");
  await page.check("#log-types .received input");
  await page.check("#log-types .system input");

  const scrolled = () => page.locator("#log").evaluate((log) => log.scrollHeight - log.scrollTop - log.clientHeight);
  await eventually("the log is at its end", async () => (await scrolled()) < 2);
  await page.locator("#log").evaluate((log) => (log.scrollTop = 100));
  await eventually("somebody reads further up", async () => (await scrolled()) > 100);
  await push("unseen");
  await says(page, "#log-unseen", "↓ 1 new");
  assert.equal(await page.locator("#log").evaluate((log) => log.scrollTop), 100);
  await page.click("#log-unseen");
  await eventually("the log is at its end again", async () => (await scrolled()) < 2);

  const many = Array.from({ length: 1_100 }, (_, at) => push(`one of many ${at}`));
  await Promise.all(many);
  await says(page, "#log-count", /^1,000 of 1,000 entries\. · 1\d\d older ones dropped\.$/);
  assert.equal(await page.locator(".entry").count(), 1_000);
  await page.click("#log-clear");
  assert.equal(await page.locator(".entry").count(), 0);
  await says(page, "#log-empty", "Nothing yet. Connect, or send something.");
  assert.deepEqual(page.faults, []);
});

test("the charts show what the node counts, in words as well", async () => {
  const node = await Node.start();
  const page = await open(node);
  await connect(page);
  await says(page, "#chart-connections .value", "1");
  const pushing = setInterval(() => node.call({ action: "push", to: "all", message: "x" }), 20);
  after(() => clearInterval(pushing));
  for (const chart of ["pushes", "deliveries"]) {
    await says(page, `#chart-${chart} .value`, /^[1-9][\d,.]*K?\/s$/);
    await page.locator(`#chart-${chart} svg .line`).first().waitFor({ state: "attached" });
  }
  await eventually("there are some seconds to draw", async () => {
    const drawn = await page.locator("#chart-deliveries svg .line").last().getAttribute("d");
    return drawn.split("L").length > 4;
  });
  clearInterval(pushing);
  const said = await page.locator("#chart-deliveries svg").getAttribute("aria-label");
  assert.match(said, /^Deliveries: [\d,.]+K?\/s now, lowest .*, highest .* in the last three minutes$/);
  await says(page, "#chart-unsent .value", "0 B");
  await picture(page, "light-charts");
  assert.deepEqual(page.faults, []);
});

test("asks for the token, refuses a wrong one, keeps the right one for the tab", async () => {
  const node = await Node.start({ HTTP_TOKEN: "s3crét" });
  const page = await open(node);
  await page.locator("#token-dialog[open]").waitFor();
  await picture(page, "light-token", false);
  await page.fill("#token", "wrong");
  await page.keyboard.press("Enter");
  await says(page, "#token-error", "The node does not accept this token.");
  await picture(page, "light-token-refused", false);
  await page.fill("#token", "s3crét");
  await page.keyboard.press("Enter");
  await page.locator("#token-dialog").waitFor({ state: "hidden" });
  await nodeIs(page, "ready");
  await connect(page, "news");
  await send(page, "channel", "news", "with a token");
  await entry(page, "received", "with a token");

  await page.reload();
  await nodeIs(page, "ready");
  const elsewhere = () => Object.values(localStorage).join() + location.href + document.cookie;
  assert.doesNotMatch(await page.evaluate(elsewhere), /s3cr/);
  const other = await inContext(page.context(), node);
  await other.locator("#token-dialog[open]").waitFor();

  await page.click("#token-button");
  await page.locator("#token-dialog[open]").waitFor();
  await page.click("#token-cancel");
  await nodeIs(page, "locked");
  await connect(page, "news");
  await picture(page, "light-without-token");
  await node.call({ action: "push", to: "channel", channel: "news", message: "to whoever listens" }, "s3crét");
  await entry(page, "received", "to whoever listens");
  await send(page, "all", "", "without a token");
  await entry(page, "error", "Not taken: the node wants its token");
  assert.deepEqual([...page.faults, ...other.faults], []);
});
