// The console as somebody sees it who uses it.

import { DEADLINE, eventually, startBrowser } from "./harness.js";

/** One browser for all tests of a file. */
export async function withBrowser(hooks) {
  let browser;
  hooks.before(async () => (browser = await startBrowser()));
  hooks.after(() => browser.close());
  return { open: (node, options) => open(browser, node, options) };
}

/** Opens the console of a node in a context of its own, and waits until it is there. `faults` of what is returned has
 *  everything that no page may ever do: errors, broken policies, dialogs of scripts that came as messages. */
async function open(browser, node, options = {}) {
  const context = await browser.newContext({ locale: "en-US", viewport: { width: 1366, height: 900 }, ...options });
  return inContext(context, node);
}

/** Opens the console in another tab of a context. */
export async function inContext(context, node) {
  const page = await context.newPage();
  page.setDefaultTimeout(DEADLINE);
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(error.message));
  page.on("console", (message) => {
    if (/content security policy|refused to/i.test(message.text())) page.faults.push(message.text());
  });
  page.on("dialog", (dialog) => {
    page.faults.push(`a dialog: ${dialog.message()}`);
    dialog.dismiss();
  });
  await page.goto(node.console);
  await page.locator("body:not([data-loading])").waitFor();
  return page;
}

/** Connects the page's socket to its node, or to the one whose URL is filled in. */
export async function connect(page, channels = "") {
  // Until the node has told its port the page tries the usual one, where somebody else may listen.
  await eventually("the page knows where to connect", async () => !/:8090\/$/.test(await page.inputValue("#url")));
  await page.fill("#channels", channels);
  await page.click("#connect");
  await connectionIs(page, "open");
}

/** Waits for a state of the connection. */
export function connectionIs(page, state) {
  return page.locator(`#connection[data-state="${state}"]`).waitFor();
}

/** Waits for a state of the node that serves the page. */
export function nodeIs(page, state) {
  return page.locator(`#node[data-state="${state}"]`).waitFor();
}

/** Waits for entries of a type with this very text, and gives the first. */
export async function entry(page, type, message) {
  const found = page.locator(`.entry.${type}`, {
    has: page.locator(".message", { hasText: new RegExp(`^${escaped(message)}$`) }),
  });
  await found.first().waitFor();
  return found.first();
}

function escaped(text) {
  return text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
}

/** Writes a message and sends it to `to` with that name. */
export async function send(page, to, name, message) {
  await page.check("#by-http");
  await page.selectOption("#to", to);
  if (to !== "all") await page.fill("#name", name);
  await page.fill("#message", message);
  await page.click("#send");
}

/** Waits until an element has exactly this text, or one that a pattern matches. */
export async function says(page, selector, wanted) {
  await eventually(`${selector} says ${wanted}`, async () => {
    const text = (await page.locator(selector).first().textContent()).trim();
    return wanted instanceof RegExp ? wanted.test(text) : text === wanted;
  });
}
