// The small parts that pages are made of.
import { html, useEffect, useRef, useState } from "./html.js";
import { age, short, stateWords } from "./format.js";
import { patch } from "./api.js";
import { useAction, useNow } from "./store.js";

/** A state as word, shape and colour. */
export function State({ of }) {
	const [word, shape] = stateWords(of);
	return html`<span class=${`state s-${of}`}><span aria-hidden="true">${shape}</span> ${word}</span>`;
}

/** How long ago; the exact time on hover. */
export function Age({ at }) {
	const now = useNow();
	if (!at) return html`<span class="muted">–</span>`;
	return html`<time datetime=${at} title=${`${new Date(at).toLocaleString()} · ${at}`}>${age(at, now)}</time>`;
}

export function Copy({ text, label = "copy" }) {
	const [done, set] = useState(false);
	const copy = async () => {
		try { await navigator.clipboard.writeText(text); } catch {
			const area = document.createElement("textarea");
			area.value = text;
			document.body.append(area);
			area.select();
			document.execCommand("copy");
			area.remove();
		}
		set(true);
		setTimeout(() => set(false), 1500);
	};
	return html`<button type="button" class="copy" aria-label=${`${label} ${short(text)}`} title=${label} onClick=${copy}>${done ? "✓" : "copy"}</button>`;
}

/** An id, shortened, with its copy button; a link where `href` is given. */
export function Id({ of, href }) {
	const text = html`<code title=${of}>${short(of)}</code>`;
	return html`<span class="id">${href ? html`<a href=${href}>${text}</a>` : text}<${Copy} text=${of} label="copy id" /></span>`;
}

export function Bar({ fraction, label }) {
	const share = Math.round(100 * (fraction ?? 0));
	return html`<span class="bar" role="progressbar" aria-label=${label} aria-valuenow=${share} aria-valuemin="0" aria-valuemax="100">
		<span style=${{ width: `${share}%` }}></span></span>`;
}

/** What went wrong, what it was about, and what to do next. `action` is a button or link. */
export function Trouble({ error, action }) {
	if (!error) return null;
	const problem = error.problem ?? { title: error.message };
	const known = (problem.errors ?? []).filter((e) => e.detail && e.detail !== problem.detail).slice(0, 5);
	return html`<div class="trouble" role="alert"><strong>${problem.title ?? "Something went wrong"}</strong>
		${problem.detail && problem.detail !== problem.title ? html`<p>${problem.detail}</p>` : null}
		${known.length ? html`<ul>${known.map((e) => html`<li><code>${e.pointer}</code> ${e.detail}</li>`)}</ul>` : null}
		${action ?? null}</div>`;
}

/** Nothing there yet, and the way to something. */
export const Empty = ({ children }) => html`<div class="empty">${children}</div>`;

/** Nothing for 300 ms, then a word: no flicker where the answer comes at once. */
export function Loading({ what = "" }) {
	const [shown, set] = useState(false);
	useEffect(() => {
		const timer = setTimeout(() => set(true), 300);
		return () => clearTimeout(timer);
	}, []);
	return html`<p class="muted loading" role="status">${shown ? `loading ${what}…` : "\u00a0"}</p>`;
}

/** One of several: values, or pairs of value and word. none: what "" is called. */
export const Select = ({ label, value, of, set, none }) => html`<label>${label} <select value=${value} onChange=${(e) => set(e.target.value)}>${none ? html`<option value="">${none}</option>` : null}${of.map((o) => html`<option value=${Array.isArray(o) ? o[0] : o}>${Array.isArray(o) ? o[1] : o}</option>`)}</select></label>`;

/** A form that stays on its page. @param {() => void} [run] */
export const sent = (run) => (event) => { event.preventDefault(); run?.(); };

/** Until there is something to show: why there is not, and the way back. */
export const Waiting = ({ error, what, back, all }) => (error ? html`<${Trouble} error=${error} action=${back ? html`<a class="button" href=${back}>${all}</a>` : null} />` : html`<${Loading} what=${what} />`);

/** Columns of a `Grid`: of words, of numbers. */
export const col = (name, cell) => ({ name, cell });
export const num = (name, cell) => ({ name, cell, number: true });

/** A table that becomes cards where it is narrow; its children where it has no row. columns: made by `col` and `num` */
export function Grid({ caption, columns, rows, keyOf = (row) => row.id, children }) {
	if (!rows.length && children) return children;
	return html`<div class="wide"><table><caption>${caption}</caption>
		<thead><tr>${columns.map((c) => html`<th scope="col" class=${c.number ? "num" : ""}>${c.name}</th>`)}</tr></thead>
		<tbody>${rows.map((row) => html`<tr key=${keyOf(row)}>${columns.map(
			(c) => html`<td data-name=${c.name} class=${c.number ? "num" : ""}>${c.cell(row)}</td>`)}</tr>`)}</tbody></table></div>`;
}

/** Which part of the service answers, in words. checks: of `readyz` */
export function Ready({ checks }) {
	const told = Object.entries(checks).map(([part, state]) => `${part}: ${state}`);
	return told.length ? told.join(", ") : "the whole service does not answer";
}

/** The same action on the command line and with curl. */
export function Teach(given) {
	const [open, set] = useState(false);
	return html`<details class="teach" onToggle=${(e) => set(e.target.open)}><summary>the same on the command line</summary>${open ? html`<${Taught} ...${given} />` : null}</details>`;
}

function Taught({ command, method = "GET", path, body }) {
	const base = new URL("../v1/", document.baseURI).href;
	const sent = body === undefined ? "" : ` \\\n  -H 'Content-Type: application/json' -d '${JSON.stringify(body).replaceAll("'", "'\\''")}'`;
	const curl = `curl -X ${method} -H "Authorization: Bearer $KEY" ${base}${path}${sent}`;
	return [command, path ? curl : null].filter(Boolean).map((text) => html`<div class="line"><pre tabindex="0">${text}</pre><${Copy} text=${text} /></div>`);
}

/** A button for what destroys: it asks for the name first. */
export function Danger({ label, name, busy, onYes }) {
	const [asked, ask] = useState(false);
	const [typed, type] = useState("");
	const field = useRef(null);
	useEffect(() => { if (asked) field.current?.focus(); }, [asked]);
	if (!asked) return html`<button type="button" class="danger" onClick=${() => ask(true)}>${label}</button>`;
	const sure = (event) => { event.preventDefault(); if (typed === name) { ask(false); type(""); onYes(); } };
	return html`<form class="inline" onSubmit=${sure}><label>Type <code>${name}</code> to ${label.toLowerCase()}
		<input ref=${field} value=${typed} onInput=${(e) => type(e.target.value)} autocomplete="off" /></label>
		<button class="danger" disabled=${busy || typed !== name}>${label}</button>
		<button type="button" onClick=${() => ask(false)}>Keep it</button></form>`;
}

/** Hand over a file made in the browser. */
export function save(name, data, type) {
	const link = document.createElement("a");
	link.href = URL.createObjectURL(new Blob([data], { type }));
	link.download = name;
	link.click();
	setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export const Fact = ({ name, children }) => html`<div class="fact"><dt>${name}</dt><dd>${children}</dd></div>`;

/** Name and note of a job or a model; null takes one away. */
export function Naming({ of, path }) {
	const [form, set] = useState({ name: of?.name ?? "", note: of?.note ?? "" });
	const [run, state] = useAction(() => patch(path, { name: form.name || null, note: form.note || null }));
	const field = (key, most) => html`<label>${key} <input maxlength=${most} value=${form[key]} onInput=${(e) => set({ ...form, [key]: e.target.value })} /></label>`;
	return html`<form class="inline" onSubmit=${sent(run)}>${field("name", 128)}${field("note", 1000)}<button disabled=${state.busy}>Save</button></form><${Trouble} error=${state.error} />`;
}
