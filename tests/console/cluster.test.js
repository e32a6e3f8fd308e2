// The console of a node among others: the list of nodes, and a node without its Redis.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { eventually, Node, picture, Redis } from "./harness.js";
import { connect, connectionIs, entry, nodeIs, says, send, withBrowser } from "./page.js";

const { open } = await withBrowser({ before, after });

/** The rows of the list: a node's port, its state, its connections, and whether it is the page's own. */
function rows(page) {
  return page.locator("#nodes-body tr").evaluateAll((rows) =>
    rows.map((row) => ({
      port: row.querySelector(".address").textContent.split(":")[1],
      state: row.dataset.state,
      connections: row.querySelector("td.number").textContent,
      own: row.querySelector(".own") !== null,
    })),
  );
}

/** Waits until the list is this one, in any order. */
async function lists(page, wanted) {
  const sorted = (list) => JSON.stringify([...list].sort((a, b) => a.port - b.port));
  let found;
  try {
    await eventually("the list of nodes", async () => sorted((found = await rows(page))) === sorted(wanted));
  } catch {
    assert.deepEqual(found, wanted);
  }
}

test("shows the nodes, hears pushes of another, and sees a node go", async () => {
  const redis = await Redis.start();
  const [own, other] = await Promise.all([1, 2].map(() => Node.start({ REDIS_URL: redis.url, NODE_LEASE: "2s" })));
  const row = (node, state, connections) => {
    return { port: node.variables.HTTP_PORT, state, connections, own: node === own };
  };
  const page = await open(own);
  await lists(page, [row(own, "ready", "0"), row(other, "live", "0")]);
  await says(page, "#nodes-count", "2 live · connections: 0");

  // The socket at the other node, the API at this one.
  await page.fill("#url", other.ws);
  await connect(page, "news");
  await lists(page, [row(own, "ready", "0"), row(other, "live", "1")]);
  await picture(page, "light-two-nodes");
  await send(page, "channel", "news", "across");
  await entry(page, "received", "across");
  await own.call({ action: "push", to: "all", message: "by a backend" });
  await entry(page, "received", "by a backend");

  await other.kill();
  await connectionIs(page, "waiting");
  await lists(page, [row(own, "ready", "0"), row(other, "gone", "–")]);
  await picture(page, "light-a-node-gone");
  await other.again();
  await connectionIs(page, "open");
  await own.call({ action: "push", to: "channel", channel: "news", message: "after the restart" });
  await entry(page, "received", "after the restart");
  assert.deepEqual(page.faults, []);
});

test("stays with one node where a load balancer gives each request to another", async () => {
  const redis = await Redis.start();
  const nodes = await Promise.all([1, 2].map(() => Node.start({ REDIS_URL: redis.url })));
  const asked = new Map(nodes.map((node) => [node, 0]));
  let turn = 0;
  const balancer = createServer(async (request, response) => {
    const node = nodes[(turn += 1) % nodes.length];
    if (request.url === "/console/node") asked.set(node, asked.get(node) + 1);
    const answer = await fetch(node.http + request.url);
    response.writeHead(answer.status, { "Content-Type": answer.headers.get("content-type") });
    response.end(Buffer.from(await answer.arrayBuffer()));
  });
  await new Promise((listens) => balancer.listen(0, "127.0.0.1", listens));
  after(() => balancer.close());

  const page = await open({ console: `http://127.0.0.1:${balancer.address().port}/console/` });
  await nodeIs(page, "ready");
  const shown = await page.textContent("#node-about");
  await page.locator("#nodes-body tr .own").waitFor();
  const own = await page.locator("#nodes-body tr", { has: page.locator(".own") }).getAttribute("data-id");
  assert.equal(shown.slice(0, 8), own.slice(0, 8));
  // A rate needs two answers of one node.
  await says(page, "#chart-pushes .value", "0/s");
  await eventually("both were asked, more than once", () => [...asked.values()].every((times) => times > 1));
  assert.equal(await page.textContent("#node-about"), shown);
  assert.deepEqual(page.faults, []);
});

test("says that its node is without Redis, and when it is back", async () => {
  const redis = await Redis.start();
  const node = await Node.start({ REDIS_URL: redis.url });
  const page = await open(node, { colorScheme: "dark" });
  await connect(page, "news");
  await redis.kill();
  await nodeIs(page, "away");
  await says(page, "#notice", /^This node has no Redis: .+/);
  await says(page, "#nodes-stale", /^The list can't be read: .+ Last read: \d/);
  await send(page, "channel", "news", "not now");
  await page.locator(".entry.error", { hasText: "Not taken: push not accepted" }).waitFor();
  await picture(page, "dark-without-redis");
  await redis.again();
  await nodeIs(page, "ready");
  await page.locator("#notice").waitFor({ state: "hidden" });
  await page.locator("#nodes-stale").waitFor({ state: "hidden" });
  await connectionIs(page, "open");
  await send(page, "channel", "news", "now");
  await entry(page, "received", "now");
  assert.deepEqual(page.faults, []);
});
