// What opens on top of a page: the list of keys, the search over everything, logging in (forms below keep what was typed).
import { html, useEffect, useRef, useState } from "../html.js";
import { enc, get, logIn } from "../api.js";
import { sent, Trouble } from "../parts.js";
import { link, useAction } from "../store.js";

const KEYS = [["?", "this list"], ["/", "search everything"], ["g h", "home"], ["g f", "front"], ["g j", "jobs"], ["g d", "devices"], ["g s", "supernets"], ["g m", "networks"], ["g c", "compare"], ["g k", "keys"], ["g e", "settings"], ["n", "next problem on the page"], ["← →", "move the budget, on its line; Page, Home and End too"], ["Esc", "close"]];

function useDialog(close) {
	const place = useRef(null);
	useEffect(() => { place.current.showModal(); place.current.addEventListener("close", close); }, []);
	return place;
}

export function Help({ close }) {
	const place = useDialog(close);
	return html`<dialog ref=${place} aria-label="keys"><h2>Keys</h2><dl class="facts">${KEYS.map(([key, what]) => html`<div class="fact"><dt><kbd>${key}</kbd></dt><dd>${what}</dd></div>`)}</dl><button onClick=${() => place.current.close()}>Close</button></dialog>`;
}

export function Search({ close }) {
	const place = useDialog(close);
	const [text, setText] = useState(""), [found, setFound] = useState(null);
	useEffect(() => {
		setFound(null);
		if (text.length < 2) return undefined;
		const control = new AbortController();
		const timer = setTimeout(async () => {
			const quiet = (promise) => promise.then((page) => page.items, () => []);
			const asked = enc(text);
			const [jobs, models, devices, supernets] = await Promise.all([quiet(get(`jobs?limit=5&text=${asked}`, control.signal)), quiet(get(`models?limit=5&text=${asked}`, control.signal)), quiet(get("devices?limit=200", control.signal)), quiet(get("supernets?limit=200", control.signal))]);
			const has = (...texts) => texts.some((t) => t?.toLowerCase().includes(text.toLowerCase()));
			if (!control.signal.aborted) setFound([...devices.filter((d) => has(d.name, d.description)).map((d) => ["device", d.name, link(["devices", d.name])]), ...supernets.filter((s) => has(s.id, s.space, s.dataset)).map((s) => ["supernet", `${s.space} on ${s.dataset}`, link(["supernets", s.id])]),
				...models.map((m) => ["network", m.name ?? m.id, link(["models", m.id])]), ...jobs.map((j) => ["job", j.name ?? `${j.kind} ${j.id}`, link(["jobs", j.id])])].slice(0, 20));
		}, 200);
		return () => { clearTimeout(timer); control.abort(); };
	}, [text]);
	return html`<dialog ref=${place} aria-label="search"><label>search by name or id <input type="search" autofocus value=${text} onInput=${(e) => setText(e.target.value)} /></label>
		<ul class="plain" role="status">${found?.map(([kind, name, href]) => html`<li><a href=${href} onClick=${() => place.current.close()}>${name}</a> <span class="muted">${kind}</span></li>`)}${found?.length === 0 ? html`<li class="muted">nothing found</li>` : null}</ul></dialog>`;
}

/** With a link of `bespoke open`, or with a key. */
export function Login({ reason, done }) {
	const [key, set] = useState("");
	const [run, state] = useAction(async () => { const session = await logIn({ key }); set(""); done(session); });
	return html`<dialog open class="login" aria-labelledby="login"><form onSubmit=${sent(run)}><h1 id="login">bespoke</h1>
		${reason ? html`<${Trouble} error=${reason} />` : null}<p>On the service's own machine: <code>bespoke open</code> opens this page logged in. Elsewhere, show a key; the browser does not keep it.</p>
		<label>key <input type="password" autocomplete="off" required value=${key} onInput=${(e) => set(e.target.value)} autofocus /></label><button class="main" disabled=${state.busy}>Log in</button><${Trouble} error=${state.error} /></form></dialog>`;
}
