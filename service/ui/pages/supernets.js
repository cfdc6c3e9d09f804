// Supernets: what is trained, how the training goes, how well accuracy is predicted.
import { html, useState } from "../html.js";
import { get, post } from "../api.js";
import { percent } from "../format.js";
import { trainCommand } from "../orders.js";
import { Age, Bar, col, Empty, Fact, Grid, Id, num, Select, sent, State, Teach, Trouble, Waiting } from "../parts.js";
import { Curve, Pairs } from "../charts/lines.js";
import { go, kinds, link, supernets as list, useAction, useLive } from "../store.js";

export function Supernets({ query }) {
	const { data, error } = useLive(list, kinds("supernet", "job"));
	if (!data) return html`<${Waiting} error=${error} what="supernets" />`;
	const columns = [
		col("supernet", (s) => html`<a href=${link(["supernets", s.id])}>${s.space} on ${s.dataset}</a>`), col("state", (s) => html`<${State} of=${s.state} />`),
		col("recipe", (s) => `${s.recipe}, seed ${s.seed}`), num("largest", (s) => percent(s.largest?.accuracy)), num("smallest", (s) => percent(s.smallest?.accuracy)),
		num("rank correlation", (s) => s.predictor?.kendall_tau?.toFixed(2) ?? "–"), num("error", (s) => percent(s.predictor?.rmse)), col("created", (s) => html`<${Age} at=${s.created_at} />`)];
	return html`<h1>Supernets</h1><${Grid} caption="supernets" columns=${columns} rows=${data}><${Empty}><p>None is trained yet. Train <b>digits-mbv3</b> on <b>digits</b>: about a minute.</p><//><//>
		${data.filter((s) => s.state === "ready").length > 1 ? html`<p><a class="button" href="#/compare">Compare supernets</a></p>` : null}<details open=${Boolean(query.train) || !data.length}><summary>Train a supernet</summary><${Train} query=${query} /></details>`;
}

async function choices(signal) {
	const [spaces, datasets, limits] = await Promise.all([get("spaces", signal), get("datasets", signal), get("limits", signal)]);
	return { spaces: spaces.items, datasets: datasets.items, recipes: limits.recipes.filter((r) => r !== "transfer") };
}

function Train({ query }) {
	const { data, error } = useLive(choices);
	const [form, set] = useState({ space: query.space ?? "digits-mbv3", dataset: query.dataset ?? "digits", recipe: query.recipe ?? "quick", seed: query.seed ?? 0 });
	const body = { ...form, seed: Number(form.seed) };
	const [run, state] = useAction(async () => { const job = await post("supernets", body); return () => go(["jobs", job.id]); });
	if (!data) return html`<${Waiting} error=${error} />`;
	const select = (name, values) => html`<${Select} label=${name} value=${form[name]} of=${values} set=${(v) => set({ ...form, [name]: v })} />`;
	return html`<form class="inline" onSubmit=${sent(run)}>${select("space", data.spaces.map((s) => s.name))}${select("dataset", data.datasets.map((d) => d.name))}${select("recipe", data.recipes)}
		<label>seed <input type="number" min="0" value=${form.seed} onInput=${(e) => set({ ...form, seed: e.target.value })} /></label><button class="main" disabled=${state.busy}>Train</button></form><${Trouble} error=${state.error} />
		<${Teach} command=${trainCommand(form)} method="POST" path="supernets" body=${body} />`;
}

async function load(id, signal) {
	const supernet = await get(`supernets/${id}`, signal);
	const [history, pairs, job] = await Promise.all([get(`supernets/${id}/history`, signal), supernet.predictor ? get(`supernets/${id}/predictor`, signal) : null, supernet.job_id ? get(`jobs/${supernet.job_id}`, signal) : null]);
	return { supernet, points: history.items, pairs, job };
}

export function Supernet({ id }) {
	const { data, error } = useLive((signal) => load(id, signal), (e) => e.subject === id || e.kind === "progress" || e.kind === "job", [id]);
	if (!data) return html`<${Waiting} error=${error} what="the supernet" back="#/supernets" all="All supernets" />`;
	const { supernet: s, points, pairs, job } = data;
	return html`<h1>${s.space} on ${s.dataset} <${State} of=${s.state} /></h1><p><${Id} of=${s.id} /> recipe ${s.recipe}, seed ${s.seed}, ${s.classes} classes, created <${Age} at=${s.created_at} /></p>
		${job && job.state === "running" ? html`<p aria-live="polite"><${Bar} fraction=${job.progress.fraction} label="trained" /> <a href=${link(["jobs", job.id])}>${job.progress.message}</a></p>` : null}
		<dl class="facts"><${Fact} name="largest">${percent(s.largest?.accuracy)}<//><${Fact} name="smallest">${percent(s.smallest?.accuracy)}<//>${s.predictor ? html`<${Fact} name="accuracy predictor">${s.predictor.name}, error ${percent(s.predictor.rmse)}, rank correlation ${s.predictor.kendall_tau?.toFixed(2) ?? "–"}, ${s.predictor.networks} networks<//>` : null}</dl>
		${s.state === "ready" ? html`<p><a class="button" href=${link(["front"], { supernet: s.id })}>Its front</a></p>` : null}
		<section><h2>Training</h2>${points.length > 1 ? html`<${Curve} points=${points} />` : html`<p class="muted">No numbers were kept: it was imported, trained by an older version, or has just begun.</p>`}</section>
		${pairs ? html`<section><h2>Predicted against measured accuracy</h2><${Pairs} predicted=${pairs.predicted.map((p) => 100 * p)} measured=${pairs.measured.map((p) => 100 * p)} label=${`${pairs.predicted.length} networks, error ${percent(pairs.rmse)}`} unit="%" /><p class="muted">Each of ${pairs.predicted.length} networks was predicted by a fit that had not seen it.</p></section>` : null}`;
}
