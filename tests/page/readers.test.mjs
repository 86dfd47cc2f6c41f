// What the debug listener gives, in the hands of tools that others wrote: `go tool pprof`, pprof-format, speedscope, and catapult's trace viewer, whose importer
// Chrome's trace events were defined by. Go's tools bring that viewer along (the package golang-go of Debian has both).

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, test } from "node:test";
import { gunzipSync } from "node:zlib";
import { chromium } from "playwright-core";
import { Profile } from "pprof-format";
import { serve, text, traffic } from "./server.mjs";

const SPEEDSCOPE = join(dirname(createRequire(import.meta.url).resolve("speedscope/package.json")), "dist/release");
const ARGS = ["--no-sandbox", "--disable-gpu", "--use-gl=angle", "--use-angle=swiftshader", "--no-first-run", "--disable-background-networking", "--allow-file-access-from-files"];
const PROFILES = ["profile", "heap", "pools"];

/** Where Go lies. */
const GO = execFileSync("go", ["env", "GOROOT"], { encoding: "utf8" }).trim();

const folder = mkdtempSync(join(tmpdir(), "plimsoll-readers-"));
const file = (name) => join(folder, name);
let browser;

const freePort = () =>
  new Promise((found) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port } = probe.address();
      probe.close(() => found(port));
    });
  });

before(async () => {
  const port = await freePort();
  const server = await serve("--debug-listen", String(port));
  // No text twice: the cache would answer, and no pass would run.
  let number = 0;
  const busy = traffic(server.url, 4, () => ({ text: [`${number++} ${text(4)}`] }));
  const read = async (path, name) => {
    const answer = await fetch(`http://127.0.0.1:${port}/debug/${path}`);
    assert.equal(answer.status, 200, path);
    writeFileSync(file(name), Buffer.from(await answer.arrayBuffer()));
  };
  await Promise.all([read("trace?seconds=2", "trace.json"), read("pprof/profile?seconds=2", "profile.pb.gz")]);
  await read("pprof/heap", "heap.pb.gz");
  await read("pprof/pools", "pools.pb.gz");
  await busy.stop();
  await server.stop();
  assert.deepEqual(Object.keys(busy.statuses), ["200"]);
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGS });
}, { timeout: 120_000 });
after(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true });
});

test("pprof-format decodes every profile", () => {
  for (const name of PROFILES) {
    const profile = Profile.decode(gunzipSync(readFileSync(file(`${name}.pb.gz`))));
    const known = new Set(profile.location.map(({ id }) => id));
    // One lease in 128 is sampled, and few live at any moment: the profile of leases may be empty.
    assert.ok(profile.sample.length > 0 || name === "pools", `${name} is empty`);
    assert.ok(profile.sample.every(({ locationId }) => locationId.every((id) => known.has(id))), name);
    assert.equal(profile.stringTable.strings[0], "");
  }
});

test("go tool pprof names who used the time and who holds the bytes", () => {
  const top = (name, ...flags) => execFileSync("go", ["tool", "pprof", "-top", "-cum", ...flags, file(`${name}.pb.gz`)], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  assert.match(top("profile"), /Type: cpu[\s\S]*plimsoll_/);
  assert.match(top("heap", "-sample_index=inuse_space"), /Type: inuse_space[\s\S]*plimsoll/);
  assert.match(top("pools", "-sample_index=live_leases"), /Type: live_leases/);
  const tags = execFileSync("go", ["tool", "pprof", "-tags", file("profile.pb.gz")], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
  assert.match(tags, /thread:[\s\S]*worker-0/);
});

test("speedscope opens profiles and trace", async () => {
  for (const name of [...PROFILES.map((name) => `${name}.pb.gz`), "trace.json"]) {
    const page = await browser.newPage();
    const faults = [];
    page.on("pageerror", (error) => faults.push(error.message));
    page.on("dialog", (dialog) => faults.push(dialog.message()) && dialog.dismiss());
    page.on("console", (message) => /Tried to end|still open/.test(message.text()) && faults.push(message.text()));
    await page.goto(`file://${SPEEDSCOPE}/index.html#localProfilePath=none`).catch(() => {});
    await page.waitForFunction(() => globalThis.speedscope?.loadFileFromBase64);
    await page.evaluate(([name, base64]) => speedscope.loadFileFromBase64(name, base64), [name, readFileSync(file(name)).toString("base64")]);
    // It names a profile after its file, and a trace after its tracks.
    await page.waitForFunction(() => /pb\.gz|worker-\d/.test(document.body.innerText));
    assert.deepEqual(faults, [], name);
    await page.close();
  }
});

test("catapult's trace viewer knows requests, stages, passes and counters", async () => {
  const parts = ["src/cmd/trace/static", "misc/trace"].map((part) => join(GO, part)).find((part) => existsSync(join(part, "trace_viewer_full.html")));
  assert.ok(parts, "Go's sources lack the viewer");
  const part = (name) => readFileSync(join(parts, name), "utf8");
  // The viewer is from before browsers had web components as they are: its polyfill comes first.
  writeFileSync(file("viewer.html"), `<!doctype html><html><head><script>${part("webcomponents.min.js")}</script>${part("trace_viewer_full.html")}`);
  const page = await browser.newPage();
  await page.goto(`file://${file("viewer.html")}`);
  const seen = await page.evaluate(async (trace) => {
    const model = new tr.Model();
    await new tr.importer.Import(model).importTraces([trace]);
    const count = {};
    for (const event of model.getDescendantEvents()) count[event.title] = (count[event.title] ?? 0) + 1;
    const [server] = Object.values(model.processes);
    return {
      count,
      warnings: model.importWarnings.map(({ message }) => message),
      tracks: model.getAllThreads().map(({ name }) => name),
      counters: Object.values(server.counters).map(({ name }) => name),
    };
  }, readFileSync(file("trace.json"), "utf8"));
  // Who is inside at the end has no end yet.
  assert.deepEqual(seen.warnings.filter((warning) => !/async BEGIN event/.test(warning)), []);
  for (const title of ["request", "body", "work", "answer", "text", "pass", "encoder", "heads", "end of trace"]) assert.ok(seen.count[title] > 0, `no ${title}: ${JSON.stringify(seen)}`);
  assert.ok(seen.tracks.includes("worker-0"), `no worker-0: ${seen.tracks}`);
  for (const counter of ["ledger", "level", "leased", "memory", "requests"]) assert.ok(seen.counters.some((name) => name.endsWith(counter)), `no ${counter}: ${seen.counters}`);
});
