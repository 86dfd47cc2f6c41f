// A text, and what the server reads in it, shown in the text itself.

import { count, row, time } from "./figures.js";
import { request } from "./request.js";

const EXAMPLES = {
  zh: "小明昨天从北京去了上海，他在复旦大学工作，很喜欢那里。",
  en: "The soup was cold and the waiter was rude, but the view of the harbour made up for everything. We shall come again.",
};
const $ = (id) => document.getElementById(id);

export function offer(tasks) {
  if ($("tasks").querySelector("label")) return;
  for (const task of tasks) {
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", name: "task", value: task, checked: true });
    label.append(box, task);
    $("tasks").append(label);
  }
}

async function ask() {
  const text = $("text").value;
  const tasks = [...$("tasks").querySelectorAll("input:checked")].map((box) => box.value);
  $("send").disabled = true;
  $("problem").hidden = true;
  const began = performance.now();
  try {
    const response = await request("/v1/analyze", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ text, tasks }) });
    const body = await response.json();
    const took = performance.now() - began;
    if (!response.ok) throw new Error(refusal(response, body));
    show(text, body, response.headers, took);
  } catch (error) {
    $("result").hidden = true;
    $("problem").hidden = false;
    $("problem").textContent = error instanceof TypeError ? "The server did not answer." : error.message;
  }
  $("send").disabled = false;
}

function refusal(response, body) {
  const after = response.headers.get("retry-after-ms");
  const again = after ? ` Try again in ${time(after * 1000)}.` : "";
  const says = String(body.error);
  return `${response.status}: ${says}${says.endsWith(".") ? "" : "."}${again}`;
}

function show(text, answer, headers, took) {
  $("read").replaceChildren(...pieces(text, answer.words ?? [], answer.entities ?? []));
  const about = $("about");
  about.replaceChildren();
  if (answer.sentiment) row(about, "sentiment", `${answer.sentiment.label}, ${answer.sentiment.score.toFixed(2)}`);
  if (answer.entities) row(about, "entities", count(answer.entities.length));
  if (answer.words) row(about, "words", count(answer.words.length));
  row(about, "tokens", count(answer.tokens) + (answer.truncated ? ", cut" : ""));
  row(about, "cache", headers.get("x-plimsoll-cache") ?? "none");
  row(about, "time, seen from here", time(took * 1000));
  if (answer.dropped) row(about, "left out, memory is short", answer.dropped.join(", "));
  if (answer.embedding) row(about, `embedding, ${answer.embedding.length} numbers`, strip(answer.embedding));
  $("result").hidden = false;
  const found = answer.entities?.map((entity) => `${entity.text}, ${entity.label}`).join("; ");
  $("ask-says").textContent = `Answered in ${time(took * 1000)}. ${answer.sentiment ? `Sentiment ${answer.sentiment.label}. ` : ""}${found ? `Entities: ${found}.` : ""}`;
}

/** The text as nodes: words underlined, entities marked with their kind. Offsets count characters (code points), not UTF-16 units. */
function pieces(text, words, entities) {
  const characters = Array.from(text);
  const slice = (start, end) => characters.slice(start, end).join("");
  const nodes = [];
  let at = 0;
  for (const entity of entities) {
    if (entity.start < at) continue; // none overlap; were one to, the first stands
    nodes.push(...spell(slice, words, at, entity.start));
    const mark = document.createElement("mark");
    const kind = Object.assign(document.createElement("span"), { className: "kind", textContent: entity.label });
    kind.title = `score ${entity.score.toFixed(3)}`;
    mark.append(...spell(slice, words, entity.start, entity.end), kind);
    nodes.push(mark);
    at = entity.end;
  }
  nodes.push(...spell(slice, words, at, characters.length));
  return nodes;
}

/** One stretch of it, each word in a span of its own. */
function spell(slice, words, start, end) {
  const nodes = [];
  let at = start;
  for (const word of words) {
    const [from, to] = [Math.max(word.start, at), Math.min(word.end, end)];
    if (from >= to) continue;
    if (from > at) nodes.push(slice(at, from));
    nodes.push(Object.assign(document.createElement("span"), { className: "word", textContent: slice(from, to) }));
    at = to;
  }
  if (at < end) nodes.push(slice(at, end));
  return nodes;
}

/** A vector as a row of strokes, each as long as its number. */
function strip(vector) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  const most = Math.max(...vector.map(Math.abs)) || 1;
  path.setAttribute("d", vector.map((value, index) => `M${index + 0.5} 20v${((-value / most) * 19).toFixed(1)}`).join(""));
  svg.setAttribute("viewBox", `0 0 ${vector.length} 40`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "strip");
  svg.setAttribute("aria-hidden", "true");
  svg.append(path);
  return svg;
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask();
});
for (const button of document.querySelectorAll("[data-example]")) {
  button.addEventListener("click", () => {
    $("text").value = EXAMPLES[button.dataset.example];
    ask();
  });
}
