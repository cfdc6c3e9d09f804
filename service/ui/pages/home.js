// What runs, what broke, what is here; for a newcomer the three steps to a first network.
import { html, useEffect, useState } from "../html.js";
import { get, parts } from "../api.js";
import { duration, ms, percent, words } from "../format.js";
import { Age, Bar, Id, Ready, State, Teach, Trouble, Waiting } from "../parts.js";
import { kinds, link, useLive, useNow } from "../store.js";

async function load(signal) {
	const [status, running, queued, failed, models, devices, supernets] = await Promise.all([
		get("status", signal), get("jobs?state=running&limit=10", signal), get("jobs?state=queued&limit=5", signal), get("jobs?state=failed&limit=3", signal),
		get("models?limit=5", signal), get("devices?limit=20", signal), get("supernets?limit=5", signal)]);
	const quarantined = status.jobs.quarantined ? (await get("jobs?state=quarantined&limit=3", signal)).items : [];
	return { status, active: [...running.items, ...queued.items], broken: [...quarantined, ...failed.items], models: models.items, devices: devices.items, supernets: supernets.items };
}

export function Home() {
	const { data, error, stale, at } = useLive(load, kinds("job", "progress", "model", "device", "table", "agent", "supernet"));
	if (!data) return html`<${Waiting} error=${error} what="the service" />`;
	const steps = [data.devices.some((d) => d.table_id), data.supernets.some((s) => s.state === "ready"), data.models.length > 0];
	return html`<h1>Home</h1>${stale ? html`<${Trouble} error=${error} action=${html`<${Away} at=${at} />`} />` : null}
		<div class=${stale ? "old" : ""}>${steps.every(Boolean) ? null : html`<${Begin} steps=${steps} data=${data} />`}
		<${Active} data=${data} />
		${data.broken.length ? html`<section><h2>What broke lately</h2><ul class="plain">${data.broken.map((j) => html`<li key=${j.id}><${State} of=${j.state} /> <a href=${link(["jobs", j.id])}>${j.name ?? j.kind}</a> <${Age} at=${j.ended_at} />: ${j.error?.detail ?? j.error?.title}</li>`)}</ul></section>` : null}
		<div class="side"><section><h2>Devices</h2>${data.devices.length ? html`<ul class="plain">${data.devices.map((d) => html`<li key=${d.name}><a href=${link(["devices", d.name])}>${d.name}</a> <${State} of=${d.agent?.present ? "present" : "absent"} />
			${d.prediction_error == null ? "" : html` <span class="muted">error ${percent(d.prediction_error, 1)}</span>`}</li>`)}</ul>` : html`<p>None yet. <a href="#/enrol">Add a device</a></p>`}</section>
		<section><h2>Newest networks</h2>${data.models.length ? html`<ul class="plain">${data.models.map((m) => html`<li key=${m.id}><a href=${link(["models", m.id])}>${m.name ?? m.device}</a> within ${ms(m.budget_ms)}:
			predicted ${ms(m.predicted_ms)}, ${m.measured_ms == null ? "not measured" : html`measured ${ms(m.measured_ms)}`} · ${percent(m.accuracy)}</li>`)}</ul>` : html`<p class="muted">None yet.</p>`}</section></div></div>`;
}

/** What answers and what does not, asked every ten seconds as long as it lasts. */
function Away({ at }) {
	const [checks, set] = useState(null), now = useNow();
	useEffect(() => { let here = true; parts().then((found) => here && set(found)); return () => { here = false; }; }, [now]);
	return html`<p>${checks ? html`<${Ready} checks=${checks} />. ` : ""}What you see is from <${Age} at=${at} />.</p>`;
}

function Active({ data }) {
	const waits = data.status.workers === 0 && data.active.length > 0;
	return html`<section aria-live="polite"><h2>Now <span class="muted">${data.status.workers} worker${data.status.workers === 1 ? "" : "s"} alive</span></h2>
		${waits ? html`<div class="trouble" role="alert"><strong>Nobody works on these jobs</strong><p>No worker is alive: start one with <code>bespoke serve</code> or <code>python -m worker</code>.</p></div>` : null}
		${data.active.length === 0 ? html`<p class="muted">Nothing runs or waits.</p>` : html`<ul class="plain">${data.active.map((j) => html`<li key=${j.id} class="job">
			<${State} of=${j.state} /> <a href=${link(["jobs", j.id])}>${j.name ?? j.kind}</a> <${Id} of=${j.id} />
			<${Bar} fraction=${j.progress.fraction} label=${`${j.kind} done`} /> <span>${words(j.progress.step)} <span class="muted">${j.progress.message}</span></span>
			<span class="muted">${j.progress.eta_s == null ? "" : `${duration(j.progress.eta_s)} left`}</span></li>`)}</ul>`}</section>`;
}

function Begin({ steps, data }) {
	const device = data.devices.find((d) => d.table_id)?.name ?? "this-machine";
	const list = [
		["Profile a device", html`<a class="button" href="#/enrol">Add a device</a>`, "bespoke profile", "measures what its operators take"],
		["Train a supernet", html`<a class="button" href="#/supernets?train=1">Train digits-mbv3 on digits</a>`, "bespoke supernets train digits-mbv3 digits --recipe quick", "once for all devices; about a minute"],
		["Search a budget", html`<a class="button" href=${link(["front"], { devices: device })}>Open the front</a>`, `bespoke search --device ${device} --budget-ms 1`, "every budget at once, under the cursor"],
	];
	const next = steps.indexOf(false);
	return html`<section class="begin"><h2>Three steps to your first network</h2><ol>${list.map(([title, button, command, why], i) => html`<li class=${steps[i] ? "ticked" : ""}>
		<strong>${steps[i] ? "✓ " : ""}${title}</strong> <span class="muted">${why}</span> ${steps[i] ? html`<span class="hidden">done</span>` : html`${i === next ? button : null}<${Teach} command=${command} />`}</li>`)}</ol></section>`;
}
