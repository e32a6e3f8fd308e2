// The console as it is read and used: languages, themes, contrast, a phone, the keyboard alone.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { eventually, Node, picture } from "./harness.js";
import { connect, connectionIs, entry, nodeIs, says, send, withBrowser } from "./page.js";

const { open } = await withBrowser({ before, after });

/** A browser's language, the page's, and what the button that connects is called in it. */
const LANGUAGES = [
  ["en-GB", "en", "Connect"],
  ["zh-CN", "zh", "连接"],
  ["uk-UA", "uk", "Під’єднати"],
  ["ru-RU", "ru", "Подключить"],
  ["de-DE", "en", "Connect"],
];

const PHONE = { viewport: { width: 360, height: 740 }, hasTouch: true };

/** Fills the page with everything it can show: a long message, an error, an opened entry, faults at fields. */
async function crowd(page, node) {
  await nodeIs(page, "ready");
  await connect(page, "news");
  await send(page, "all", "", `{"text":"${"long ".repeat(60)}","without":"${"blanks".repeat(40)}"}`);
  await page.locator(".entry.received .line").first().click();
  await node.call({ action: "push", to: "channel", channel: "news", message: "привіт 你好 <b>&amp;</b>" });
  await send(page, "connection", "999999", "x");
  await page.locator(".entry.error").waitFor();
  await page.fill("#name", "none");
  await page.click("#send");
  await page.check("input[name=as][value=json]");
  await page.fill("#message", '{"a":');
  await page.locator("#nodes-body tr").first().waitFor();
}

test("speaks the browser's language where it can, and another that is chosen from then on", async () => {
  const node = await Node.start();
  for (const [locale, language, connects] of LANGUAGES) {
    const page = await open(node, { locale });
    await says(page, "#connect", connects);
    assert.equal(await page.getAttribute("html", "lang"), language);
    await nodeIs(page, "ready");
    // A text that is in no table would show its key.
    const texts = await page.locator("body").innerText();
    assert.doesNotMatch(texts, /\b(connect|send|log|node|nodes|chart|token|state|type)\.[a-z]/);
    for (const [, other, itsWord] of LANGUAGES.slice(0, 4)) {
      await page.selectOption("#language", other);
      await says(page, "#connect", itsWord);
      assert.equal(await page.getAttribute("html", "lang"), other);
    }
    await page.reload();
    await says(page, "#connect", "Подключить");
    assert.deepEqual(page.faults, []);
    await page.context().close();
  }
});

test("is as wide as a phone, in each language, and loses nothing", async () => {
  const node = await Node.start();
  for (const [locale, language] of LANGUAGES.slice(0, 4)) {
    const colorScheme = language === "zh" || language === "ru" ? "dark" : "light";
    const page = await open(node, { locale, colorScheme, ...PHONE });
    await crowd(page, node);
    const outside = await page.evaluate(() => {
      const width = document.documentElement.clientWidth;
      const stickOut = (element) => element.getClientRects().length > 0 && element.getBoundingClientRect().right > width + 0.5;
      // What is cut off inside a line of the log is meant to be.
      const all = [...document.querySelectorAll("body *")].filter((element) => !element.closest(".line"));
      return [document.documentElement.scrollWidth - width, ...all.filter(stickOut).map((element) => element.outerHTML.slice(0, 80))];
    });
    assert.deepEqual(outside, [0], locale);
    const small = await page.evaluate(() => {
      const controls = [...document.querySelectorAll("button, select, input:not([type=checkbox], [type=radio])")];
      const sizes = controls.map((control) => [control.id, control.getBoundingClientRect().height]);
      return sizes.filter(([, height]) => height > 0 && height < 24);
    });
    assert.deepEqual(small, [], "controls too small for a finger");
    await picture(page, `phone-${colorScheme}-${language}`);
    assert.deepEqual(page.faults, []);
    await page.context().close();
  }
});

test("has enough contrast in light and in dark, by the system or by choice", async () => {
  const node = await Node.start();
  for (const colorScheme of ["light", "dark"]) {
    const page = await open(node, { colorScheme, locale: "uk" });
    await crowd(page, node);
    assert.deepEqual(await page.evaluate(tooFaint), [], colorScheme);
    await picture(page, `${colorScheme}-crowded`);
    const opposite = colorScheme === "light" ? "dark" : "light";
    const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const before = await ground();
    await page.selectOption("#theme", opposite);
    assert.notEqual(await ground(), before);
    assert.deepEqual(await page.evaluate(tooFaint), [], `${opposite}, chosen`);
    const chosen = await ground();
    await page.reload();
    assert.equal(await ground(), chosen);
    await page.selectOption("#theme", "system");
    assert.equal(await ground(), before);
    await page.context().close();
  }
});

/** Runs in the page: the visible texts whose contrast with what they stand on is below 4.5 (WCAG 2.2, 1.4.3). */
function tooFaint() {
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  // By drawing, as colours are written in many ways.
  const over = (colors) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const color of colors) {
      canvas.fillStyle = color;
      canvas.fillRect(0, 0, 1, 1);
    }
    return [...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3);
  };
  const luminance = (color) => {
    const [red, green, blue] = color.map((part) => {
      const share = part / 255;
      return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const faint = [];
  for (const element of document.querySelectorAll("body *")) {
    const said = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim() !== "");
    const field = element.matches("input:not([type=checkbox], [type=radio]), textarea, select");
    // What can't be used just now needs no contrast.
    if ((!said && !field) || element.closest("option, :disabled") || element.getClientRects().length === 0) continue;
    const style = getComputedStyle(element);
    const grounds = ["white"];
    const above = [];
    for (let at = element; at; at = at.parentElement) above.unshift(getComputedStyle(at).backgroundColor);
    grounds.push(...above);
    const color = element instanceof SVGElement ? style.fill : style.color;
    const [lighter, darker] = [luminance(over(grounds)), luminance(over([...grounds, color]))].sort((a, b) => b - a);
    const contrast = (lighter + 0.05) / (darker + 0.05);
    if (contrast < 4.5) faint.push(`${contrast.toFixed(2)}: ${element.outerHTML.slice(0, 100)}`);
  }
  return faint;
}

test("is used with the keyboard alone", async () => {
  const node = await Node.start({ HTTP_TOKEN: "s3cret" });
  const page = await open(node);
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.value || "");
  const press = (...keys) => keys.reduce((before, key) => before.then(() => page.keyboard.press(key)), Promise.resolve());

  // The dialog takes the focus, and Escape leaves it.
  await page.locator("#token-dialog[open]").waitFor();
  assert.equal(await focused(), "token");
  await press("Escape");
  await page.locator("#token-dialog").waitFor({ state: "hidden" });
  await page.focus("#token-button");
  await press("Enter");
  await page.keyboard.type("s3cret");
  await press("Enter");
  await nodeIs(page, "ready");

  // Every control that can be used is a stop of the Tab key, in the order in which they stand, and shows that it is one.
  await page.reload();
  await nodeIs(page, "ready");
  const order = await page.evaluate(() => {
    const controls = [...document.querySelectorAll("button, input, select, textarea, [tabindex='0']")];
    const usable = controls.filter((control) => !control.disabled && control.checkVisibility() && !control.closest("dialog"));
    // Of buttons that exclude each other, the one that is chosen.
    return usable.filter((control) => control.type !== "radio" || control.checked).map((control) => control.id || control.value);
  });
  assert.ok(order.length > 15, order.join());
  const walked = [];
  for (const _ of order) {
    await press("Tab");
    walked.push(await focused());
    const outlined = await page.evaluate(() => {
      const shows = (element) => element && getComputedStyle(element).outlineStyle !== "none";
      return shows(document.activeElement) || shows(document.activeElement.closest(".chip"));
    });
    assert.ok(outlined, `nobody sees that ${walked.at(-1)} has the focus`);
  }
  assert.deepEqual(walked, order);

  await page.focus("#channels");
  await page.keyboard.type("news");
  await press("Enter");
  await connectionIs(page, "open");
  await page.focus("#name");
  await page.keyboard.type("news");
  await press("Tab", "Tab");
  await page.focus("#message");
  await page.keyboard.type("first line");
  await press("Enter");
  await page.keyboard.type("second line");
  await press("Control+Enter");
  await eventually("it was received", () => page.locator(".entry.received").count());

  await page.focus("#log");
  await press("End", "ArrowUp", "ArrowDown", "Enter");
  const opened = page.locator(".entry pre");
  await opened.waitFor();
  assert.equal(await opened.textContent(), "first line\nsecond line");
  await picture(page, "light-keyboard", false);
  await press("Enter");
  await opened.waitFor({ state: "detached" });
  assert.deepEqual(page.faults, []);
});
