// How figures are written, and how they get onto the page.

const $ = (id) => document.getElementById(id);
const significant = (value, digits = 3) => value.toLocaleString("en", { maximumSignificantDigits: digits });
export const count = (value) => value.toLocaleString("en");

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  for (; Math.abs(value) >= 1024 && unit < 4; unit++) value /= 1024;
  return `${value.toLocaleString("en", { maximumFractionDigits: unit ? 1 : 0, minimumFractionDigits: unit ? 1 : 0 })} ${units[unit]}`;
}

export function time(us) {
  if (us < 1000) return `${significant(us, 2)} µs`;
  return us < 1e6 ? `${significant(us / 1e3, us < 1e5 ? 2 : 3)} ms` : `${significant(us / 1e6)} s`;
}

export function ago(seconds) {
  const [minutes, hours] = [Math.floor(seconds / 60), Math.floor(seconds / 3600)];
  if (minutes === 0) return `${seconds} s`;
  if (hours === 0) return `${minutes} min`;
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

export const rate = (value) => (value === 0 ? "0" : value < 10 ? value.toFixed(1) : count(Math.round(value)));
export const percent = (part, all) => (all ? `${significant((100 * part) / all, part / all < 0.1 ? 2 : 3)}%` : "–");

/** A text is touched only when it changes. */
export function put(id, text) {
  const at = $(id);
  if (at.textContent !== text) at.textContent = text;
}

export function row(list, name, value) {
  const group = document.createElement("div");
  const [term, what] = [document.createElement("dt"), document.createElement("dd")];
  term.textContent = name;
  what.append(value);
  group.append(term, what);
  list.append(group);
}

export function list(id, rows) {
  const at = $(id);
  if (at.children.length !== rows.length) {
    at.replaceChildren();
    rows.forEach(([name, value]) => row(at, name, value));
  }
  rows.forEach(([, value], index) => {
    const cell = at.children[index].lastChild;
    if (cell.textContent !== value) cell.textContent = value;
  });
}

/** Fills a table's body; the first cell of a row is its heading. A cell is touched only when it changes. */
export function table(id, rows) {
  const body = $(id);
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach((cells, index) => {
    const at = body.rows[index] ?? body.insertRow();
    cells.forEach((cell, place) => {
      const made = at.cells[place] ?? at.appendChild(document.createElement(place ? "td" : "th"));
      if (!place) made.scope = "row";
      if (cell instanceof Node) made.replaceChildren(cell);
      else if (made.textContent !== cell) made.textContent = cell;
    });
  });
}
