// Keys of the tenant, and the limits of the service.
import { html, useState } from "../html.js";
import { get, post, remove } from "../api.js";
import { Age, Copy, Danger, Grid, Id, Loading, Teach, Trouble } from "../parts.js";
import { useAction, useLive } from "../store.js";

export function Keys({ session }) {
  const [version, again] = useState(0);
  const { data, error } = useLive((signal) => get("keys", signal), () => false, [version]);
  if (!data) return error ? html`<${Trouble} error=${error} />` : html`<${Loading} what="keys" />`;
  const columns = [
    { name: "name", cell: (k) => k.name }, { name: "id", cell: (k) => html`<${Id} of=${k.id} />` }, { name: "scopes", cell: (k) => k.scopes.join(", ") }, { name: "last used", cell: (k) => html`<${Age} at=${k.last_used_at} />` },
    { name: "browsers", number: true, cell: (k) => k.sessions }, { name: "state", cell: (k) => (k.revoked_at ? "revoked" : k.expires_at ? html`until ${new Date(k.expires_at).toLocaleDateString()}` : "good") },
    { name: "action", cell: (k) => (k.revoked_at ? "" : html`<${Revoke} row=${k} done=${() => again(version + 1)} />`) }];
  return html`<h1>Keys</h1><${Grid} caption="keys" columns=${columns} rows=${data.items} keyOf=${(k) => k.id} /><${Create} scopes=${session.scopes} done=${() => again(version + 1)} /><${Limits} />`;
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
  return html`<section><h2>A new key</h2><form onSubmit=${(e) => { e.preventDefault(); run(); }}><label>name <input required maxlength="128" value=${name} onInput=${(e) => setName(e.target.value)} /></label>
    <fieldset><legend>scopes</legend>${scopes.map((s) => html`<label class="tick"><input type="checkbox" checked=${chosen.includes(s)} onChange=${() => toggle(s)} /> ${s}</label>`)}</fieldset><button class="main" disabled=${state.busy || !chosen.length}>Create it</button></form><${Trouble} error=${state.error} />
    ${made ? html`<div class="secret" role="status"><p>Shown once, here: <code>${made.key}</code><${Copy} text=${made.key} label="copy key" /></p><button onClick=${() => setMade(null)}>I have it</button></div>` : null}<${Teach} command=${`bespoke keys create ${name || "NAME"} ${chosen.map((s) => `--scope ${s}`).join(" ")}`} method="POST" path="keys" body=${body} /></section>`;
}

function Limits() {
  const { data } = useLive((signal) => get("limits", signal), () => false);
  return data ? html`<section><h2>Limits of this service</h2><details><summary>show</summary><dl class="facts">${Object.entries(data.limits).map(([k, v]) => html`<div class="fact"><dt>${k.replaceAll("_", " ")}</dt><dd>${v.toLocaleString()}</dd></div>`)}</dl></details></section>` : null;
}
