// Delivered networks, and the card of one: did it keep its budget, the file, the network, where it came from.
import { html, useState } from "../html.js";
import { all, file, get, remove, enc } from "../api.js";
import { bytes, count, ms, percent } from "../format.js";
import { Age, col, Copy, Danger, Empty, Fact, Grid, Id, Loading, Naming, num, save, Select, sent, Teach, Trouble, Waiting } from "../parts.js";
import { Matrix } from "./jobs.js";
import { Network, Networks } from "../network.js";
import { devices as listDevices, go, kinds, link, useAction, useLive } from "../store.js";

export function Models({ query }) {
	const asked = new URLSearchParams(["device", "supernet", "job", "text"].filter((f) => query[f]).map((f) => [f, query[f]]));
	const { data, error } = useLive((signal) => get(`models?limit=100&${asked}`, signal), kinds("model"), [String(asked)]);
	const columns = [
		col("network", (m) => html`<a href=${link(["models", m.id])}>${m.name ?? m.device}</a>`), col("device", (m) => m.device), num("budget", (m) => ms(m.budget_ms)),
		num("predicted", (m) => ms(m.predicted_ms)), num("measured", (m) => ms(m.measured_ms)), col("kept", (m) => kept(m)),
		num("accuracy", (m) => percent(m.accuracy)), num("file", (m) => bytes(m.size_bytes)), col("created", (m) => html`<${Age} at=${m.created_at} />`)];
	return html`<h1>Networks</h1><form class="choose" onSubmit=${sent()}><label>text <input type="search" value=${query.text ?? ""} onChange=${(e) => go(["models"], { ...query, text: e.target.value })} /></label><label>device <input value=${query.device ?? ""} onChange=${(e) => go(["models"], { ...query, device: e.target.value })} /></label></form>
		${error ? html`<${Trouble} error=${error} />` : null}${!data ? (error ? null : html`<${Loading} what="networks" />`) : html`<${Grid} caption="delivered networks" columns=${columns} rows=${data.items}><${Empty}><p>No network was delivered yet. <a class="button" href="#/front">Open the front</a></p><//><//>`}`;
}

const kept = (m) => (m.budget_ms == null ? "limits alone" : m.measured_ms == null ? html`<span class="state s-waiting">◌ not measured</span>` : m.measured_ms <= m.budget_ms ? html`<span class="state s-succeeded">✓ kept</span>` : html`<span class="state s-failed">✕ broken</span>`);

const called = (name) => name.replaceAll("_", " ").replace(/ (ms|mj|bytes)\b/, "");
const valued = (name, v) => (name.includes("_ms") ? ms(v) : name.includes("_bytes") ? bytes(v) : name.includes("_mj") ? (v == null ? "–" : `${Number(v.toPrecision(3))} mJ`) : count(v));

async function load(id, signal) {
	const [card, picture, devices] = await Promise.all([get(`models/${id}`, signal), get(`models/${id}/network`, signal).catch(() => null), listDevices(signal).catch(() => [])]);
	const [named] = (await get(`models?text=${id}&limit=1`, signal)).items;
	const job = await get(`jobs/${card.job_id}`, signal).catch(() => null);
	return { card, picture, devices: devices.filter((d) => d.table_id && d.name !== card.device), named, job };
}

export function Model({ id }) {
	const { data, error } = useLive((signal) => load(id, signal), (e) => e.subject === id, [id]);
	if (!data) return html`<${Waiting} error=${error} what="the card" back="#/models" all="All networks" />`;
	const { card, picture, devices, named, job } = data;
	const { latency, accuracy, file: f, search, constraints = [] } = card;
	const broken = constraints.filter((c) => c.value > c.limit), kept = latency.measured_ms <= card.budget_ms && !broken.length;
	const told = (broken.length ? broken : constraints.filter((c) => !c.name.startsWith("latency_ms"))).map((c) => `, ${called(c.name)} ${valued(c.name, c.value)} of ${valued(c.name, c.limit)}`).join("");
	const verdict = card.device == null ? html`<p class="verdict">Made within limits alone, for no device.</p>` : latency.measured_ms == null ? html`<p class="verdict s-waiting">◌ <b>Not measured.</b> Start the agent of <a href=${link(["enrol"], { name: card.device })}>${card.device}</a> and search again.</p>`
		: html`<p class=${`verdict s-${kept ? "succeeded" : "failed"}`}>${kept ? "✓" : "✕"} <b>${kept ? "Kept" : "Broke"} ${ms(card.budget_ms)}: measured ${ms(latency.measured_ms)}${told}.</b></p>`;
	return html`<h1>${named?.name ?? `Network for ${card.device ?? "any device"}`}</h1><p><${Id} of=${card.id} /> ${named ? html`created <${Age} at=${named.created_at} />` : null}${named?.note ? ` · ${named.note}` : ""}</p>${verdict}
		${card.state === "suspect" ? html`<div class="trouble" role="alert"><strong>This network is suspect</strong><p>${card.suspect_reason}</p></div>` : null}${(accuracy.warnings ?? []).map((w) => html`<p class="muted">⚠ ${w}</p>`)}<${Download} card=${card} />
		<dl class="facts"><${Fact} name="latency">predicted ${ms(latency.predicted_ms)}, at most ${ms(latency.upper_ms)}, measured ${ms(latency.measured_ms)}${latency.p95_ms == null ? "" : `; half of all runs within ${ms(latency.typical_ms)}, 19 of 20 within ${ms(latency.p95_ms)}`}<//>
			${(card.devices ?? [latency]).flatMap((d) => (d.further ?? []).map((l) => html`<${Fact} name=${called(l.name)}>predicted ${valued(l.name, l.predicted)}, at most ${valued(l.name, l.upper)}, measured ${valued(l.name, l.measured)} of ${valued(l.name, l.limit)}<//>`))}
			<${Fact} name="accuracy">${percent(accuracy.measured)} on ${accuracy.samples} samples of ${accuracy.dataset} (${accuracy.split}); predicted ${percent(accuracy.predicted)}, validation ${percent(accuracy.validation)}<//>
			<${Fact} name="file">${bytes(f.size_bytes)}, ${count(f.parameters)} parameters, ${count(f.macs)} MACs, opset ${f.opset}<//><${Fact} name="search">${search.strategy}, ${search.optimal ? "proven optimal" : "not proven optimal"}${search.gap == null ? "" : `, gap ${search.gap}`}<//>
			${constraints.map((c) => html`<${Fact} name=${`limit: ${called(c.name)}`}>${valued(c.name, c.value)} of ${valued(c.name, c.limit)}${c.basis ? ` (${c.basis})` : ""} ${c.value <= c.limit ? "✓" : "✕"}<//>`)}
			${card.tuning ? html`<${Fact} name="fine-tuning">${card.tuning.epochs} epochs: ${percent(card.tuning.validation_before)} to ${percent(card.tuning.validation)}${card.tuning.kept ? "" : ", not kept"}<//>` : null}</dl>
		${picture ? html`<section><h2>The network</h2><${Elsewhere} id=${id} picture=${picture} devices=${devices} /></section>` : null}
		${job?.result?.matrix ? html`<section><${Matrix} of=${job.result.matrix} /></section>` : null}
		<section><h2>How to run it</h2><${Snippet} card=${card} /></section>
		<section><h2>Where it comes from</h2><p>Job <${Id} of=${card.job_id} href=${link(["jobs", card.job_id])} /> · supernet <${Id} of=${card.provenance.supernet_id} href=${link(["supernets", card.provenance.supernet_id])} /> · table <${Id} of=${latency.table_id} /></p>
			<details><summary>the whole card</summary><pre tabindex="0">${JSON.stringify(card, null, 2)}</pre></details><${Teach} command=${`bespoke models show ${id}`} path=${`models/${id}`} /></section><${Keep} id=${id} named=${named} />`;
}

function Elsewhere({ id, picture, devices }) {
	const [name, choose] = useState("");
	const { data: other, error } = useLive((signal) => (name ? get(`models/${id}/network?device=${enc(name)}`, signal) : null), () => false, [id, name]);
	return html`${devices.length ? html`<${Select} label="beside its cost on" none="no other device" of=${devices.map((d) => d.name)} value=${name} set=${choose} />` : null}<${Trouble} error=${error} />
		${other?.device === name ? html`<${Networks} pictures=${[picture, other]} />` : html`<${Network} picture=${picture} />`}`;
}

function Download({ card }) {
	const [checked, set] = useState(null);
	const [run, state] = useAction(async () => {
		const { data, sha256 } = await file(`models/${card.id}/onnx`);
		if (sha256 != null && sha256 !== card.file.sha256) throw Object.assign(new Error(), { problem: { title: "The file that came is not the one on the card", detail: "Its SHA-256 differs; nothing was saved. Ask who runs the service to look with `bespoke doctor`." } });
		save(`${card.device}-${card.budget_ms}ms.${card.file.archive ? "zip" : "onnx"}`, data, card.file.archive ? "application/zip" : "application/onnx");
		set(sha256 ?? "unchecked");
	});
	return html`<p class="download"><button class="main" disabled=${state.busy} onClick=${run}>Download ONNX, ${bytes(card.file.size_bytes)}</button> <code class="sha">${card.file.sha256}</code><${Copy} text=${card.file.sha256} label="copy SHA-256" />
		<span role="status">${checked === "unchecked" ? "saved; this browser cannot check the SHA-256 here" : checked ? "✓ saved, SHA-256 is the card's" : ""}</span></p><${Trouble} error=${state.error} />
		<details><summary>look inside with Netron</summary><p>Download the file and drop it on netron.app: this page sends nothing.</p></details>`;
}

function Snippet({ card }) {
	if (!card.snippet) return html`<p><code>bespoke models run ${card.id} PICTURE…</code> feeds pictures as the file itself says.</p>`;
	return html`<p>Save it as <code>run.py</code>; then <code>python run.py model.onnx PICTURE…</code></p><div class="line"><pre tabindex="0" class="snippet">${card.snippet}</pre><${Copy} text=${card.snippet} /></div>`;
}

function Keep({ id, named }) {
	const [away, state] = useAction(async () => { await remove(`models/${id}`); return () => go(["models"]); });
	return html`<section><details><summary>name, note, deletion</summary><${Naming} of=${named} path=${`models/${id}`} />
		<${Danger} label="Delete this network" name=${id.slice(0, 12)} busy=${state.busy} onYes=${away} /><${Trouble} error=${state.error} /></details></section>`;
}
