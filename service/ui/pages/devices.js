// Devices: which are there, and whether each one's table is to be believed.
import { html, useState } from "../html.js";
import { all, get, post, remove } from "../api.js";
import { bytes, ms, percent } from "../format.js";
import { Age, Danger, Empty, Fact, Grid, Id, Loading, State, Teach, Trouble } from "../parts.js";
import { Pairs } from "../charts/lines.js";
import { go, link } from "../route.js";
import { devices as list, kinds, useAction, useLive } from "../store.js";

const context = (d) => `${d.context.runtime} ${d.context.runtime_version}, ${d.context.provider.replace("ExecutionProvider", "")}, ${d.context.threads} thread${d.context.threads === 1 ? "" : "s"}, ${d.context.precision}`;
const review = (d) => d.tables.find((t) => t.state === "needs_review");

export function Devices() {
  const { data, error } = useLive(list, kinds("device", "table", "agent"));
  if (!data) return error ? html`<${Trouble} error=${error} />` : html`<${Loading} what="devices" />`;
  const columns = [
    { name: "device", cell: (d) => html`<a href=${link(["devices", d.name])}>${d.name}</a>` }, { name: "context", cell: context },
    { name: "agent", cell: (d) => html`<${State} of=${d.agent?.present ? "present" : "absent"} />` },
    { name: "table", cell: (d) => (d.table_id ? html`<${Age} at=${d.date} />` : review(d) ? html`<${State} of="needs_review" />` : "none") },
    { name: "error", number: true, cell: (d) => percent(d.prediction_error, 1) }, { name: "95 % interval", number: true, cell: (d) => (d.interval ? `+${((d.interval.factor - 1) * 100).toFixed(1)} %` : "–") },
    { name: "covers", cell: (d) => [...new Set(d.coverage.map((c) => c.space))].join(", ") || "–" }];
  return html`<h1>Devices <a class="button" href="#/enrol">Add a device</a></h1>${data.length ? html`<${Grid} caption="devices" columns=${columns} rows=${data} keyOf=${(d) => d.name} />`
    : html`<${Empty}><p>No device yet. <a class="button" href="#/enrol">Add a device</a></p><${Teach} command="bespoke profile" /><//>`}
    ${data.length > 1 ? html`<p><a class="button" href=${link(["front"], { devices: data.filter((d) => d.table_id).slice(0, 6).map((d) => d.name).join(",") })}>Compare their fronts</a></p>` : null}`;
}

async function load(name, signal) {
  const path = `devices/${encodeURIComponent(name)}`;
  const [device, networks, jobs, models] = await Promise.all([get(path, signal), get(`${path}/networks`, signal), get(`jobs?device=${encodeURIComponent(name)}&limit=10`, signal),
    get(`models?device=${encodeURIComponent(name)}&limit=20`, signal).catch(() => ({ items: [] }))]);
  return { device, networks: networks.items, jobs: jobs.items, models: models.items };
}

export function Device({ name }) {
  const mine = (e) => ["device", "table", "agent"].includes(e.kind) ? e.subject === name : e.kind === "job" || e.kind === "model";
  const { data, error } = useLive((signal) => load(name, signal), mine, [name]);
  if (!data) return error ? html`<${Trouble} error=${error} action=${html`<a class="button" href="#/devices">All devices</a>`} />` : html`<${Loading} what=${name} />`;
  const { device, networks, jobs, models } = data;
  const findings = device.tables.flatMap((t) => t.reasons.map((r) => ({ ...r, version: t.version, state: t.state }))).slice(0, 12);
  const active = jobs.filter((j) => j.state === "running" || j.state === "queued");
  return html`<h1>${device.name} <${State} of=${device.agent?.present ? "present" : "absent"} /></h1><p>${device.description}</p><p class="muted">${context(device)}</p>
    ${active.map((j) => html`<p><${State} of=${j.state} /> <a href=${link(["jobs", j.id])}>${j.kind}</a> ${percent(j.progress.fraction, 0)} ${j.progress.message}</p>`)}
    <section><h2>Is its table to be believed?</h2><${Verdict} device=${device} /><div class="bar-of-tools"><${Work} device=${device} /></div></section>
    ${findings.length ? html`<section><h2>Findings</h2><ul class="plain">${findings.map((f) => html`<li><${State} of=${f.severity === "error" ? "failed" : "needs_review"} /> version ${f.version}: ${f.message} ${f.operator ? html`<code>${f.operator}</code>` : ""}</li>`)}</ul>
      <p class="muted">A table that needs a review is not used. Profile the device again, or look at its versions with <code>bespoke tables list ${name}</code>.</p></section>` : null}
    <${Measured} networks=${networks} />
    <section><h2>Versions of the table</h2>${device.tables.length ? html`<${Grid} caption="versions" rows=${device.tables} keyOf=${(t) => t.id} columns=${[{ name: "version", number: true, cell: (t) => t.version }, { name: "state", cell: (t) => html`<${State} of=${t.id === device.table_id ? "ready" : t.state} />${t.id === device.table_id ? " in use" : ""}` }, { name: "rows", number: true, cell: (t) => t.rows }, { name: "source", cell: (t) => t.source }, { name: "made", cell: (t) => html`<${Age} at=${t.created_at} />` }, { name: "id", cell: (t) => html`<${Id} of=${t.id} />` }]} />` : html`<p class="muted">None yet.</p>`}
      ${device.replication ? html`<p>Two newest measurements of ${device.replication.operators} operators differ by ${percent(device.replication.median_difference, 1)} (median): ${device.replication.reproducible ? "reproducible" : "not reproducible"}.</p>` : null}</section>
    <section><h2>Networks delivered for it</h2>${models.length ? html`<${Grid} caption="networks" rows=${models} keyOf=${(m) => m.id} columns=${[{ name: "network", cell: (m) => html`<a href=${link(["models", m.id])}>${m.name ?? ms(m.budget_ms)}</a>` }, { name: "predicted", number: true, cell: (m) => ms(m.predicted_ms) }, { name: "measured", number: true, cell: (m) => ms(m.measured_ms) }, { name: "accuracy", number: true, cell: (m) => percent(m.accuracy) }, { name: "file", number: true, cell: (m) => bytes(m.size_bytes) }]} />` : html`<p class="muted">None yet. ${device.table_id ? html`<a href=${link(["front"], { devices: name })}>Open its front</a>` : ""}</p>`}</section>
    <${Away} name=${name} />`;
}

function Verdict({ device }) {
  if (!device.table_id) return html`<p>${review(device) ? "Its table needs a review, so nothing is predicted from it." : "It has no table yet: profile it with its agent, or import one."}</p>`;
  return html`<dl class="facts"><${Fact} name="held-out error">${percent(device.prediction_error, 1)}<//><${Fact} name="95 % of networks take at most">${device.interval ? `${((device.interval.factor - 1) * 100).toFixed(1)} % more than predicted` : "not known yet"}<//>
    <${Fact} name="table"><${Age} at=${device.date} /><//>${device.calibration.map((c) => html`<${Fact} name=${`${c.space}, ${c.classes} classes`}>${c.state === "fitted" ? `${c.networks} networks in ${c.sessions} session${c.sessions === 1 ? "" : "s"}, worst ${percent(c.worst, 1)}` : c.reason ?? "no network measured"}${c.missing_networks ? ` · ${c.missing_networks} more for a bound` : ""}<//>`)}
    <${Fact} name="covers">${device.coverage.map((c) => `${c.space} at ${c.resolutions.join(", ")}`).join("; ") || "no search space whole"}<//></dl>`;
}

function Work({ device }) {
  const [space, setSpace] = useState("digits-mbv3");
  const { data: spaces } = useLive((signal) => get("spaces", signal), () => false);
  const base = `devices/${encodeURIComponent(device.name)}`;
  const [profile, state] = useAction(async () => { const job = await post(`${base}/profiles`, { space }); go(["jobs", job.id]); });
  const [check, checking] = useAction(async () => { const job = await post(`${base}/checks`, {}); go(["jobs", job.id]); });
  return html`<label>space <select value=${space} onChange=${(e) => setSpace(e.target.value)}>${(spaces?.items ?? [{ name: space }]).map((s) => html`<option>${s.name}</option>`)}</select></label>
    <button class="main" disabled=${state.busy} onClick=${profile}>Profile what is missing</button><button disabled=${checking.busy || !device.table_id} onClick=${check}>Check the table</button>
    ${device.agent?.present ? null : html`<span class="muted">No agent is here: a job waits for one. <a href=${link(["enrol"], { name: device.name })}>Start it</a></span>`}<${Trouble} error=${state.error ?? checking.error} />
    <${Teach} command=${`bespoke profile --device ${device.name} --elsewhere --space ${space}`} method="POST" path=${`${base}/profiles`} body=${{ space }} />`;
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
  const [run, state] = useAction(async () => { await remove(`devices/${encodeURIComponent(name)}`); go(["devices"]); });
  return html`<section><${Danger} label="Delete this device" name=${name} busy=${state.busy} onYes=${run} /><${Trouble} error=${state.error} /></section>`;
}
