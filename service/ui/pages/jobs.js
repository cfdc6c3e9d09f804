// Jobs, page by page; one job in full.
import { html, useEffect, useRef, useState } from "../html.js";
import { all, get, post } from "../api.js";
import { duration, ms, words } from "../format.js";
import { commandOf, leftOut, profileCommand, queryOf, trainCommand } from "../orders.js";
import { Age, Bar, col, Empty, Grid, Id, Loading, Naming, num, save, Select, sent, State, Teach, Trouble, Waiting } from "../parts.js";
import { go, kinds, link, ofJob, useAction, useLive } from "../store.js";

const STATES = ["queued", "running", "succeeded", "failed", "cancelled", "quarantined"];
const KINDS = ["search", "compress", "supernet", "profile", "check"];
const FILTERS = ["state", "kind", "device", "supernet", "text"];

export function Jobs({ query }) {
	const asked = new URLSearchParams(FILTERS.filter((f) => query[f]).map((f) => [f, query[f]]));
	const [pages, setPages] = useState([null]);
	const after = pages.at(-1);
	const { data, error } = useLive((signal) => get(`jobs?limit=25&${asked}${after ? `&after=${after}` : ""}`, signal), kinds("job", "progress"), [String(asked), after]);
	const choose = (name, value) => { setPages([null]); go(["jobs"], { ...query, [name]: value }); };
	const select = (name, values) => html`<${Select} label=${name} value=${query[name] ?? ""} none="any" of=${values} set=${(v) => choose(name, v)} />`;
	const columns = [
		col("state", (j) => html`<${State} of=${j.state} />`), col("job", (j) => html`<a href=${link(["jobs", j.id])}>${j.name ?? j.kind}</a>`),
		col("id", (j) => html`<${Id} of=${j.id} />`), col("step", (j) => words(j.progress.step)),
		num("done", (j) => (j.state === "running" ? html`<${Bar} fraction=${j.progress.fraction} label="done" />` : "")),
		num("left", (j) => (j.state === "running" ? duration(j.progress.eta_s) : "")), col("created", (j) => html`<${Age} at=${j.created_at} />`)];
	return html`<h1>Jobs</h1><form class="choose" onSubmit=${sent()}>${select("state", STATES)}${select("kind", KINDS)}
		<label>device <input value=${query.device ?? ""} onChange=${(e) => choose("device", e.target.value)} /></label><label>text <input type="search" value=${query.text ?? ""} onChange=${(e) => choose("text", e.target.value)} /></label></form>
		${error ? html`<${Trouble} error=${error} />` : null}${!data ? (error ? null : html`<${Loading} what="jobs" />`) : html`<${Grid} caption="jobs" columns=${columns} rows=${data.items}><${Empty}><p>${String(asked) ? "No such jobs." : "No job was ordered yet."} <a class="button" href="#/front">Open the front</a> and search a budget.</p><//><//>`}
		<p class="pages">${pages.length > 1 ? html`<button onClick=${() => setPages(pages.slice(0, -1))}>newer</button>` : null}${data?.next ? html`<button onClick=${() => setPages([...pages, data.next])}>older</button>` : null}</p>`;
}

async function load(id, signal) {
	const [job, events, request, status] = await Promise.all([get(`jobs/${id}`, signal), all(`jobs/${id}/events`, 5000, signal), get(`jobs/${id}/request`, signal), get("status", signal)]);
	return { job, events, request, status };
}

export function Job({ id }) {
	const { data, error } = useLive((signal) => load(id, signal), ofJob(id), [id]);
	if (!data) return html`<${Waiting} error=${error} what="the job" back="#/jobs" all="All jobs" />`;
	const { job, events, request, status } = data;
	const active = job.state === "queued" || job.state === "running";
	return html`<h1>${job.name ?? `${job.kind} job`} <${State} of=${job.state} /></h1><p><${Id} of=${job.id} /> created <${Age} at=${job.created_at} />${job.attempts > 1 ? `, attempt ${job.attempts}` : ""}${job.cancel_asked ? ", asked to stop" : ""}</p>
		<div aria-live="polite">${job.state === "running" ? html`<p class="job"><${Bar} fraction=${job.progress.fraction} label="done" /> ${words(job.progress.step)} <span class="muted">${job.progress.message}</span> ${job.progress.eta_s == null ? "" : `${duration(job.progress.eta_s)} left`}</p>` : null}
		${job.state === "queued" ? html`<p>${status.workers === 0 ? html`Waits for a worker, and none is alive: start one with <code>bespoke serve</code> or <code>python -m worker</code>.` : `Waits for a free worker; ${status.jobs.queued} jobs wait in all.`}</p>` : null}</div>
		<${Steps} events=${events} />${job.error ? html`<${Broken} job=${job} />` : null}<${Result} job=${job} />
		${active ? html`<${Cancel} id=${id} />` : null}<${Name} job=${job} />
		<section><h2>Log</h2><${Log} id=${id} state=${job.state} /></section><section><h2>What happened</h2><${Events} id=${id} events=${events} /></section>
		<section><h2>What was asked for</h2><pre tabindex="0">${JSON.stringify(request.request, null, 2)}</pre><${Again} job=${job} request=${request.request} /></section>`;
}

/** Steps as a line: done (seconds), reused, running. */
function Steps({ events }) {
	const steps = new Map();
	for (const { kind, data } of events) {
		if (kind === "step_started") steps.set(data.step, { state: "running" });
		if (kind === "step_done") steps.set(data.step, { state: "succeeded", seconds: data.elapsed_s });
		if (kind === "step_reused" && !steps.has(data.step)) steps.set(data.step, { state: "succeeded", reused: true });
	}
	if (!steps.size) return null;
	return html`<ol class="steps" aria-label="steps">${[...steps].map(([name, s]) => html`<li class=${s.state}><${State} of=${s.state} /> ${words(name)} <span class="muted">${s.reused ? "reused" : s.seconds != null ? duration(s.seconds) : ""}</span></li>`)}</ol>`;
}

function Broken({ job }) {
	const code = job.error.code ?? (job.error.type ?? "").split(":").at(-1).replaceAll("-", "_");
	const next = { infeasible_budget: ["#/front", "Choose another budget"], no_table: ["#/enrol", "Measure the device"], needs_review: ["#/devices", "Look at the table"], too_few_networks: ["#/devices", "Measure more networks"] }[code];
	const quarantined = job.state === "quarantined";
	return html`<${Trouble} error=${{ problem: job.error }} action=${quarantined ? html`<p>It crashed three times. Who runs the service looks at it with <code>bespoke quarantine list</code> and frees it with <code>bespoke quarantine requeue ${job.id}</code>.</p>` : next ? html`<a class="button" href=${next[0]}>${next[1]}</a>` : null} />`;
}

function Result({ job }) {
	const result = job.result;
	if (!result) return null;
	const columns = [col("network for", (m) => html`<a href=${link(["models", m.id])}>${m.device}</a>`), num("budget", (m) => ms(m.budget_ms)), col("id", (m) => html`<${Id} of=${m.id} />`)];
	return html`<section><h2>Result</h2>${result.models?.length ? html`<${Grid} caption="delivered networks" columns=${columns} rows=${result.models} />` : null}
		${(result.failures ?? []).map((f) => html`<${Trouble} error=${{ problem: f.error }} />`)}${result.supernet_id ? html`<p><a class="button" href=${link(["supernets", result.supernet_id])}>The supernet</a> <a class="button" href=${link(["front"], { supernet: result.supernet_id })}>Its front</a></p>` : null}
		${(result.cannot_run ?? []).map((c) => html`<p>cannot run <code>${c.operator ?? "a network"}</code>: ${c.reason}</p>`)}
		${result.table_id ? html`<p>Table <${Id} of=${result.table_id} /></p>` : null}${result.matrix ? html`<${Matrix} of=${result.matrix} />` : null}</section>`;
}

/** What each network would cost on every device. */
export function Matrix({ of }) {
	const names = of.devices ?? [];
	if (!names.length || !of.networks?.length) return null;
	const columns = [col("network for", (n) => `${n.device}, ${ms(n.budget_ms)}`), ...names.map((name) => ({ name, number: true, cell: (n) => ms(n.latency_ms?.[name] ?? n.latencies_ms?.[name]) }))];
	return html`<h3>On every device of the job</h3><${Grid} caption="latency of each network on each device" columns=${columns} rows=${of.networks} keyOf=${(n) => n.id ?? `${n.device}${n.budget_ms}`} />`;
}

/** The same once more, to be changed first, and as a command. A training's stand with its supernet. */
function Again({ job, request }) {
	return job.kind === "supernet" ? html`<${TrainAgain} id=${request.supernet_id} />` : html`<${OrderAgain} job=${job} request=${request} />`;
}

function TrainAgain({ id }) {
	const { data, error } = useLive((signal) => get(`supernets/${id}`, signal), () => false, [id]);
	if (!data) return html`<${Waiting} error=${error} what="the supernet" />`;
	const { space, dataset, recipe, seed } = data;
	return html`<p><a class="button" href=${link(["supernets"], { train: 1, space, dataset, recipe, seed })}>Run it again with changes</a></p><${Teach} command=${trainCommand(data)} path=${`supernets/${id}`} />`;
}

function OrderAgain({ job, request }) {
	const targets = (request.targets ?? []).filter((t) => t.device);
	const known = {
		search: [commandOf(request), link(["front"], { supernet: request.supernet_id, devices: targets.map((t) => t.device).join(","), budget: targets[0]?.budget?.latency_ms, ...queryOf(request) })],
		profile: [profileCommand(request), link(["devices", request.device ?? ""])],
		check: [`bespoke devices check ${request.device}`, link(["devices", request.device ?? ""])],
	}[job.kind];
	const lost = job.kind === "search" ? leftOut(request) : [];
	return html`${known ? html`<p><a class="button" href=${known[1]}>Run it again with changes</a></p>` : null}${lost.length ? html`<p class="muted">Neither the form nor the command has its ${lost.map((n) => n.replaceAll("_", " ")).join(", ")}: say that again.</p>` : null}<${Teach} command=${known?.[0] ?? `bespoke jobs show ${job.id}`} path=${`jobs/${job.id}/request`} />`;
}

const logLine = (l) => `${l.at} ${l.step} ${l.source}: ${l.text}`;

/** What the worker and its child said; goes on while the job runs, from the line where it was. */
function Log({ id, state }) {
	const [lines, set] = useState([]), [text, setText] = useState(""), [following, follow] = useState(true), [error, fail] = useState(null);
	const place = useRef(null);
	useEffect(() => {
		const control = new AbortController();
		let timer = null, last = 0;
		const more = async () => {
			try {
				const found = await all(`jobs/${id}/log${last ? `?after=${last}` : ""}`, 2000, control.signal);
				if (found.length) { last = found.at(-1).position; set((before) => [...before, ...found].slice(-2000)); }
				fail(null);
			} catch (reason) { if (reason.name === "AbortError") return; fail(reason); }
			if (state === "running") timer = setTimeout(more, 2000);
		};
		set([]);
		more();
		return () => { control.abort(); clearTimeout(timer); };
	}, [id, state]);
	useEffect(() => { if (following && place.current) place.current.scrollTop = place.current.scrollHeight; }, [lines, following]);
	const shown = lines.filter((l) => !text || logLine(l).toLowerCase().includes(text.toLowerCase())).slice(-500);
	return html`<div class="bar-of-tools"><label>search <input type="search" value=${text} onInput=${(e) => setText(e.target.value)} /></label><label class="tick"><input type="checkbox" checked=${following} onChange=${(e) => follow(e.target.checked)} /> follow</label>
		<button disabled=${!lines.length} onClick=${() => save(`${id}.log`, lines.map(logLine).join("\n") + "\n", "text/plain")}>Download</button></div><${Trouble} error=${error} />
		${lines.length ? html`<ol class="events log" tabindex="0" aria-label="log" ref=${place}>${shown.map((l) => html`<li key=${l.position}><span class="muted" title=${l.at}>${words(l.step)} · ${l.source}</span> ${l.text}</li>`)}</ol>` : html`<p class="muted">Nothing was said yet.</p>`}`;
}

function Cancel({ id }) {
	const [run, state] = useAction(() => post(`jobs/${id}/cancel`));
	return html`<p><button class="danger" disabled=${state.busy} onClick=${run}>Cancel this job</button></p><${Trouble} error=${state.error} />`;
}

function Name({ job }) {
	return html`<details><summary>name and note</summary><${Naming} of=${job} path=${`jobs/${job.id}`} />${job.note ? html`<p>${job.note}</p>` : null}</details>`;
}

const told = (e) => (e.data.error ? e.data.error.detail ?? e.data.error.title : Object.entries(e.data).filter(([, v]) => v != null && typeof v !== "object").map(([k, v]) => `${k} ${v}`).join(", "));

function Events({ id, events }) {
	const [text, setText] = useState("");
	const shown = events.filter((e) => !text || `${e.kind} ${told(e)}`.toLowerCase().includes(text.toLowerCase())).slice(-300);
	return html`<div class="bar-of-tools"><label>search <input type="search" value=${text} onInput=${(e) => setText(e.target.value)} /></label>
		<button onClick=${() => save(`${id}.json`, JSON.stringify(events, null, 1), "application/json")}>Download</button></div>
		<ol class="events" tabindex="0" aria-label="events">${shown.map((e) => html`<li key=${e.sequence}><span class="muted">${e.sequence}</span> <${Age} at=${e.at} /> <b>${words(e.kind)}</b> ${told(e)}</li>`)}</ol>`;
}
