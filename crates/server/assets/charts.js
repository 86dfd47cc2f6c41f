// The curves of the last three minutes, by uPlot.

import { time } from "./figures.js";

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function chart(at, lines, says, least) {
  const axis = { stroke: css("--soft"), font: "12px system-ui, sans-serif", ticks: { show: false }, size: 26 };
  const options = {
    width: at.clientWidth,
    height: at.clientHeight,
    legend: { show: false },
    cursor: { points: { size: 6 }, drag: { x: false, y: false } },
    scales: { x: { time: false }, y: { range: (_, __, max) => [0, Math.max(least, (max ?? 0) * 1.1)] } },
    axes: [
      { ...axis, grid: { show: false }, splits: () => [-180, -120, -60, 0], values: (_, all) => all.map((s) => (s ? `${-s / 60} min ago` : "now")) },
      { ...axis, size: 54, space: 34, grid: { stroke: css("--rule"), width: 1 }, values: (_, all) => all.map(says) },
    ],
    series: [{}, ...lines.map(([color, fill]) => ({ stroke: css(color), width: 1.75, fill: fill && css(fill), points: { show: false }, spanGaps: false }))],
    padding: [8, 26, 0, 0],
  };
  return new uPlot(options, [[], ...lines.map(() => [])], at);
}

export class Charts {
  constructor(rates, times) {
    this.places = [rates, times];
    this.build();
    const again = () => this.build();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
    let width = rates.clientWidth;
    new ResizeObserver(() => {
      if (rates.clientWidth !== width) again();
      width = rates.clientWidth;
    }).observe(rates);
  }

  build() {
    this.places.forEach((place) => place.replaceChildren());
    const [rates, times] = this.places;
    this.rates = chart(rates, [["--ink"], ["--accent"]], (rate) => (rate >= 1000 ? `${rate / 1000}k` : `${rate}`), 1);
    this.times = chart(times, [["--deep"], ["--ink"]], (us) => (us ? time(us) : "0"), 1000);
    if (this.past) this.show(this.past);
  }

  /** Curves with a value a second, oldest first. */
  show(past) {
    this.past = past;
    const count = past.answers_per_s.length;
    const ago = Array.from({ length: count }, (_, index) => index + 1 - count);
    const known = (all) => all.map((us) => us || null); // no answers, no time
    const window = { min: -180, max: 0 };
    this.rates.setData([ago, past.answers_per_s, past.refusals_per_s]);
    this.times.setData([ago, known(past.p50_us), known(past.p99_us)]);
    this.rates.setScale("x", window);
    this.times.setScale("x", window);
  }
}
