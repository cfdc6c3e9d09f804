// The front under the cursor: fronts of several devices, delivered networks, and a budget to drag. Framework-free.
import uPlot from "../vendor/uplot.js";
import { held, pick, range, tidy } from "./pick.js";
import { axis, colour } from "./lines.js";

const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [5, 5], [1, 4]];
const stepped = uPlot.paths.stepped({ align: 1 });

/** Series and data of uPlot: a line, its bound, and the delivered networks of each device. */
function series(fronts, models) {
	const tables = [], drawn = [{ label: "latency" }];
	const add = (xs, ys, look) => { if (xs.length) { tables.push([xs, ys]); drawn.push({ spanGaps: true, ...look }); } };
	fronts.forEach((front, i) => {
		const stroke = colour(i), shares = front.accuracy.map((a) => 100 * a);
		add(front.latency_ms, shares, { label: front.device, stroke, width: 2, dash: DASHES[i % 6], paths: stepped, points: { show: false } });
		if (front.upper_ms) add(front.upper_ms, shares, { label: `${front.device}, bound`, stroke, width: 1, alpha: 0.45, paths: stepped, points: { show: false } });
		const mine = models.filter((m) => m.device === front.device);
		const marks = (key, of, fill) => {
			const sorted = mine.filter((m) => m[key] != null && m[of] != null).sort((a, b) => a[key] - b[key]);
			add(sorted.map((m) => m[key]), sorted.map((m) => 100 * m[of]), { stroke, paths: () => null, points: { show: true, size: 9, width: 2, stroke, fill } });
		};
		marks("predicted_ms", "predicted_accuracy", "transparent");
		marks("measured_ms", "accuracy", stroke);
	});
	return { drawn, data: uPlot.join(tables) };
}

/** Where a budget stands, in words. @param {import("./pick.js").Front[]} fronts */
export function inWords(fronts, budget) {
	const each = fronts.map((f) => {
		const at = pick(f, budget);
		return `${f.device}: ${at < 0 ? "cannot be met" : `${(100 * f.accuracy[at]).toFixed(2)} %`}`;
	});
	return `${Number(budget.toPrecision(4))} ms; ${each.join(", ")}`;
}

/**
 * Draw into an element. `tell` is called with the budget while it is dragged.
 * @returns {{set: (budget: number) => void, destroy: () => void, image: () => HTMLCanvasElement, zoomOut: () => void}}
 */
export function drawFront(into, { fronts, models, log, budget, tell }) {
	const { drawn, data } = series(fronts, models);
	const [low, high] = range(fronts);
	const lever = document.createElement("div");
	Object.assign(lever, { className: "budget", tabIndex: 0 });
	const attributes = { role: "slider", "aria-label": "latency budget in ms", "aria-orientation": "horizontal", "aria-valuemin": low, "aria-valuemax": high };
	Object.entries(attributes).forEach(([name, value]) => lever.setAttribute(name, String(value)));
	let at = budget;
	const place = () => {
		const x = chart.valToPos(at, "x");
		lever.style.transform = `translateX(${Math.max(-1, Math.min(chart.over.clientWidth, x))}px)`;
	};
	const chart = new uPlot({
		width: Math.max(240, into.clientWidth), height: 380, legend: { show: false },
		cursor: { drag: { x: true, y: false }, y: false, points: { show: false } },
		scales: { x: { time: false, distr: log ? 3 : 1 } },
		axes: [axis("latency, ms"), axis("accuracy, %")], series: drawn,
		hooks: { setScale: [() => lever.isConnected && place()], ready: [(u) => { u.over.append(lever); }] },
	}, data, into);
	const show = (value) => {
		at = value;
		lever.setAttribute("aria-valuenow", String(value));
		lever.setAttribute("aria-valuetext", inWords(fronts, value));
		place();
	};
	const move = (value) => { const next = tidy(Math.min(high * 1.02, Math.max(low * 0.98, value))); show(next); tell(next); };
	const step = (share) => (log ? at * (high / low) ** share : at + (high - low) * share);
	const keys = { ArrowRight: 0.005, ArrowUp: 0.005, ArrowLeft: -0.005, ArrowDown: -0.005, PageUp: 0.05, PageDown: -0.05 };
	lever.addEventListener("keydown", (event) => {
		if (event.key in keys) move(step(keys[event.key]));
		else if (event.key === "Home") move(low);
		else if (event.key === "End") move(high);
		else return;
		event.preventDefault();
	});
	lever.addEventListener("pointerdown", (event) => { lever.setPointerCapture(event.pointerId); event.stopPropagation(); event.preventDefault(); lever.focus(); });
	lever.addEventListener("mousedown", (event) => event.stopPropagation());
	lever.addEventListener("pointermove", (event) => {
		if (lever.hasPointerCapture(event.pointerId)) move(chart.posToVal(event.clientX - chart.over.getBoundingClientRect().left, "x"));
	});
	chart.over.addEventListener("click", (event) => {
		if (event.target !== lever) move(chart.posToVal(event.clientX - chart.over.getBoundingClientRect().left, "x"));
	});
	const size = new ResizeObserver(() => { chart.setSize({ width: Math.max(240, into.clientWidth), height: chart.height }); place(); });
	size.observe(into);
	show(budget);
	const destroy = () => { size.disconnect(); chart.destroy(); };
	const zoomOut = () => { chart.setData(data); place(); };
	return { set: show, destroy, zoomOut, image: () => chart.ctx.canvas };
}

/** The same picture as SVG text, for papers. */
export function asSvg(fronts, log) {
	const [low, high] = range(fronts), values = fronts.flatMap((f) => f.accuracy);
	const least = Math.min(...values), most = Math.max(...values) || 1;
	const x = (v) => 60 + 720 * (log ? Math.log(v / low) / Math.log(high / low) : (v - low) / (high - low || 1));
	const y = (a) => 420 - 380 * ((a - least) / (most - least || 1));
	const safe = (text) => text.replace(/[<>&"]/g, (c) => `&#${c.charCodeAt(0)};`);
	const lines = fronts.map((f, i) => {
		const points = f.genes.map((_, n) => `${x(held(f)[n]).toFixed(1)},${y(f.accuracy[n]).toFixed(1)}`).join(" ");
		return `<polyline fill="none" stroke="${colour(i)}" stroke-width="2" stroke-dasharray="${DASHES[i % 6].join(" ")}" points="${points}"/>` +
			`<text x="70" y="${40 + 18 * i}" fill="${colour(i)}">${safe(f.device)}</text>`;
	});
	return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 460" font-family="sans-serif" font-size="13">${lines.join("")}` +
		`<text x="60" y="450">${low.toPrecision(3)} ms</text><text x="780" y="450" text-anchor="end">${high.toPrecision(3)} ms${log ? " (log)" : ""}</text>` +
		`<text x="4" y="424">${(100 * least).toFixed(1)} %</text><text x="4" y="44">${(100 * most).toFixed(1)} %</text></svg>`;
}
