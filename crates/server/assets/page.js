// The live page: one stream of server-sent events in, figures and curves out. The stream is read by fetch, which can show a key; it ends after a
// minute and is asked for again, and it stops while nobody looks.

import { Charts } from "./charts.js";
import { ago, bytes, count, list, percent, put, rate, table, time } from "./figures.js";
import { Hull } from "./hull.js";
import { request } from "./request.js";
import { offer } from "./try.js";

const $ = (id) => document.getElementById(id);
const PAST = ["level_permille", "answers_per_s", "refusals_per_s", "p50_us", "p99_us"];
const SECONDS = 180;

const MEANINGS = {
  normal: "Everything is served.",
  strained: "Work that is not at the core is left out, caches shrink, and the longest requests wait.",
  refusing: "Newcomers are refused until there is room; those inside are answered.",
};
const REASONS = {
  too_large: "could never fit",
  bytes: "no bytes free now",
  requests: "all places taken",
  connections: "all connections in use",
  waiting: "line at the door full",
  time: "would wait too long",
  returned: "ended to make room",
  draining: "server goes down",
};
const LAYERS = [
  ["Requests and cached vectors (L1, L2)", ["request slots"]],
  ["Their tables", ["request table", "length histogram", "pool tables", "cache tables"]],
  ["Hidden states (L3)", ["hidden states", "text scratch", "batch tables"]],
  ["Model", ["weights"]],
  ["Connections", ["connections", "silent connections", "live page", "small grpc calls"]],
  ["Process", null],
];

// What comes in

const hull = new Hull($("hull"));
const charts = new Charts($("rate-chart"), $("time-chart"));
let ship, past, level;

function opening(told) {
  ship = told;
  past = told.past;
  put("model", told.model);
  put("version", `version ${told.version}`);
  hull.open(told.marks, SECONDS);
  offer(told.tasks);
  bill();
  curves();
}

function curves() {
  hull.show(past.level_permille);
  charts.show(past);
}

function now(told) {
  for (const name of PAST) past[name] = [...past[name], ...told.newest[name]].slice(-SECONDS);
  curves();
  state(told);
  facts(told);
  refusals(told);
  memory(told);
  traffic(told);
  reclaim(told);
  link("live", "live");
}

function state(told) {
  const name = told.level[0].toUpperCase() + told.level.slice(1);
  put("state", name);
  const refused = told.minute.refusals.reduce((sum, one) => sum + one, 0);
  put("meaning", told.level === "normal" && refused ? "What finds no room, or would wait too long, is refused." : MEANINGS[told.level]);
  put("up", `up ${ago(told.up_s)}`);
  document.body.className = told.level;
  document.title = told.level === "normal" ? "Plimsoll" : `${name} – Plimsoll`;
  // Only changes are said aloud.
  if (level && level !== told.level) put("says", `${name}. ${MEANINGS[told.level]}`);
  level = told.level;
}

function facts(told) {
  const { ledger, minute } = told;
  put("held", bytes(ledger.in_use_bytes));
  put("held-of", `of ${bytes(ledger.limit_bytes)} they share`);
  put("resident", told.resident_bytes === null ? "unknown" : bytes(told.resident_bytes));
  put("resident-of", `of ${bytes(ship.limit_bytes)}, the line`);
  put("answers", `${rate(minute.answers / Math.max(minute.seconds, 1))}/s`);
  put("answers-of", `${rate(minute.tokens / Math.max(minute.seconds, 1))} tokens/s, last minute`);
  put("p50", told.answers ? time(told.answers.p50_us) : "–");
  put("p99", told.answers ? time(told.answers.p99_us) : "–");
  const refused = minute.refusals.reduce((sum, one) => sum + one, 0);
  put("refused", count(refused));
  put("refused-of", `of ${count(refused + minute.answers)}, last minute`);
  $("refused").classList.toggle("some", refused > 0);
}

function refusals(told) {
  const rows = ship.reasons.map((reason, index) => [REASONS[reason] ?? reason, count(told.minute.refusals[index]), count(told.refused[index])]);
  table("reasons", rows);
  const took = told.refusals ? `A refusal at the door took ${time(told.refusals.p50_us)} (p50), ${time(told.refusals.p99_us)} (p99).` : "Nobody was refused at the door in the last minute.";
  put("refusal-time", took);
}

function layered() {
  const named = new Set(LAYERS.flatMap(([, owners]) => owners ?? []));
  return LAYERS.map(([layer, owners]) => {
    const mine = ship.bill.filter((line) => (owners ? owners.includes(line.owner) : !named.has(line.owner)));
    return { layer, mine, bytes: mine.reduce((sum, line) => sum + line.bytes, 0) };
  }).filter(({ mine }) => mine.length);
}

/** The bill does not change while the server runs. */
function bill() {
  const body = $("bill");
  body.replaceChildren();
  const bar = $("bill-bar");
  bar.replaceChildren();
  for (const { layer, mine, bytes: sum } of layered()) {
    const head = body.insertRow();
    head.innerHTML = `<th scope="rowgroup"></th><td></td><td></td>`;
    [layer, bytes(sum), percent(sum, ship.limit_bytes)].forEach((text, index) => (head.cells[index].textContent = text));
    if (mine.length > 1) {
      for (const line of mine) {
        const at = body.insertRow();
        at.innerHTML = `<th scope="row" class="none"></th><td class="none"></td><td class="none"></td>`;
        const name = line.count > 1 ? `${line.owner}, ${count(line.count)}` : line.owner;
        [name, bytes(line.bytes), percent(line.bytes, ship.limit_bytes)].forEach((text, index) => (at.cells[index].textContent = text));
      }
    }
    const part = bar.appendChild(document.createElement("span"));
    part.style.flexGrow = sum;
    part.title = `${layer}: ${bytes(sum)}`;
    // A narrow part has no room for its name.
    if (sum > ship.limit_bytes / 16) part.textContent = layer.replace(/ \(.*/, "");
  }
  bar.append(document.createElement("b"));
  put("bill-says", `${bytes(ship.limit_bytes)} for the whole process, divided at the start. Requests share what is left when all else is paid; cached vectors borrow up to ${bytes(ship.cache_bytes_max)} of it while it is free.`);
}

function memory(told) {
  const mark = $("bill-bar").lastChild;
  const resident = told.resident_bytes ?? 0;
  const filled = Math.min(1, resident / ship.limit_bytes);
  mark.style.left = `${100 * filled}%`;
  mark.className = filled > 0.5 ? "far" : "";
  mark.dataset.says = `${bytes(resident)} resident`;
  table("pools", told.pools.map((pool) => [pool.kind, bytes(pool.leased_bytes), bytes(pool.idle_bytes), percent(pool.hits, pool.hits + pool.misses)]));
  const { cache } = told;
  list("cache", !cache ? [["there is no room for a cache under this line", ""]] : [
    ["held, of what they may now", `${bytes(cache.bytes)} of ${bytes(cache.target_bytes)}`],
    ["vectors", count(cache.entries)],
    ["named sessions with vectors", count(cache.sessions)],
    ["found", percent(cache.hits, cache.hits + cache.misses)],
    ["read from at the moment", bytes(cache.pinned_bytes)],
    ["gone since the start", count(cache.evictions)],
  ]);
}

function share(part, all) {
  const [bar, fill] = [document.createElement("span"), document.createElement("i")];
  bar.className = "share";
  fill.style.width = `${all ? (100 * part) / all : 0}%`;
  bar.append(fill);
  return bar;
}

function traffic(told) {
  const { lengths, work } = told;
  const all = lengths.reduce((sum, bucket) => sum + bucket.inputs, 0);
  let from = 0;
  table("lengths", lengths.map((bucket) => {
    const name = bucket.to === "+Inf" ? `over ${count(from)}` : from ? `${count(from + 1)} to ${count(+bucket.to)}` : `up to ${bucket.to}`;
    from = +bucket.to;
    return [name, count(bucket.inputs), share(bucket.inputs, all), percent(bucket.hits, bucket.hits + bucket.misses)];
  }));
  list("work", [
    ["requests inside", `${count(work.inside)} of ${count(ship.requests_max)}`],
    ["wait at the door for bytes", count(work.at_the_door)],
    ["wait for a worker", count(work.queued)],
    ["workers", count(ship.workers)],
    ["open connections", count(work.connections)],
    ["connections turned away", count(work.connections_refused)],
    ["ended before they started, to make room", count(told.returned)],
  ]);
}

function reclaim(told) {
  const { reclaim: all } = told;
  put("reclaim-says", `${count(all.cycles)} cycles since the start, ${percent(all.worked_us / 1e6, told.up_s)} of one core. Pools and caches hold ${bytes(all.live_bytes)}; growth to ${bytes(all.goal_bytes)} starts the next.`);
  const none = [["none so far", "", "", "", "", "", ""]];
  table("cycles", !all.last.length ? none : all.last.map((line) => [`${line.number}`, ago(line.ago_s), line.cause, bytes(line.before_bytes), bytes(line.marked_bytes), bytes(line.after_bytes), time(line.worked_us)]));
}

// The stream

let stream;

$("key").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("key", $("key-text").value);
  $("key").hidden = true;
  start();
});

function link(text, name) {
  put("link", text);
  $("link").className = `link ${name}`;
  document.documentElement.classList.toggle("stale", name === "lost");
}

async function read(response) {
  const handlers = { opening, now };
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value: text, done } = await reader.read();
    if (done) return;
    const events = (rest + text).split("\n\n");
    rest = events.pop();
    for (const event of events) {
      const [name, data] = event.split("\ndata: ");
      handlers[name.slice("event: ".length)](JSON.parse(data));
    }
  }
}

const sleep = (ms) => new Promise((resume) => setTimeout(resume, ms));

/** Watches until the page is hidden or the key is wrong. */
async function start() {
  stream?.abort();
  const mine = (stream = new AbortController());
  while (!mine.signal.aborted) {
    try {
      const response = await request("/live", { signal: mine.signal });
      if (response.status === 401) return link("waits for the key", "");
      if (response.ok) await read(response);
      else {
        link((await response.json()).error, "lost");
        await sleep(4000);
      }
    } catch (error) {
      if (mine.signal.aborted) return;
      if (document.documentElement.className !== "stale") put("says", "The connection is lost.");
      link("no connection", "lost");
    }
    await sleep(1000);
  }
}

document.addEventListener("visibilitychange", () => (document.hidden ? stream?.abort() : start()));
if (!document.hidden) start();
