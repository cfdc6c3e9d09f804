// Keys of the tenant; and what this service is: its version, limits, workers, for its operator tenants and quarantine.
import { html, useState } from "../html.js";
import { get, parts, post, remove } from "../api.js";
import { Age, col, Copy, Danger, Empty, Fact, Grid, Id, num, Ready, sent, Teach, Trouble, Waiting } from "../parts.js";
import { kinds, link, useAction, useLive } from "../store.js";

export function Keys({ session }) {
	const [version, again] = useState(0);
	const { data, error } = useLive((signal) => get("keys", signal), () => false, [version]);
	if (!data) return html`<${Waiting} error=${error} what="keys" />`;
	const columns = [
		col("name", (k) => k.name), col("id", (k) => html`<${Id} of=${k.id} />`), col("scopes", (k) => k.scopes.join(", ")), col("last used", (k) => html`<${Age} at=${k.last_used_at} />`),
		num("browsers", (k) => k.sessions), col("state", (k) => (k.revoked_at ? "revoked" : k.expires_at ? html`until ${new Date(k.expires_at).toLocaleDateString()}` : "good")),
		col("action", (k) => (k.revoked_at ? "" : html`<${Revoke} row=${k} done=${() => again(version + 1)} />`))];
	return html`<h1>Keys</h1><${Grid} caption="keys" columns=${columns} rows=${data.items} /><${Create} scopes=${session.scopes} done=${() => again(version + 1)} />`;
}

function Revoke({ row, done }) {
	const [run, state] = useAction(async () => { await remove(`keys/${row.id}`); done(); });
	return html`<${Danger} label="Revoke" name=${row.name} busy=${state.busy} onYes=${run} /><${Trouble} error=${state.error} />`;
}

function Create({ scopes, done }) {
	const [name, setName] = useState(""), [chosen, choose] = useState(scopes.filter((s) => s.endsWith(":read") && s !== "metrics:read")), [made, setMade] = useState(null);
	const body = { name, scopes: chosen };
	const [run, state] = useAction(async () => { setMade(await post("keys", body)); setName(""); done(); });
	const toggle = (s) => choose(chosen.includes(s) ? chosen.filter((c) => c !== s) : [...chosen, s]);
	return html`<section><h2>A new key</h2><form onSubmit=${sent(run)}><label>name <input required maxlength="128" value=${name} onInput=${(e) => setName(e.target.value)} /></label>
		<fieldset><legend>scopes</legend>${scopes.map((s) => html`<label class="tick"><input type="checkbox" checked=${chosen.includes(s)} onChange=${() => toggle(s)} /> ${s}</label>`)}</fieldset><button class="main" disabled=${state.busy || !chosen.length}>Create it</button></form><${Trouble} error=${state.error} />
		${made ? html`<div class="secret" role="status"><p>Shown once, here: <code>${made.key}</code><${Copy} text=${made.key} label="copy key" /></p><button onClick=${() => setMade(null)}>I have it</button></div>` : null}<${Teach} command=${`bespoke keys create ${name || "NAME"} ${chosen.map((s) => `--scope ${s}`).join(" ")}`} method="POST" path="keys" body=${body} /></section>`;
}

const quiet = (promise) => promise.catch(() => null);

async function load(scopes, signal) {
	const [limits, status, ready, tenants, quarantined] = await Promise.all([get("limits", signal), quiet(get("status", signal)), parts(), scopes.includes("tenants:write") ? quiet(get("tenants", signal)) : null, quiet(get("jobs?state=quarantined&limit=20", signal))]);
	return { limits, status, ready, tenants, quarantined };
}

export function Settings({ session }) {
	const { data, error } = useLive((signal) => load(session.scopes, signal), kinds("job"));
	if (!data) return html`<${Waiting} error=${error} what="settings" />`;
	const { limits, status, ready, tenants, quarantined } = data;
	return html`<h1>Settings</h1><dl class="facts"><${Fact} name="version">${session.version}<//><${Fact} name="database and files"><${Ready} checks=${ready} /><//>
		<${Fact} name="workers alive">${status ? status.workers : "–"}<//><${Fact} name="strategies">${limits.strategies.join(", ")}<//><${Fact} name="recipes">${limits.recipes.join(", ")}<//></dl>
		<section><h2>Quarantine</h2><${Grid} caption="quarantined jobs" rows=${quarantined?.items ?? []} columns=${[col("job", (j) => html`<a href=${link(["jobs", j.id])}>${j.name ?? j.kind}</a>`), col("since", (j) => html`<${Age} at=${j.ended_at} />`), col("why", (j) => j.error?.detail ?? ""), col("id", (j) => html`<${Id} of=${j.id} />`)]}><${Empty}><p>No job crashed three times.</p><//><//></section>
		${tenants ? html`<section><h2>Tenants</h2><${Grid} caption="tenants" rows=${tenants.items} keyOf=${(t) => t.name} columns=${[col("name", (t) => t.name), col("created", (t) => html`<${Age} at=${t.created_at} />`)]} /></section>` : null}
		<section><h2>Limits of this service</h2><dl class="facts">${Object.entries(limits.limits).map(([k, v]) => html`<${Fact} name=${k.replaceAll("_", " ")}>${v.toLocaleString()}<//>`)}</dl></section>`;
}
