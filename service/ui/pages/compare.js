// Two tables beside each other, or several supernets on one device.
import { html, useState } from "../html.js";
import { get, enc } from "../api.js";
import { ms, percent } from "../format.js";
import { col, Empty, Grid, num, Select, sent, Trouble, Waiting } from "../parts.js";
import { Pairs } from "../charts/lines.js";
import { Chart } from "./front.js";
import { devices as listDevices, go, kinds, link, supernets as listSupernets, useLive } from "../store.js";

export const Compare = ({ query }) => (query.tables != null ? html`<${Tables} query=${query} />` : html`<${Supernets} query=${query} />`);

const middle = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const rowsOf = async (place, signal) => {
	const [name, id] = place.split(":");
	const table = await get(`devices/${enc(name)}/tables/${id}`, signal);
	return { place, rows: new Map(table.rows.map((r) => [r.operator, r.undisturbed_ms ?? r.lower_quartile_ms ?? r.median_ms])) };
};

function Tables({ query }) {
	const places = query.tables.split(",").filter(Boolean);
	const { data: devices, error: lost } = useLive(listDevices, kinds("device", "table"));
	const { data, error } = useLive((signal) => (places.length === 2 ? Promise.all(places.map((p) => rowsOf(p, signal))) : Promise.resolve([])), () => false, [query.tables]);
	if (!devices) return html`<${Waiting} error=${lost} what="tables" />`;
	const every = devices.flatMap((d) => d.tables.map((t) => ({ place: `${d.name}:${t.id}`, name: `${d.name}, version ${t.version}` })));
	const choose = (i, place) => go(["compare"], { tables: [i ? places[0] ?? every[0]?.place : place, i ? place : places[1] ?? every[1]?.place].join(",") });
	const select = (i) => html`<${Select} label=${i ? "with" : "table"} value=${places[i] ?? ""} none="choose" of=${every.map((t) => [t.place, t.name])} set=${(v) => choose(i, v)} />`;
	return html`<h1>Compare tables</h1>${every.length < 2 ? html`<${Empty}><p>Two tables are needed. <a class="button" href="#/devices">Devices</a></p><//>` : html`<form class="choose" onSubmit=${sent()}>${select(0)}${select(1)}</form>`}
		${error ? html`<${Trouble} error=${error} />` : null}${data?.length === 2 ? html`<${Difference} first=${data[0].rows} second=${data[1].rows} names=${data.map(({ place: p }) => every.find((t) => t.place === p)?.name ?? p)} />` : null}`;
}

function Difference({ first, second, names }) {
	const both = [...first.keys()].filter((o) => second.has(o));
	if (!both.length) return html`<${Empty}><p>They have no operator in common.</p><//>`;
	const rows = both.map((operator) => ({ operator, a: first.get(operator), b: second.get(operator), ratio: second.get(operator) / first.get(operator) }));
	const ratio = middle(rows.map((r) => r.ratio));
	const worst = [...rows].sort((x, y) => Math.abs(Math.log(y.ratio / ratio)) - Math.abs(Math.log(x.ratio / ratio))).slice(0, 10);
	const columns = [col("operator", (r) => html`<code>${r.operator}</code>`), num(names[0], (r) => ms(r.a)), num(names[1], (r) => ms(r.b)), num("ratio", (r) => r.ratio.toFixed(2))];
	return html`<p>${both.length} operators are in both; ${first.size - both.length} only in the first, ${second.size - both.length} only in the second. The second takes <b>${ratio.toFixed(3)} ×</b> as long (median).</p>
		<${Pairs} predicted=${rows.map((r) => r.a)} measured=${rows.map((r) => r.b)} names=${names} label=${`${both.length} operators, median ratio ${ratio.toFixed(3)}`} unit="ms" log=${true} />
		<h2>Furthest from that ratio</h2><${Grid} caption="operators that differ most" columns=${columns} rows=${worst} keyOf=${(r) => r.operator} />`;
}

const called = (s) => `${s.space} on ${s.dataset}, ${s.recipe}, seed ${s.seed}`;

async function load(ids, device, signal) {
	const fronts = await Promise.all(ids.map((id) => get(`supernets/${id}/front?device=${enc(device)}&form=columns`, signal).then((front) => ({ id, front }), (error) => ({ id, error }))));
	return { fronts: fronts.filter((f) => f.front), failed: fronts.filter((f) => f.error) };
}

function Supernets({ query }) {
	const { data: all, error } = useLive(async (signal) => ({ supernets: (await listSupernets(signal)).filter((s) => s.state === "ready"), devices: (await listDevices(signal)).filter((d) => d.table_id) }), kinds("supernet", "table"));
	const ids = (query.supernets ?? "").split(",").filter(Boolean).slice(0, 6);
	if (!all) return html`<${Waiting} error=${error} what="supernets" />`;
	if (!all.supernets.length || !all.devices.length) return html`<h1>Compare supernets</h1><${Empty}><p>A trained supernet and a device with a table are needed. <a class="button" href="#/front">Front</a></p><//>`;
	const device = all.devices.some((d) => d.name === query.device) ? query.device : all.devices[0].name;
	const known = ids.filter((id) => all.supernets.some((s) => s.id === id));
	const chosen = known.length ? known : all.supernets.slice(0, 2).map((s) => s.id);
	const choose = (more) => go(["compare"], { supernets: chosen.join(","), device, ...more });
	const toggle = (id) => choose({ supernets: (chosen.includes(id) ? chosen.filter((c) => c !== id) : [...chosen, id]).join(",") });
	return html`<h1>Compare supernets</h1><form class="choose" onSubmit=${sent()}><${Select} label="device" value=${device} of=${all.devices.map((d) => d.name)} set=${(v) => choose({ device: v })} />
		<fieldset><legend>supernets</legend>${all.supernets.map((s) => html`<label class="tick"><input type="checkbox" checked=${chosen.includes(s.id)} disabled=${!chosen.includes(s.id) && chosen.length > 5} onChange=${() => toggle(s.id)} /> ${called(s)}</label>`)}</fieldset></form>
		<p><a href=${link(["compare"], { tables: "," })}>Compare tables instead</a></p><${Both} key=${chosen + device} chosen=${chosen} device=${device} supernets=${all.supernets} query=${query} />`;
}

function Both({ chosen, device, supernets, query }) {
	const { data, error } = useLive((signal) => load(chosen, device, signal), kinds("table"));
	const [at] = useState(query);
	if (!data) return html`<${Waiting} error=${error} what="fronts" />`;
	const of = (id) => supernets.find((s) => s.id === id);
	const fronts = data.fronts.filter((f) => f.front.genes.length).map((f) => ({ ...f.front, device: called(of(f.id)) }));
	const columns = [col("supernet", (s) => html`<a href=${link(["supernets", s.id])}>${called(s)}</a>`), num("largest", (s) => percent(s.largest?.accuracy)), num("smallest", (s) => percent(s.smallest?.accuracy)),
		num("predictor's error", (s) => percent(s.predictor?.rmse)), num("front", (s) => { const f = data.fronts.find((x) => x.id === s.id)?.front; return f ? `${ms(f.reachable_ms.min)} to ${ms(f.reachable_ms.max)}` : "–"; })];
	return html`${data.failed.map((f) => html`<${Trouble} error=${f.error} />`)}${fronts.length ? html`<${Chart} fronts=${fronts} models=${[]} query=${at} place=${{ supernets: chosen.join(","), device }} />` : null}
		<h2>What differs</h2><${Grid} caption="supernets" columns=${columns} rows=${chosen.map(of)} />`;
}
