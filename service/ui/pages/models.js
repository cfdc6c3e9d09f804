// Delivered networks, and the card of one: did it keep its budget, the file, the network, where it came from.
import { html, useState } from "../html.js";
import { all, file, get, patch, remove } from "../api.js";
import { bytes, count, ms, percent } from "../format.js";
import { Age, Copy, Danger, Empty, Fact, Grid, Id, Loading, Teach, Trouble, save } from "../parts.js";
import { Matrix } from "./jobs.js";
import { Network, Networks } from "../network.js";
import { go, link } from "../route.js";
import { devices as listDevices, kinds, useAction, useLive } from "../store.js";

export function Models({ query }) {
  const asked = new URLSearchParams(["device", "supernet", "job", "text"].filter((f) => query[f]).map((f) => [f, query[f]]));
  const { data, error } = useLive((signal) => get(`models?limit=100&${asked}`, signal), kinds("model"), [String(asked)]);
  const columns = [
    { name: "network", cell: (m) => html`<a href=${link(["models", m.id])}>${m.name ?? m.device}</a>` }, { name: "device", cell: (m) => m.device }, { name: "budget", number: true, cell: (m) => ms(m.budget_ms) },
    { name: "predicted", number: true, cell: (m) => ms(m.predicted_ms) }, { name: "measured", number: true, cell: (m) => ms(m.measured_ms) }, { name: "kept", cell: (m) => kept(m) },
    { name: "accuracy", number: true, cell: (m) => percent(m.accuracy) }, { name: "file", number: true, cell: (m) => bytes(m.size_bytes) }, { name: "created", cell: (m) => html`<${Age} at=${m.created_at} />` }];
  return html`<h1>Networks</h1><form class="choose" onSubmit=${(e) => e.preventDefault()}><label>text <input type="search" value=${query.text ?? ""} onChange=${(e) => go(["models"], { ...query, text: e.target.value })} /></label><label>device <input value=${query.device ?? ""} onChange=${(e) => go(["models"], { ...query, device: e.target.value })} /></label></form>
    ${error ? html`<${Trouble} error=${error} />` : null}${!data ? (error ? null : html`<${Loading} what="networks" />`) : data.items.length ? html`<${Grid} caption="delivered networks" columns=${columns} rows=${data.items} keyOf=${(m) => m.id} />` : html`<${Empty}><p>No network was delivered yet. <a class="button" href="#/front">Open the front</a></p><//>`}`;
}

const kept = (m) => (m.measured_ms == null ? html`<span class="state s-waiting">◌ not measured</span>` : m.measured_ms <= m.budget_ms ? html`<span class="state s-succeeded">✓ kept</span>` : html`<span class="state s-failed">✕ broken</span>`);

async function load(id, signal) {
  const [card, picture, devices] = await Promise.all([get(`models/${id}`, signal), get(`models/${id}/network`, signal).catch(() => null), listDevices(signal).catch(() => [])]);
  const [named] = (await get(`models?text=${id}&limit=1`, signal)).items;
  const job = await get(`jobs/${card.job_id}`, signal).catch(() => null);
  return { card, picture, devices: devices.filter((d) => d.table_id && d.name !== card.device), named, job };
}

export function Model({ id }) {
  const { data, error } = useLive((signal) => load(id, signal), (e) => e.subject === id, [id]);
  if (!data) return error ? html`<${Trouble} error=${error} action=${html`<a class="button" href="#/models">All networks</a>`} />` : html`<${Loading} what="the card" />`;
  const { card, picture, devices, named, job } = data;
  const { latency, accuracy, file: f, search } = card;
  const verdict = latency.measured_ms == null ? html`<p class="verdict s-waiting">◌ <b>Not measured.</b> Start the agent of <a href=${link(["enrol"], { name: card.device })}>${card.device}</a> and search again.</p>`
    : latency.measured_ms <= card.budget_ms ? html`<p class="verdict s-succeeded">✓ <b>Kept ${ms(card.budget_ms)}: measured ${ms(latency.measured_ms)}.</b></p>` : html`<p class="verdict s-failed">✕ <b>Broke ${ms(card.budget_ms)}: measured ${ms(latency.measured_ms)}.</b></p>`;
  return html`<h1>${named?.name ?? `Network for ${card.device}`}</h1><p><${Id} of=${card.id} /> ${named ? html`created <${Age} at=${named.created_at} />` : null}${named?.note ? ` · ${named.note}` : ""}</p>${verdict}<${Download} card=${card} />
    <dl class="facts"><${Fact} name="latency">predicted ${ms(latency.predicted_ms)}, at most ${ms(latency.upper_ms)}, measured ${ms(latency.measured_ms)}<//>
      <${Fact} name="accuracy">${percent(accuracy.measured)} on ${accuracy.samples} samples of ${accuracy.dataset} (${accuracy.split}); predicted ${percent(accuracy.predicted)}, validation ${percent(accuracy.validation)}<//>
      <${Fact} name="file">${bytes(f.size_bytes)}, ${count(f.parameters)} parameters, ${count(f.macs)} MACs, opset ${f.opset}<//><${Fact} name="search">${search.strategy}, ${search.optimal ? "proven optimal" : "not proven optimal"}${search.gap == null ? "" : `, gap ${search.gap}`}<//>
      ${(card.constraints ?? []).map((c) => html`<${Fact} name=${c.name.replaceAll("_", " ")}>${c.value} of ${c.limit}${c.basis ? ` (${c.basis})` : ""}<//>`)}
      ${card.tuning ? html`<${Fact} name="fine-tuning">${card.tuning.epochs} epochs: ${percent(card.tuning.validation_before)} to ${percent(card.tuning.validation)}${card.tuning.kept ? "" : ", not kept"}<//>` : null}</dl>
    ${picture ? html`<section><h2>The network</h2><${Elsewhere} id=${id} picture=${picture} devices=${devices} /></section>` : null}
    ${job?.result?.matrix ? html`<section><${Matrix} of=${job.result.matrix} /></section>` : null}
    <section><h2>How to run it</h2><${Snippet} card=${card} /></section>
    <section><h2>Where it comes from</h2><p>Job <${Id} of=${card.job_id} href=${link(["jobs", card.job_id])} /> · supernet <${Id} of=${card.provenance.supernet_id} href=${link(["supernets", card.provenance.supernet_id])} /> · table <${Id} of=${latency.table_id} /></p>
      <details><summary>the whole card</summary><pre tabindex="0">${JSON.stringify(card, null, 2)}</pre></details><${Teach} command=${`bespoke models show ${id}`} path=${`models/${id}`} /></section><${Keep} id=${id} named=${named} />`;
}

function Elsewhere({ id, picture, devices }) {
  const [other, set] = useState(null);
  const choose = async (name) => set(name ? await get(`models/${id}/network?device=${encodeURIComponent(name)}`).catch(() => null) : null);
  return html`${devices.length ? html`<label>beside its cost on <select onChange=${(e) => choose(e.target.value)}><option value="">no other device</option>${devices.map((d) => html`<option>${d.name}</option>`)}</select></label>` : null}
    ${other ? html`<${Networks} pictures=${[picture, other]} />` : html`<${Network} picture=${picture} />`}`;
}

function Download({ card }) {
  const [checked, set] = useState(null);
  const [run, state] = useAction(async () => {
    const { data, sha256 } = await file(`models/${card.id}/onnx`);
    if (sha256 != null && sha256 !== card.file.sha256) throw Object.assign(new Error(), { problem: { title: "The file that came is not the one on the card", detail: "Its SHA-256 differs; nothing was saved. Ask who runs the service to look with `bespoke doctor`." } });
    save(`${card.device}-${card.budget_ms}ms.onnx`, data, "application/onnx");
    set(sha256 ?? "unchecked");
  });
  return html`<p class="download"><button class="main" disabled=${state.busy} onClick=${run}>Download ONNX, ${bytes(card.file.size_bytes)}</button> <code class="sha">${card.file.sha256}</code><${Copy} text=${card.file.sha256} label="copy SHA-256" />
    <span role="status">${checked === "unchecked" ? "saved; this browser cannot check the SHA-256 here" : checked ? "✓ saved, SHA-256 is the card's" : ""}</span></p><${Trouble} error=${state.error} />
    <details><summary>look inside with Netron</summary><p>Download the file and drop it on netron.app, or on the program of that name: nothing is sent anywhere by this page.</p></details>`;
}

function Snippet({ card }) {
  const text = `import numpy, onnxruntime\n\nsession = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])\nfeed = session.get_inputs()[0]  # ${card.accuracy.dataset}, as its data set prepares it: float32, N x C x H x W\nimages = numpy.zeros([d if isinstance(d, int) else 1 for d in feed.shape], numpy.float32)\nlogits = session.run(None, {feed.name: images})[0]\nprint(logits.argmax(axis=1))\n`;
  return html`<div class="line"><pre tabindex="0">${text}</pre><${Copy} text=${text} /></div>`;
}

function Keep({ id, named }) {
  const [name, setName] = useState(named?.name ?? ""), [note, setNote] = useState(named?.note ?? "");
  const [run, state] = useAction(() => patch(`models/${id}`, { name: name || null, note: note || null }));
  const [away, leaving] = useAction(async () => { await remove(`models/${id}`); go(["models"]); });
  return html`<section><details><summary>name, note, deletion</summary><form class="inline" onSubmit=${(e) => { e.preventDefault(); run(); }}><label>name <input maxlength="128" value=${name} onInput=${(e) => setName(e.target.value)} /></label><label>note <input maxlength="1000" value=${note} onInput=${(e) => setNote(e.target.value)} /></label><button disabled=${state.busy}>Save</button></form>
    <${Danger} label="Delete this network" name=${id.slice(0, 12)} busy=${leaving.busy} onYes=${away} /><${Trouble} error=${state.error ?? leaving.error} /></details></section>`;
}
