// Plain charts: curves and scatters. They know no page and redraw when their data change.
import { html, useEffect, useRef } from "../html.js";
import uPlot from "../vendor/uplot.js";
import { ms } from "../format.js";
import { useTheme } from "../store.js";
import { thin } from "./pick.js";

const probe = document.createElement("i"); // a colour of the style sheet as the theme of now has it
export function ink(name) {
	if (!probe.isConnected) { probe.hidden = true; document.body.append(probe); }
	probe.style.color = `var(${name})`;
	return getComputedStyle(probe).color;
}

export const colour = (index) => ink(`--series-${(index % 6) + 1}`);

/** What axes look like in the theme of now. */
export function axis(label, values) {
	return { label, labelSize: 24, stroke: ink("--ink"), grid: { stroke: ink("--grid"), width: 1 }, ticks: { stroke: ink("--grid"), width: 1 }, values };
}

function useChart(make, depends) {
	const place = useRef(null), theme = useTheme();
	useEffect(() => {
		const into = place.current, chart = make(into);
		const size = new ResizeObserver(() => chart.setSize({ width: Math.max(200, into.clientWidth), height: chart.height }));
		size.observe(into);
		return () => { size.disconnect(); chart.destroy(); };
	}, [theme, ...depends]); // a chart is a picture: with the colours of the other theme it is drawn once more
	return place;
}

const validated = (points, which) => points.map((p) => (p.validation?.[which] == null ? null : 100 * p.validation[which]));

/** Loss and validation over the whole training; a line where a phase begins. points: `HistoryPoint[]` */
export function Curve({ points }) {
	const place = useChart((into) => new uPlot({
		width: Math.max(200, into.clientWidth), height: 240, legend: { live: true },
		scales: { x: { time: false }, y: { distr: 3 }, share: { auto: true } },
		axes: [axis("training done, %"), axis("loss"), { ...axis("validation, %"), scale: "share", side: 1, grid: { show: false } }],
		series: [{ label: "%", value: (_, v) => (v == null ? "–" : v.toFixed(1)) }, { label: "loss", stroke: colour(0), width: 2, value: (_, v) => (v == null ? "–" : v.toFixed(3)) },
			...["largest", "smallest"].map((label, i) => ({ label, scale: "share", stroke: colour(i + 1), dash: i ? [4, 4] : [], width: 2, spanGaps: true, points: { show: true, size: 6 }, value: (_, v) => (v == null ? "–" : `${v.toFixed(1)} %`) }))],
		hooks: { draw: [(u) => phases(u, points)] },
	}, [points.map((p) => 100 * p.fraction), points.map((p) => p.loss), validated(points, "largest"), validated(points, "smallest")], into), [points]);
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

const FEW = 2000; // dots beyond that are thinned to one a cell of three pixels

function cloud(u, series) {
	const xs = u.data[0], ys = u.data[series];
	return thin(Array.from(xs, (x) => u.valToPos(x, "x")), Array.from(ys, (y) => u.valToPos(y, "y")));
}

/** Predicted against measured with the line where both are equal. */
export function Pairs({ predicted, measured, label, unit, band = 0, log = false, names = ["predicted", "measured"] }) {
	const order = predicted.map((_, i) => i).sort((a, b) => predicted[a] - predicted[b]);
	const xs = order.map((i) => predicted[i]), ys = order.map((i) => measured[i]);
	const place = useChart((into) => new uPlot({
		width: Math.max(200, into.clientWidth), height: 300, legend: { show: false }, cursor: { drag: { x: false, y: false } },
		scales: { x: { time: false, distr: log ? 3 : 1 }, y: { distr: log ? 3 : 1 } },
		axes: [axis(`${names[0]} ${unit}`), axis(`${names[1]} ${unit}`)],
		series: [{}, { stroke: colour(0), paths: () => null, points: { show: true, size: 7, fill: colour(0), filter: xs.length > FEW ? cloud : null } },
			...["--muted", ...(band ? ["--grid", "--grid"] : [])].map((name) => ({ stroke: ink(name), width: 1, points: { show: false } }))],
	}, [xs, ys, xs, ...(band ? [xs.map((x) => x * (1 + band)), xs.map((x) => x * (1 - band))] : [])], into), [predicted, measured]);
	return html`<div class="chart" ref=${place} role="img" aria-label=${label}></div>`;
}

/** A table as a heat map: a real HTML table, so that a screen reader and a search find every cell. cells: `TableCells` */
export function Heat({ cells }) {
	const known = cells.cells.flat().filter((c) => c?.ms > 0).map((c) => Math.log(c.ms));
	const low = Math.min(...known), span = Math.max(...known) - low || 1;
	const shade = (c) => (c.ms > 0 ? { background: `color-mix(in srgb, var(--accent) ${Math.round((42 * (Math.log(c.ms) - low)) / span)}%, var(--panel))` } : null);
	const told = (c) => `${c.spread_ms == null ? "no spread" : `± ${ms(c.spread_ms)}`}${c.count ? `, ${c.count} times` : ""}${c.odd ? ", found odd" : ""}`;
	const cell = (c) => (c == null ? html`<td></td>` : html`<td class=${`num${c.odd ? " odd" : ""}`} style=${shade(c)} title=${told(c)}>${c.ms == null ? "missing" : ms(c.ms).replace(" ms", "")}${c.odd ? " ⚠" : ""}</td>`);
	return html`<div class="wide heat" tabindex="0" role="group" aria-label="heat map"><table><caption>milliseconds of each choice of each block</caption>
		<thead><tr><th scope="col">block at its widest</th>${cells.columns.map((c) => html`<th scope="col" class="num">${c.replace("x", "×")}</th>`)}</tr></thead>
		<tbody>${cells.rows.map((name, i) => html`<tr><th scope="row">${name}</th>${cells.cells[i].map(cell)}</tr>`)}</tbody></table></div>`;
}
