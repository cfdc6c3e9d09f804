// The front under the cursor: fronts of the chosen devices, a budget to drag, the network of the picked point, a search.
import { html, useEffect, useMemo, useRef, useState } from "../html.js";
import { all, get, post, enc } from "../api.js";
import { col, Empty, Grid, num, save, Select, sent, Teach, Trouble, Waiting } from "../parts.js";
import { ms, percent } from "../format.js";
import { csv, held, pick, range, tidy } from "../charts/pick.js";
import { asSvg, drawFront, inWords } from "../charts/front.js";
import { Networks } from "../network.js";
import { commandOf, formOf, LIMITS, limitsOf, ofTarget, PRECISIONS, ticked, TICKS } from "../orders.js";
import { change, devices as listDevices, fronts as askFronts, go, kinds, link, read, supernets as listSupernets, useAction, useLive, useTheme } from "../store.js";

async function choices(signal) {
	const [devices, supernets] = await Promise.all([listDevices(signal), listSupernets(signal)]);
	return { devices, supernets: supernets.filter((s) => s.state === "ready") };
}

export function Front({ query }) {
	const { data, error } = useLive(choices, kinds("table", "supernet", "device"));
	const wanted = (query.devices ?? "").split(",").filter(Boolean).slice(0, 6);
	// An address that says it all is drawn at once, beside the question what else there is.
	const told = !error && query.supernet && wanted.length ? { devices: wanted.map((name) => ({ name, table_id: "" })), supernets: [{ id: query.supernet }] } : null;
	const { devices, supernets } = data ?? told ?? {};
	if (!devices) return html`<${Waiting} error=${error} what="devices and supernets" />`;
	const usable = devices.filter((d) => d.table_id != null);
	if (!supernets.length || !usable.length) {
		return html`<h1>Front</h1><${Empty}>${usable.length ? null : html`<p>No device has a latency table yet. <a class="button" href="#/enrol">Add a device</a></p>`}
			${supernets.length ? null : html`<p>No supernet is trained yet. <a class="button" href="#/supernets?train=1">Train one</a></p>`}<//>`;
	}
	const supernet = supernets.find((s) => s.id === query.supernet) ?? supernets[0];
	const asked = wanted.filter((name) => devices.some((d) => d.name === name));
	const names = asked.length ? asked : [usable[0].name];
	const choose = (more) => go(["front"], { ...read().query, supernet: supernet.id, devices: names.join(","), ...more });
	const toggle = (name) => choose({ devices: (names.includes(name) ? names.filter((n) => n !== name) : [...names, name]).join(","), budget: "" });
	return html`<h1>Front</h1><form class="choose" onSubmit=${sent()}>
		<${Select} label="supernet" value=${supernet.id} of=${supernets.map((s) => [s.id, s.space && `${s.space} on ${s.dataset}, ${s.recipe} (${percent(s.largest?.accuracy)})`])} set=${(id) => choose({ supernet: id, budget: "" })} />
		<fieldset><legend>devices</legend>${devices.map((d) => html`<label class="tick"><input type="checkbox" checked=${names.includes(d.name)} disabled=${!names.includes(d.name) && names.length > 5} onChange=${() => toggle(d.name)} /> ${d.name}</label>`)}</fieldset></form>
		<${Fronts} key=${supernet.id + names} supernet=${supernet} names=${names} query=${query} />`;
}

async function loadFronts(supernet, names, signal) {
	const [found, models] = await Promise.all([askFronts(supernet.id, names, signal), all(`models?supernet=${supernet.id}`, 200, signal).catch(() => [])]);
	return { fronts: found.filter((f) => f.front?.genes.length).map((f) => f.front), failed: found.filter((f) => f.error), models: models.filter((m) => names.includes(m.device)) };
}

function Fronts({ supernet, names, query }) {
	const { data, error } = useLive((signal) => loadFronts(supernet, names, signal), kinds("table", "model"));
	if (!data) return html`<${Waiting} error=${error} what="the front" />`;
	const troubles = data.failed.map(({ name, error: reason }) => html`<${Trouble} error=${reason} action=${html`<a class="button" href=${link(["devices", name])}>Look at ${name}</a>`} />`);
	return html`${troubles}${data.fronts.length ? html`<${Chart} supernet=${supernet} fronts=${data.fronts} models=${data.models} query=${query} />` : null}`;
}

/** The chart with its budget, and what is best within it. place: of the address, where it is not that of the front. */
export function Chart({ supernet, fronts, models, query, place: where }) {
	const [low, high] = range(fronts);
	const given = Number(query.budget);
	const [budget, setBudget] = useState(given > 0 && Number.isFinite(given) ? given : tidy(Math.sqrt(low * high)));
	const [log, setLog] = useState(query.axis ? query.axis === "log" : fronts.length > 1);
	const place = useRef(null), chart = useRef(null), timer = useRef(null);
	const names = fronts.map((f) => f.device).join(","), page = where ? "compare" : "front";
	const tell = (value) => {
		setBudget(value);
		clearTimeout(timer.current);
		timer.current = setTimeout(() => change(page, { ...(where ?? { supernet: supernet.id, devices: names }), budget: value }), 200);
	};
	const theme = useTheme();
	useEffect(() => () => clearTimeout(timer.current), []);
	useEffect(() => {
		chart.current = drawFront(place.current, { fronts, models, log, budget, tell });
		return () => chart.current.destroy();
	}, [fronts, models, log, theme]);
	const enter = (value) => { if (value > 0) { chart.current.set(value); tell(value); } };
	const out = fronts.filter((f) => pick(f, budget) < 0);
	const axis = (on) => { setLog(on); change(page, { axis: on ? "log" : "linear" }); };
	return html`<section><div class="bar-of-tools"><label>budget <input type="number" step="any" min="0" value=${budget} onChange=${(e) => enter(Number(e.target.value))} /> ms</label>
		<label class="tick"><input type="checkbox" checked=${log} onChange=${(e) => axis(e.target.checked)} /> log axis</label>
		<button type="button" onClick=${() => chart.current.zoomOut()}>whole front</button>
		<button type="button" onClick=${() => chart.current.image().toBlob((b) => save("front.png", b, "image/png"))}>PNG</button>
		<button type="button" onClick=${() => save("front.svg", asSvg(fronts, log), "image/svg+xml")}>SVG</button>
		<button type="button" onClick=${() => save("front.csv", csv(fronts), "text/csv")}>CSV</button></div>
		<div class="chart front" ref=${place}></div>
		<p class="key">${fronts.map((f, i) => html`<span class="series"><i style=${{ borderColor: `var(--series-${(i % 6) + 1})`, borderTopStyle: ["solid", "dashed", "dotted"][i % 3] }}></i>${f.device}${f.upper_ms ? "" : html` <span class="muted">(no bound: ${f.missing_networks} more networks)</span>`}</span>`)}
			<span class="muted">ring predicted, dot measured; drag across the chart to zoom, click to set the budget</span></p>
		<p class="hidden" role="status">${inWords(fronts, budget)}</p>
		${out.map((f) => html`<div class="trouble" role="alert"><strong>${f.device} cannot keep ${ms(budget)}</strong><p>The least that can be is ${ms(held(f)[0])}.</p><button type="button" onClick=${() => enter(tidy(held(f)[0]))}>Take ${ms(tidy(held(f)[0]))}</button></div>`)}
		<${Picked} supernet=${supernet} fronts=${fronts} budget=${budget} /></section>`;
}

function Picked({ supernet, fronts, budget }) {
	const picked = useMemo(() => fronts.map((f) => ({ f, at: pick(f, budget) })).filter((p) => p.at >= 0), [fronts, budget]);
	const columns = [
		col("device", (p) => p.f.device), num("accuracy", (p) => percent(p.f.accuracy[p.at])),
		num("predicted", (p) => ms(p.f.latency_ms[p.at])), num("at most", (p) => ms(p.f.upper_ms?.[p.at])),
		num("reachable", (p) => `${ms(p.f.reachable_ms.min)} to ${ms(p.f.reachable_ms.max)}`)];
	return html`<h2>Best within ${ms(budget)}</h2><${Grid} caption="the best network of each device within the budget" columns=${columns} rows=${picked} keyOf=${(p) => p.f.device} />
		${supernet && picked.length > 1 ? html`<${Everywhere} supernet=${supernet} fronts=${fronts} picked=${picked} budget=${budget} />` : null}
		${supernet ? html`<div class="side"><${Order} supernet=${supernet} picked=${picked} budget=${budget} /><${Pictures} supernet=${supernet} picked=${picked} /></div>` : null}`;
}

function Pictures({ supernet, picked }) {
	const [shown, set] = useState({ key: "", pictures: [] });
	const key = picked.map((p) => `${p.f.device}:${p.f.genes[p.at]}`).join("|");
	useEffect(() => {
		const control = new AbortController();
		const timer = setTimeout(() => Promise.all(picked.slice(0, 2).map((p) => get(`supernets/${supernet.id}/network?device=${enc(p.f.device)}&genes=${p.f.genes[p.at]}`, control.signal)))
			.then((pictures) => set({ key, pictures }), (error) => { if (!control.signal.aborted) set({ key, pictures: [], error }); }), 250);
		return () => { clearTimeout(timer); control.abort(); };
	}, [key]);
	// The same element again is left alone: a drag draws no picture anew.
	const drawn = useMemo(() => html`<${Networks} pictures=${shown.pictures} />`, [shown]);
	return html`<section><h2>The network</h2>${shown.pictures.length ? drawn : html`<${Waiting} error=${shown.error} what="the network" />`}</section>`;
}

/** Each device's best network on all; regret: the accuracy that it gives up on the worst device. */
function Everywhere({ supernet, fronts, picked, budget }) {
	const [asked, set] = useState({});
	const rows = asked.budget === budget ? asked.rows : null;
	const [run, state] = useAction(async () => {
		const on = (p, f) => get(`supernets/${supernet.id}/network?device=${enc(f.device)}&genes=${p.f.genes[p.at]}`);
		set({ budget, rows: await Promise.all(picked.map(async (p) => {
			const costs = await Promise.all(fronts.map((f) => on(p, f))), accuracy = p.f.accuracy[p.at];
			const kept = costs.map((c) => (c.upper_ms ?? c.predicted_ms) <= budget);
			return { p, accuracy, costs, kept, regret: kept.every(Boolean) ? Math.max(...picked.map((q) => q.f.accuracy[q.at] - accuracy)) : Infinity };
		})) });
	});
	const least = rows && [...rows].sort((a, b) => a.regret - b.regret)[0];
	const columns = rows && [col("best for", (r) => r.p.f.device), num("accuracy", (r) => percent(r.accuracy)), ...fronts.map((f, i) => (num(f.device, (r) => `${ms(r.costs[i].predicted_ms)} ${r.kept[i] ? "✓" : "✕"}`))), num("gives up", (r) => (r.regret === Infinity ? "a budget" : percent(r.regret)))];
	return html`<p><button type="button" disabled=${state.busy} onClick=${run}>Each of them on every device</button></p><${Trouble} error=${state.error} />
		${rows ? html`<${Grid} caption="each network on every device" columns=${columns} rows=${rows} keyOf=${(r) => r.p.f.device} /><p>${least.regret === Infinity ? "None of them keeps the budget everywhere." : html`Best for all: the network of <b>${least.p.f.device}</b>; it gives up ${percent(least.regret)} at most.`}</p>` : null}`;
}

function Order({ supernet, picked, budget }) {
	const [more, setMore] = useState(() => formOf(read().query)); // of a search that is run again
	const [open] = useState([...LIMITS, ...TICKS].some(([name]) => more[name]) || more.precision !== "float32");
	const body = { supernet: supernet.id, targets: picked.map((p) => ({ device: p.f.device, budget: { latency_ms: budget, ...limitsOf(more) }, ...ofTarget(more) })), candidates: Number(more.candidates), verify: more.verify, ...ticked(more, "order") };
	if (more.confidence) body.confidence = Number(more.confidence);
	if (more.tune_epochs) body.tune_epochs = Number(more.tune_epochs);
	// The same order twice is one job, another order is not.
	const key = useMemo(() => crypto.randomUUID?.() ?? String(Math.random()).slice(2) + Date.now(), [JSON.stringify(body)]);
	const further = LIMITS.filter(([name]) => more[name]).map(([name]) => name.replaceAll("_", " "));
	const [submit, state] = useAction(async () => {
		const job = await post("searches", body, { "Idempotency-Key": `ui-${key}` });
		return () => go(["jobs", job.id]);
	});
	const field = (name, label, options = {}) => html`<label>${label} <input type="number" min="0" step="any" value=${more[name] ?? ""} onInput=${(e) => setMore({ ...more, [name]: e.target.value })} ...${options} /></label>`;
	// Left alone while the budget is dragged.
	const fields = useMemo(() => html`<details open=${open}><summary>limits, precision, pruning, confidence, verification, fine-tuning</summary>${LIMITS.map(([name, label]) => field(name, label))}
			${field("confidence", "confidence, 0 to 1", { max: 0.999 })}${field("candidates", "candidates to score", { min: 1, max: 64 })}${field("tune_epochs", "fine-tune epochs", { max: 1000 })}
			<${Select} label="blocks in" value=${more.precision} of=${PRECISIONS} set=${(precision) => setMore({ ...more, precision })} />${TICKS.map(([name, label]) => html`<label class="tick"><input type="checkbox" checked=${more[name]} onChange=${(e) => setMore({ ...more, [name]: e.target.checked })} /> ${label}</label>`)}
			<label class="tick"><input type="checkbox" checked=${more.verify} onChange=${(e) => setMore({ ...more, verify: e.target.checked })} /> measure it on the device</label></details>`, [more]);
	return html`<section><h2>Order it</h2><form onSubmit=${sent(submit)}>
		<button class="main" disabled=${state.busy || !picked.length}>Search ${ms(budget)} for ${picked.map((p) => p.f.device).join(", ") || "no device"}${further.length ? ` within its ${further.join(", ")}` : ""}</button>
		${fields}
		<${Trouble} error=${state.error} /><${Teach} command=${commandOf(body)} method="POST" path="searches" body=${body} /></form></section>`;
}
