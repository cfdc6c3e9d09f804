// Devices: which are there, and whether each one's table is to be believed.
import { html, useState } from "../html.js";
import { all, get, post, remove, enc } from "../api.js";
import { bytes, ms, percent } from "../format.js";
import { Age, col, Danger, Empty, Fact, Grid, Id, num, Select, State, Teach, Trouble, Waiting } from "../parts.js";
import { Heat, Pairs } from "../charts/lines.js";
import { profileCommand } from "../orders.js";
import { devices as list, go, kinds, link, useAction, useLive } from "../store.js";

const context = (d) => `${d.context.runtime} ${d.context.runtime_version}, ${d.context.provider.replace("ExecutionProvider", "")}, ${d.context.threads} thread${d.context.threads === 1 ? "" : "s"}, ${d.context.precision}`;
const review = (d) => d.tables.find((t) => t.state === "needs_review");

export function Devices() {
	const { data, error } = useLive(list, kinds("device", "table", "agent"));
	if (!data) return html`<${Waiting} error=${error} what="devices" />`;
	const columns = [
		col("device", (d) => html`<a href=${link(["devices", d.name])}>${d.name}</a>`), col("context", context),
		col("agent", (d) => html`<${State} of=${d.agent?.present ? "present" : "absent"} />`),
		col("table", (d) => (d.table_id ? html`<${Age} at=${d.date} />` : review(d) ? html`<${State} of="needs_review" />` : "none")),
		num("error", (d) => percent(d.prediction_error, 1)), num("95 % interval", (d) => (d.interval ? `+${((d.interval.factor - 1) * 100).toFixed(1)} %` : "–")),
		col("covers", (d) => [...new Set(d.coverage.map((c) => c.space))].join(", ") || "–")];
	return html`<h1>Devices <a class="button" href="#/enrol">Add a device</a></h1><${Grid} caption="devices" columns=${columns} rows=${data} keyOf=${(d) => d.name}>
		<${Empty}><p>No device yet. <a class="button" href="#/enrol">Add a device</a></p><${Teach} command="bespoke profile" /><//><//>
		${data.length > 1 ? html`<p><a class="button" href=${link(["front"], { devices: data.filter((d) => d.table_id).slice(0, 6).map((d) => d.name).join(",") })}>Compare their fronts</a></p>` : null}`;
}

async function load(name, signal) {
	const path = `devices/${enc(name)}`;
	const [device, networks, jobs, models] = await Promise.all([get(path, signal), get(`${path}/networks`, signal), get(`jobs?device=${enc(name)}&limit=10`, signal),
		get(`models?device=${enc(name)}&limit=20`, signal).catch(() => ({ items: [] }))]);
	return { device, networks: networks.items, jobs: jobs.items, models: models.items };
}

export function Device({ name }) {
	const mine = (e) => ["device", "table", "agent"].includes(e.kind) ? e.subject === name : e.kind === "job" || e.kind === "model";
	const { data, error } = useLive((signal) => load(name, signal), mine, [name]);
	if (!data) return html`<${Waiting} error=${error} what=${name} back="#/devices" all="All devices" />`;
	const { device, networks, jobs, models } = data;
	const findings = device.tables.flatMap((t) => t.reasons.map((r) => ({ ...r, version: t.version, state: t.state }))).slice(0, 12);
	const active = jobs.filter((j) => j.state === "running" || j.state === "queued");
	return html`<h1>${device.name} <${State} of=${device.agent?.present ? "present" : "absent"} /></h1><p>${device.description}</p><p class="muted">${context(device)}</p>
		${active.map((j) => html`<p><${State} of=${j.state} /> <a href=${link(["jobs", j.id])}>${j.kind}</a> ${percent(j.progress.fraction, 0)} ${j.progress.message}</p>`)}
		<section><h2>Is its table to be believed?</h2><${Verdict} device=${device} /><div class="bar-of-tools"><${Work} device=${device} /></div></section>
		${findings.length ? html`<section><h2>Findings</h2><ul class="plain">${findings.map((f) => html`<li><${State} of=${f.severity === "error" ? "failed" : "needs_review"} /> version ${f.version}: ${f.message} ${f.operator ? html`<code>${f.operator}</code>` : ""}</li>`)}</ul>
			<p class="muted">A table that needs a review is not used. Profile the device again, or where it is right as it stands accept it: <code>bespoke tables accept ${name} ${findings[0].version}</code>.</p></section>` : null}
		<${Measured} networks=${networks} />${device.table_id ? html`<${Map} device=${device} />` : null}
		<section><h2>Versions of the table</h2><${Grid} caption="versions" rows=${device.tables} columns=${[num("version", (t) => t.version), col("state", (t) => html`<${State} of=${t.id === device.table_id ? "ready" : t.state} />${t.id === device.table_id ? " in use" : ""}`), num("rows", (t) => t.rows), col("source", (t) => t.source), col("made", (t) => html`<${Age} at=${t.created_at} />`), col("id", (t) => html`<${Id} of=${t.id} />`)]}><p class="muted">None yet.</p><//>
			${device.replication ? html`<p>Two newest measurements of ${device.replication.operators} operators differ by ${percent(device.replication.median_difference, 1)} (median): ${device.replication.reproducible ? "reproducible" : "not reproducible"}.</p>` : null}
			${device.tables.length > 1 ? html`<p><a class="button" href=${link(["compare"], { tables: device.tables.slice(0, 2).map((t) => `${name}:${t.id}`).join(",") })}>Compare two versions</a></p>` : null}</section>
		<section><h2>Networks delivered for it</h2><${Grid} caption="networks" rows=${models} columns=${[col("network", (m) => html`<a href=${link(["models", m.id])}>${m.name ?? ms(m.budget_ms)}</a>`), num("predicted", (m) => ms(m.predicted_ms)), num("measured", (m) => ms(m.measured_ms)), num("accuracy", (m) => percent(m.accuracy)), num("file", (m) => bytes(m.size_bytes))]}><p class="muted">None yet. ${device.table_id ? html`<a href=${link(["front"], { devices: name })}>Open its front</a>` : ""}</p><//></section>
		<${Away} name=${name} />`;
}

function Verdict({ device }) {
	if (!device.table_id) return html`<p>${review(device) ? "Its table needs a review, so nothing is predicted from it." : "It has no table yet: profile it with its agent, or import one."}</p>`;
	return html`<dl class="facts"><${Fact} name="held-out error">${percent(device.prediction_error, 1)}<//><${Fact} name="95 % of networks take at most">${device.interval ? `${((device.interval.factor - 1) * 100).toFixed(1)} % more than predicted` : "not known yet"}<//>
		<${Fact} name="table"><${Age} at=${device.date} /><//>${device.calibration.map((c) => html`<${Fact} name=${`${c.space}, ${c.classes} classes`}>${c.state === "fitted" ? `${c.networks} networks in ${c.sessions} session${c.sessions === 1 ? "" : "s"}, worst ${percent(c.worst, 1)}` : c.reason ?? "no network measured"}${c.missing_networks ? ` · ${c.missing_networks} more for a bound` : ""}<//>`)}
		<${Fact} name="covers">${device.coverage.map((c) => `${c.space} at ${c.resolutions.join(", ")}`).join("; ") || "no search space whole"}<//></dl>`;
}

/** What its agent can be asked for. */
export function Work({ device }) {
	const [space, setSpace] = useState("digits-mbv3");
	const { data: spaces } = useLive((signal) => get("spaces", signal));
	const base = `devices/${enc(device.name)}`;
	const [profile, state] = useAction(async () => { const job = await post(`${base}/profiles`, { space }); return () => go(["jobs", job.id]); });
	const [check, checking] = useAction(async () => { const job = await post(`${base}/checks`, {}); return () => go(["jobs", job.id]); });
	return html`<${Select} label="space" value=${space} of=${spaces?.items.map((s) => s.name) ?? [space]} set=${setSpace} />
		<button class="main" disabled=${state.busy} onClick=${profile}>Profile what is missing</button><button disabled=${checking.busy || !device.table_id} onClick=${check}>Check the table</button>
		${device.agent?.present ? null : html`<span class="muted">No agent is here: a job waits for one. <a href=${link(["enrol"], { name: device.name })}>Start it</a></span>`}<${Trouble} error=${state.error ?? checking.error} />
		<${Teach} command=${profileCommand({ device: device.name, space })} method="POST" path=${`${base}/profiles`} body=${{ space }} />`;
}

function Map({ device }) {
	const spaces = [...new Set(device.coverage.map((c) => c.space))];
	const [wanted, want] = useState({ space: spaces[0] ?? "digits-mbv3", resolution: "" });
	const { data, error } = useLive((signal) => get(`devices/${enc(device.name)}/tables/${device.table_id}/cells?space=${wanted.space}${wanted.resolution ? `&resolution=${wanted.resolution}` : ""}`, signal), () => false, [device.table_id, wanted.space, wanted.resolution]);
	return html`<section><h2>Its table</h2><div class="bar-of-tools"><${Select} label="space" value=${wanted.space} of=${spaces.length ? spaces : [wanted.space]} set=${(space) => want({ space, resolution: "" })} />
		${data ? html`<${Select} label="resolution" value=${data.resolution} of=${data.resolutions} set=${(resolution) => want({ ...wanted, resolution })} />` : null}</div><${Trouble} error=${error} />${data ? html`<${Heat} cells=${data} />` : null}</section>`;
}

function Measured({ networks }) {
	const known = networks.filter((n) => n.predicted_ms != null);
	if (known.length < 2) return null;
	const off = (n) => Math.abs(n.measured_ms / n.predicted_ms - 1);
	const worst = [...known].sort((a, b) => off(b) - off(a))[0];
	return html`<section><h2>Predicted against measured</h2><${Pairs} predicted=${known.map((n) => n.predicted_ms)} measured=${known.map((n) => n.measured_ms)} label=${`${known.length} networks, worst ${percent(off(worst), 1)} off`} unit="ms" band=${0.1} log=${true} />
		<p class="muted">${known.length} networks; thin lines are 10 % off. The worst is ${percent(off(worst), 1)} off: ${ms(worst.predicted_ms)} predicted, ${ms(worst.measured_ms)} measured (${worst.source}).</p></section>`;
}

function Away({ name }) {
	const [run, state] = useAction(async () => { await remove(`devices/${enc(name)}`); return () => go(["devices"]); });
	return html`<section><${Danger} label="Delete this device" name=${name} busy=${state.busy} onYes=${run} /><${Trouble} error=${state.error} /></section>`;
}
