// Plain charts: curves and scatters. They know no page and redraw when their data change.
import { html, useEffect, useRef } from "../html.js";
import uPlot from "../vendor/uplot.js";

const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const colour = (index) => ink(`--series-${(index % 6) + 1}`);

/** What axes look like in the theme of now. */
export function axis(label, values) {
  return { label, labelSize: 24, stroke: ink("--ink"), grid: { stroke: ink("--grid"), width: 1 }, ticks: { stroke: ink("--grid"), width: 1 }, values };
}

function useChart(make, depends) {
  const place = useRef(null);
  useEffect(() => {
    const into = place.current, chart = make(into);
    const size = new ResizeObserver(() => chart.setSize({ width: Math.max(200, into.clientWidth), height: chart.height }));
    size.observe(into);
    return () => { size.disconnect(); chart.destroy(); };
  }, depends);
  return place;
}

/** Loss over the whole training; a line where a phase begins. points: `HistoryPoint[]` */
export function Curve({ points }) {
  const place = useChart((into) => new uPlot({
    width: Math.max(200, into.clientWidth), height: 240, legend: { live: true },
    scales: { x: { time: false }, y: { distr: 3 } },
    axes: [axis("training done, %"), axis("loss")],
    series: [{ label: "%", value: (_, v) => (v == null ? "–" : v.toFixed(1)) }, { label: "loss", stroke: colour(0), width: 2, value: (_, v) => (v == null ? "–" : v.toFixed(3)) }],
    hooks: { draw: [(u) => phases(u, points)] },
  }, [points.map((p) => 100 * p.fraction), points.map((p) => p.loss)], into), [points]);
  return html`<div class="chart" ref=${place} role="img" aria-label=${`loss, ${points.length} reports, last ${points.at(-1)?.loss.toFixed(3)}`}></div>`;
}

function phases(u, points) {
  u.ctx.save();
  u.ctx.fillStyle = ink("--muted");
  u.ctx.font = `${11 * devicePixelRatio}px sans-serif`;
  points.forEach((p, i) => {
    if (i && points[i - 1].phase === p.phase) return;
    const x = u.valToPos(100 * p.fraction, "x", true);
    u.ctx.fillRect(x, u.bbox.top, 1, u.bbox.height);
    u.ctx.fillText(p.phase, x + 4, u.bbox.top + 12 * devicePixelRatio);
  });
  u.ctx.restore();
}

/** Predicted against measured with the line where both are equal. */
export function Pairs({ predicted, measured, label, unit, band = 0, log = false }) {
  const order = predicted.map((_, i) => i).sort((a, b) => predicted[a] - predicted[b]);
  const xs = order.map((i) => predicted[i]), ys = order.map((i) => measured[i]);
  const place = useChart((into) => new uPlot({
    width: Math.max(200, into.clientWidth), height: 300, legend: { show: false }, cursor: { drag: { x: false, y: false } },
    scales: { x: { time: false, distr: log ? 3 : 1 }, y: { distr: log ? 3 : 1 } },
    axes: [axis(`predicted ${unit}`), axis(`measured ${unit}`)],
    series: [{}, { stroke: colour(0), paths: () => null, points: { show: true, size: 7, fill: colour(0) } },
      ...["--muted", ...(band ? ["--grid", "--grid"] : [])].map((name) => ({ stroke: ink(name), width: 1, points: { show: false } }))],
  }, [xs, ys, xs, ...(band ? [xs.map((x) => x * (1 + band)), xs.map((x) => x * (1 - band))] : [])], into), [predicted, measured]);
  return html`<div class="chart" ref=${place} role="img" aria-label=${label}></div>`;
}
