// The frame around every page: who is logged in, where one can go, the line to the service, keys.
import { html, render, useEffect, useLayoutEffect, useState } from "./html.js";
import { logIn, logOut, onLoggedOut, proof, session as known } from "./api.js";
import { close as closeLine, isLive, listen, open as openLine } from "./live.js";
import { Loading, Select, Trouble } from "./parts.js";
import { go, read, useRoute } from "./store.js";

const PAGES = [["", "Home", "h"], ["front", "Front", "f"], ["jobs", "Jobs", "j"], ["devices", "Devices", "d"], ["supernets", "Supernets", "s"], ["models", "Networks", "m"], ["compare", "Compare", "c"], ["keys", "Keys", "k"], ["settings", "Settings", "e"]];
const PATHS = new Set([...PAGES.map(([page]) => page), "enrol"]);
const digest = new URL(import.meta.url).pathname.split("/").at(-2);

// Each page is loaded when it is first shown, all others soon after: they open at once, also while the service is away.
const VIEWS = {
	"": [() => import("./pages/home.js"), (m) => html`<${m.Home} />`],
	front: [() => import("./pages/front.js"), (m, id, query) => html`<${m.Front} query=${query} />`],
	jobs: [() => import("./pages/jobs.js"), (m, id, query) => (id ? html`<${m.Job} key=${id} id=${id} />` : html`<${m.Jobs} query=${query} />`)],
	devices: [() => import("./pages/devices.js"), (m, id) => (id ? html`<${m.Device} key=${id} name=${id} />` : html`<${m.Devices} />`)],
	supernets: [() => import("./pages/supernets.js"), (m, id, query) => (id ? html`<${m.Supernet} key=${id} id=${id} />` : html`<${m.Supernets} query=${query} />`)],
	models: [() => import("./pages/models.js"), (m, id, query) => (id ? html`<${m.Model} key=${id} id=${id} />` : html`<${m.Models} query=${query} />`)],
	enrol: [() => import("./pages/enrol.js"), (m, id, query) => html`<${m.Enrol} key=${query.name} query=${query} />`],
	compare: [() => import("./pages/compare.js"), (m, id, query) => html`<${m.Compare} query=${query} />`],
	keys: [() => import("./pages/keys.js"), (m, id, query, session) => html`<${m.Keys} session=${session} />`],
	settings: [() => import("./pages/keys.js"), (m, id, query, session) => html`<${m.Settings} session=${session} />`],
	login: [() => import("./pages/dialogs.js"), (m, reason, done) => html`<${m.Login} reason=${reason} done=${done} />`],
	help: [() => import("./pages/dialogs.js"), (m, close) => html`<${m.Help} close=${close} />`],
	search: [() => import("./pages/dialogs.js"), (m, close) => html`<${m.Search} close=${close} />`],
};
const loaded = new Map();

async function load(name) {
	if (VIEWS[name] && !loaded.has(name)) loaded.set(name, await VIEWS[name][0]());
}

/** A part that is loaded on demand, with what it is given. */
function View({ name, of = [] }) {
	const [error, fail] = useState(null), [, again] = useState(0);
	const ready = loaded.get(name);
	useLayoutEffect(() => { if (!ready) load(name).then(() => again((n) => n + 1), fail); }, [name]);
	if (ready) return VIEWS[name][1](ready, ...of);
	return error ? html`<${Trouble} error=${{ problem: { title: "This page could not be loaded", detail: "The service does not answer, or another version runs now." } }} action=${html`<button onClick=${() => location.reload()}>Reload</button>`} />` : html`<${Loading} />`;
}

function Page({ route, session }) {
	const [name = "", id] = route.path;
	if (!PATHS.has(name)) return html`<h1>No such page</h1><p><a class="button" href="#/">Home</a></p>`;
	return html`<${View} key=${name} name=${name} of=${[id, route.query, session]} />`;
}

function useKeys(show) {
	// Not useEffect, which comes after the first picture: a key pressed as soon as there is one counts.
	useLayoutEffect(() => {
		let waiting = null;
		const pressed = (event) => {
			if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
			if (waiting) {
				clearTimeout(waiting);
				waiting = null;
				const page = PAGES.find(([, , key]) => key === event.key);
				if (page) go(page[0] ? [page[0]] : []);
			} else if (event.key === "g") waiting = setTimeout(() => { waiting = null; }, 1500);
			else if (event.key === "?") show("help");
			else if (event.key === "/") { event.preventDefault(); show("search"); }
			else if (event.key === "n") nextProblem();
		};
		addEventListener("keydown", pressed);
		return () => removeEventListener("keydown", pressed);
	}, []);
}

function nextProblem() {
	const all = [...document.querySelectorAll(".trouble, .s-failed, .s-quarantined, .s-needs_review")];
	const next = all[(all.indexOf(document.activeElement) + 1) % all.length];
	if (next) { next.tabIndex = -1; next.focus(); next.scrollIntoView({ block: "center" }); }
}

function Line() {
	const [state, set] = useState({ live: isLive(), changed: false });
	useEffect(() => {
		const stop = listen((e) => { if (e.kind === "line") set((s) => ({ ...s, live: e.live })); });
		const timer = setInterval(async () => {
			const answer = await fetch("./", { cache: "no-store" }).then((a) => a.text(), () => "");
			if (answer && !answer.includes(digest)) set((s) => ({ ...s, changed: true }));
		}, 300_000);
		return () => { stop(); clearInterval(timer); };
	}, []);
	return html`<span class="line-state" role="status">${state.changed ? html`<button onClick=${() => location.reload()}>another version is here: reload</button>` : state.live ? html`<span class="muted">● live</span>` : html`<span class="muted">○ not live, trying again</span>`}</span>`;
}

function Theme() {
	const [theme, set] = useState(localStorage.getItem("bespoke-theme") ?? "system");
	useEffect(() => {
		if (theme === "system") delete document.documentElement.dataset.theme;
		else document.documentElement.dataset.theme = theme;
		localStorage.setItem("bespoke-theme", theme);
	}, [theme]);
	return html`<${Select} label="theme" value=${theme} of=${["system", "light", "dark"]} set=${set} />`;
}

function App({ first, reason }) {
	const route = useRoute();
	const [session, setSession] = useState(first), [over, setOver] = useState(!first), [shown, show] = useState("");
	useKeys(show);
	// A dialog says late that it closed: another may be open by then, which must stay.
	const closed = (which) => () => show((now) => (now === which ? "" : now));
	useLayoutEffect(() => {
		onLoggedOut(() => { closeLine(); setOver(true); });
		// After what the page itself asks: a browser has six connections.
		if (first) setTimeout(() => { openLine(); known.ask().then(setSession, () => {}); }, 300);
	}, []);
	useEffect(() => {
		document.title = `${route.path.join(" ") || "home"} · bespoke`;
		document.querySelector("main")?.focus({ preventScroll: true });
		scrollTo(0, 0);
	}, [route.path.join("/")]);
	const logged = (found) => { setSession(found); setOver(false); openLine(); };
	const leave = async () => { closeLine(); await logOut().catch(() => {}); setSession(null); setOver(true); };
	const may = (page) => page !== "keys" || session.scopes.includes("keys:write");
	return html`<a class="skip" href="#main" onClick=${(e) => { e.preventDefault(); document.querySelector("main").focus(); }}>to the page</a>
		${session ? html`<header><nav aria-label="pages">${PAGES.filter(([page]) => may(page)).map(([page, name]) => html`<a href=${`#/${page}`} aria-current=${(route.path[0] ?? "") === page ? "page" : null}>${name}</a>`)}</nav>
			<div class="who"><${Line} /><${Theme} /><span title=${session.scopes.join(", ")}>${session.tenant} · ${session.key_name}</span><button onClick=${() => show("search")}>search</button><button aria-label="keys of the keyboard" onClick=${() => show("help")}>?</button><button onClick=${leave}>log out</button></div></header>
			<main id="main" tabindex="-1" data-page=${route.at} class=${session.scopes.includes("jobs:write") ? "" : "reader"}><${Page} key=${session.tenant} route=${route} session=${session} /></main>` : html`<main id="main" tabindex="-1"></main>`}
		${over ? html`<${View} key="login" name="login" of=${[session ? null : reason, logged]} />` : shown ? html`<${View} key=${shown} name=${shown} of=${[closed(shown)]} />` : null}`;
}

async function begin() {
	const token = /^#login=([\w-]+)$/.exec(location.hash)?.[1];
	if (token) history.replaceState(null, "", "#/");
	let session = token ? null : known.get(), reason = null;
	try {
		session ??= token ? await logIn({ token }) : proof() ? await known.ask() : null;
	} catch (error) {
		reason = error;
	}
	const place = document.getElementById("app");
	place.textContent = "";
	render(html`<${App} first=${session} reason=${reason} />`, place);
	setTimeout(async () => { for (const name in VIEWS) await load(name).catch(() => {}); }, 2000);
}

load(read().path[0] ?? "").catch(() => {}); // beside everything else
begin();
