// The ship: the last three minutes of the ledger as water, and at its end, at the height of now, a hull with its marks. Both share one scale,
// so the marks run through the curve and the hull alike.

const NS = "http://www.w3.org/2000/svg";
const SKY = 74; // above 100%: the deck house
const SEABED = 14; // below 0%

function element(parent, name, attributes, text) {
  const made = document.createElementNS(NS, name);
  for (const key in attributes) made.setAttribute(key, attributes[key]);
  if (text !== undefined) made.textContent = text;
  parent.append(made);
  return made;
}

export class Hull {
  constructor(svg) {
    this.svg = svg;
    this.level = [];
    new ResizeObserver(() => this.draw()).observe(svg.parentElement);
  }

  /** Where the marks lie, in percent, and how many values the curve has. */
  open(marks, seconds) {
    this.marks = marks;
    this.seconds = seconds;
    this.draw();
  }

  /** The ledger's values in thousandths, oldest first. */
  show(level) {
    this.level = level;
    if (this.water) this.pour();
    else this.draw();
  }

  /** All that does not move. */
  draw() {
    const width = this.svg.parentElement.clientWidth;
    if (!this.marks || width === 0) return;
    const narrow = width < 560;
    const height = narrow ? 190 : 250; // of the scale from 0 to 100%
    const ship = { width: narrow ? 128 : 236 };
    ship.left = width - ship.width - (narrow ? 48 : 84);
    Object.assign(this, { width, height, ship, narrow });
    const svg = this.svg;
    svg.replaceChildren();
    svg.setAttribute("viewBox", `0 0 ${width} ${SKY + height + SEABED}`);
    element(svg, "path", { class: "water", d: `M0 ${this.y(0)}H${width}v${SEABED}H0Z` });
    this.water = element(svg, "path", { class: "water" });
    this.drawMarks();
    this.drawShip();
    this.front = element(svg, "path", { class: "front", "clip-path": "url(#ship-side)" });
    this.surface = element(svg, "path", { class: "surface" });
    this.drawMark();
    this.now = element(svg, "text", { class: "now halo", "text-anchor": "end" });
    this.pour();
  }

  y(permille) {
    return SKY + this.height * (1 - Math.min(permille, 1000) / 1000);
  }

  drawMarks() {
    const says = this.narrow
      ? ["strained", "takes again", "refuses"]
      : ["strained from here", "takes requests again below", "refuses from here"];
    const { strained_percent, resume_percent, refusing_percent } = this.marks;
    [strained_percent, resume_percent, refusing_percent].forEach((percent, index) => {
      if (percent > 100) return;
      const [y, line] = [Math.round(this.y(percent * 10)) + 0.5, index === 2 ? " line" : ""];
      element(this.svg, "path", { class: "mark" + line, d: `M0 ${y}H${this.width}` });
      element(this.svg, "text", { class: "halo" + line, x: 0, y: y - 5 }, `${percent}% ${says[index]}`);
    });
  }

  /** A midship section: deck, sides, bilges, keel, and a house on the deck. */
  drawShip() {
    const { left, width: w } = this.ship;
    const [deck, keel, bilge] = [this.y(1000), this.y(0), Math.min(w, this.height) * 0.24];
    const right = left + w;
    const hull =
      `M${left - 4} ${deck}H${right + 4}L${right} ${deck + 10}V${keel - bilge}` +
      `C${right} ${keel - bilge * 0.3} ${right - bilge * 0.4} ${keel} ${right - bilge} ${keel}H${left + bilge}` +
      `C${left + bilge * 0.4} ${keel} ${left} ${keel - bilge * 0.3} ${left} ${keel - bilge}V${deck + 10}Z`;
    const [house, middle] = [w * 0.5, left + w / 2];
    const roof = deck - 40;
    element(this.svg, "path", { class: "detail", d: `M${middle} ${roof}V${roof - 30}M${middle - 12} ${roof - 18}H${middle + 12}` });
    element(this.svg, "path", { class: "ship", d: `M${middle - house / 2} ${deck}V${deck - 22}H${middle + house / 2}V${deck}Z` });
    element(this.svg, "path", { class: "ship", d: `M${middle - house * 0.32} ${deck - 22}V${roof}H${middle + house * 0.32}V${deck - 22}Z` });
    const window = w * 0.035;
    let windows = "";
    for (let x = middle - house * 0.22; x < middle + house * 0.23; x += house * 0.11) windows += `M${x - window / 2} ${roof + 9}h${window}`;
    element(this.svg, "path", { class: "detail", d: windows });
    element(this.svg, "path", { class: "ship", d: hull });
    const clip = element(this.svg, "clipPath", { id: "ship-side" });
    element(clip, "path", { d: hull });
    // Draught marks: a short stroke every tenth.
    let draught = "";
    for (let tenth = 1; tenth < 10; tenth++) draught += `M${left + 8} ${this.y(tenth * 100)}h${tenth === 5 ? 12 : 7}`;
    element(this.svg, "path", { class: "detail", d: draught });
  }

  /** The Plimsoll mark: a disc, its bar at the line where newcomers are refused. */
  drawMark() {
    const percent = Math.min(this.marks.refusing_percent, 100);
    const [x, y, r] = [this.ship.left + this.ship.width * 0.56, this.y(percent * 10), this.narrow ? 13 : 19];
    element(this.svg, "circle", { class: "disc", cx: x, cy: y, r });
    element(this.svg, "path", { class: "disc", d: `M${x - r * 1.6} ${y}h${r * 3.2}` });
    if (this.narrow) return;
    element(this.svg, "text", { class: "letter", x: x - r - 14, y: y - 6 }, "P");
    element(this.svg, "text", { class: "letter", x: x + r + 14, y: y - 6 }, "L");
  }

  /** What moves: the curve up to the ship's side, and from there on the level of now. */
  pour() {
    const { level, width, seconds, ship } = this;
    if (!level.length) return;
    const step = ship.left / (seconds - 1);
    const points = level.slice(-seconds).map((value, index, all) => {
      const x = ship.left - (all.length - 1 - index) * step;
      return `${x.toFixed(1)} ${this.y(value).toFixed(1)}`;
    });
    const now = this.y(level.at(-1));
    const bed = this.y(0);
    const first = points[0].split(" ")[0];
    const curve = `M${points.join("L")}`;
    this.water.setAttribute("d", `${curve}H${width}V${bed}H${first}Z`);
    this.surface.setAttribute("d", `${curve}H${width}`);
    this.front.setAttribute("d", `M${ship.left - 4} ${now}H${ship.left + ship.width + 4}V${this.y(0)}H${ship.left - 4}Z`);
    const percent = level.at(-1) / 10;
    const says = `${percent.toFixed(percent > 0 && percent < 10 ? 1 : 0)}%`;
    this.now.textContent = says;
    this.now.setAttribute("x", width);
    this.now.setAttribute("y", now - 8);
    this.svg.setAttribute("aria-label", `Requests hold ${says} of the bytes they share; marks at ${this.marks.strained_percent}, ${this.marks.resume_percent} and ${this.marks.refusing_percent}%`);
  }
}
