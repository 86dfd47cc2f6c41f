// The page in a real browser before a real server: idle, under load, while refusing, on a phone, by the keyboard alone.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";
import { serve, text, traffic } from "./server.mjs";

const AXE = createRequire(import.meta.url).resolve("axe-core/axe.min.js");
const SHOTS = new URL(process.env.SCREENSHOTS ?? "screenshots/", import.meta.url).pathname;
const DESKTOP = { width: 1440, height: 900 };
const PHONE = { width: 390, height: 844 };
const LIMIT = { timeout: 180_000 };

let browser;
before(async () => {
  mkdirSync(SHOTS, { recursive: true });
  const args = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args });
});
after(() => browser?.close());

/** A server that ends with its test, whatever became of it. */
async function running(t, ...flags) {
  const server = await serve(...flags);
  t.after(() => server.stop());
  return server;
}

/** Opens the page; whatever it complains of, or asks of another host, fails the test. */
async function open(server, options = {}) {
  const context = await browser.newContext({ viewport: DESKTOP, colorScheme: "light", ...options });
  const page = await context.newPage();
  const faults = [];
  page.on("console", (message) => message.type() === "error" && faults.push(message.text()));
  page.on("pageerror", (error) => faults.push(error.message));
  page.on("request", (asked) => asked.url().startsWith(server.url) || faults.push(asked.url()));
  await page.goto(server.url);
  await page.waitForSelector(".link.live");
  return { page, faults, close: () => context.close() };
}

/** What axe finds, of the two graver of its four grades. */
async function faultsOfAccess(page) {
  // Evaluated past the page's policy, which forbids scripts that are not its own.
  await page.evaluate((await import("node:fs")).readFileSync(AXE, "utf8"));
  const { violations } = await page.evaluate(() => axe.run());
  return violations.filter(({ impact }) => ["serious", "critical"].includes(impact)).map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.target)}`);
}

const shot = (page, name, fullPage = true) => page.screenshot({ path: `${SHOTS}${name}.png`, fullPage });
const metric = async (server, name) => Number((await (await fetch(`${server.url}/metrics`)).text()).match(new RegExp(`^${name} (.*)$`, "m"))[1]);

/** Waits until `is` holds of what `read` gives. */
async function until(read, is) {
  for (;;) {
    const value = await read();
    if (is(value)) return value;
    await new Promise((resume) => setTimeout(resume, 100));
  }
}

test("idle, light and dark", LIMIT, async (t) => {
  const server = await running(t, "--memory-limit", "128MiB");
  for (const colorScheme of ["light", "dark"]) {
    const { page, faults, close } = await open(server, { colorScheme });
    assert.equal(await page.textContent("#state"), "Normal");
    assert.match(await page.textContent("#resident-of"), /^of 128\.0 MiB/);
    await shot(page, `idle-${colorScheme}`);
    assert.deepEqual(await faultsOfAccess(page), []);
    assert.deepEqual(faults, []);
    await close();
  }
});

test("a text by the keyboard alone", LIMIT, async (t) => {
  const server = await running(t, "--memory-limit", "128MiB");
  const { page, faults, close } = await open(server);
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim());
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "Skip to the figures");
  const seen = new Set();
  while ((await focused()) !== "text") {
    await page.keyboard.press("Tab");
    seen.add(await focused());
    assert.ok(seen.size < 30, `the text cannot be reached: ${[...seen]}`);
  }
  await page.keyboard.press("Control+A");
  await page.keyboard.type("😀 小明昨天从北京去了上海。");
  await page.keyboard.press("Control+Enter");
  await page.waitForSelector("#read mark");
  const marks = await page.locator("#read mark").evaluateAll((all) => all.map((mark) => mark.textContent));
  assert.ok(marks.includes("北京LOC") && marks.includes("上海LOC"), `offsets count characters: ${marks}`);
  assert.match(await page.textContent("#read"), /^😀 小明/);
  assert.match(await page.textContent("#about"), /cacheoff/);
  // Vectors alone come from the cache the second time.
  for (const task of ["words", "entities", "sentiment"]) await page.uncheck(`input[value=${task}]`);
  for (const cache of ["cachemiss", "cachehit"]) {
    await page.focus("#send");
    await page.keyboard.press("Enter");
    await page.waitForFunction((cache) => document.getElementById("about").textContent.includes(cache), cache);
  }
  await page.fill("#text", "");
  await page.press("#text", "Control+Enter");
  await page.waitForSelector("#problem:not([hidden])");
  assert.match(await page.textContent("#problem"), /^400: /);
  assert.deepEqual(faults.filter((fault) => !fault.includes("400")), []);
  await close();
});

test("under load, with a text tried", LIMIT, async (t) => {
  // However busy the machine, nobody is refused for the time that it takes.
  const server = await running(t, "--memory-limit", "128MiB", "--request-timeout-ms", "600000");
  const load = traffic(server.url, 6, () => ({ text: [text(4), text(12)] }));
  t.after(() => load.stop());
  const { page, faults, close } = await open(server);
  await until(() => page.textContent("#answers"), (says) => says !== "0/s");
  await page.click("[data-example=en]");
  await page.waitForSelector("#read .word");
  await page.waitForTimeout(20_000);
  await shot(page, "load");
  assert.deepEqual(await faultsOfAccess(page), []);
  assert.deepEqual(faults, []);
  await close();
});

test("while refusing", LIMIT, async (t) => {
  // With so much time nobody is refused for it: bytes are what runs out.
  const server = await running(t, "--memory-limit", "68MiB", "--max-connections", "48", "--request-timeout-ms", "600000", "--queue-ms-max", "200000");
  const { page, faults, close } = await open(server);
  await page.waitForFunction(() => document.body.className === "normal");
  // Only a change is said aloud.
  const load = traffic(server.url, 40, () => ({ text: [text(6), text(6), text(6)] }));
  t.after(() => load.stop());
  await page.waitForFunction(() => document.body.className === "refusing", null, { timeout: 60_000 });
  assert.equal(await page.textContent("#says"), "Refusing. Newcomers are refused until there is room; those inside are answered.");
  await until(() => page.textContent("#refused"), (says) => says !== "0");
  await shot(page, "refusing");
  assert.deepEqual(await faultsOfAccess(page), []);
  assert.deepEqual(faults, []);
  await close();
});

test("on a phone nothing is wider than the screen", LIMIT, async (t) => {
  const server = await running(t, "--memory-limit", "128MiB");
  const { page, faults, close } = await open(server, { viewport: PHONE, hasTouch: true, isMobile: true, deviceScaleFactor: 2, reducedMotion: "reduce" });
  await page.tap("[data-example=zh]");
  await page.waitForSelector("#read mark");
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), PHONE.width);
  await shot(page, "phone");
  assert.deepEqual(await faultsOfAccess(page), []);
  assert.deepEqual(faults, []);
  await close();
});

test("a hidden page watches nothing, and one that comes back knows the past", LIMIT, async (t) => {
  const server = await running(t, "--memory-limit", "128MiB");
  const { page, close } = await open(server);
  const turn = (hidden) =>
    page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }, hidden);
  const asked = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/live"));
  await turn(true);
  await asked;
  const streams = () => page.waitForResponse((response) => response.url().endsWith("/live"));
  const again = streams();
  await turn(false);
  assert.equal((await again).status(), 200);
  await page.waitForSelector(".link.live");
  assert.ok((await metric(server, "plimsoll_connections")) >= 1);
  await close();
});

test("with a key, the page asks for it", LIMIT, async (t) => {
  const server = await running(t, "--memory-limit", "128MiB", "--api-key", "s3cret");
  const context = await browser.newContext({ viewport: DESKTOP });
  const page = await context.newPage();
  await page.goto(server.url);
  await page.waitForSelector("#key:not([hidden])");
  await page.fill("#key-text", "wrong");
  await page.press("#key-text", "Enter");
  await page.waitForFunction(() => document.getElementById("key-says").textContent === "That is not the key.");
  await page.fill("#key-text", "s3cret");
  await page.press("#key-text", "Enter");
  await page.waitForSelector(".link.live");
  assert.deepEqual(await faultsOfAccess(page), []);
  await context.close();
});
