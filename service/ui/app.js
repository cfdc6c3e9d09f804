// The frame around every page: who is logged in, where one can go, the line to the service, keys.
import { html, render, useEffect, useState } from "./html.js";
import { get, logIn, logOut, onLoggedOut, proof } from "./api.js";
import { close as closeLine, isLive, listen, open as openLine } from "./live.js";
import { Select } from "./parts.js";
import { go, useRoute } from "./store.js";
import { Home } from "./pages/home.js";
import { Front } from "./pages/front.js";
import { Job, Jobs } from "./pages/jobs.js";
import { Device, Devices } from "./pages/devices.js";
import { Enrol } from "./pages/enrol.js";
import { Supernet, Supernets } from "./pages/supernets.js";
import { Model, Models } from "./pages/models.js";
import { Keys, Settings } from "./pages/keys.js";
import { Compare } from "./pages/compare.js";
import { Help, Login, Search } from "./pages/dialogs.js";

const PAGES = [["", "Home", "h"], ["front", "Front", "f"], ["jobs", "Jobs", "j"], ["devices", "Devices", "d"], ["supernets", "Supernets", "s"], ["models", "Networks", "m"], ["compare", "Compare", "c"], ["keys", "Keys", "k"], ["settings", "Settings", "e"]];
const digest = new URL(import.meta.url).pathname.split("/").at(-2);

function Page({ route, session }) {
	const [name = "", id] = route.path;
	const query = route.query;
	if (name === "") return html`<${Home} />`;
	if (name === "front") return html`<${Front} query=${query} />`;
	if (name === "jobs") return id ? html`<${Job} key=${id} id=${id} />` : html`<${Jobs} query=${query} />`;
	if (name === "devices") return id ? html`<${Device} key=${id} name=${id} />` : html`<${Devices} />`;
	if (name === "enrol") return html`<${Enrol} key=${query.name} query=${query} />`;
	if (name === "supernets") return id ? html`<${Supernet} key=${id} id=${id} />` : html`<${Supernets} query=${query} />`;
	if (name === "models") return id ? html`<${Model} key=${id} id=${id} />` : html`<${Models} query=${query} />`;
	if (name === "compare") return html`<${Compare} query=${query} />`;
	if (name === "settings") return html`<${Settings} session=${session} />`;
	if (name === "keys") return html`<${Keys} session=${session} />`;
	return html`<h1>No such page</h1><p><a class="button" href="#/">Home</a></p>`;
}

function useKeys(show) {
	useEffect(() => {
		let waiting = false;
		const pressed = (event) => {
			if (event.ctrlKey || event.metaKey || event.altKey || /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
			if (waiting) {
				waiting = false;
				const page = PAGES.find(([, , key]) => key === event.key);
				if (page) go(page[0] ? [page[0]] : []);
			} else if (event.key === "g") { waiting = true; setTimeout(() => { waiting = false; }, 1500); }
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
	// A dialog says that it closed a moment after it did: by then another may be open, which must stay.
	const closed = (which) => () => show((now) => (now === which ? "" : now));
	useEffect(() => { onLoggedOut(() => { closeLine(); setOver(true); }); if (first) openLine(); }, []);
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
			<main id="main" tabindex="-1" class=${session.scopes.includes("jobs:write") ? "" : "reader"}><${Page} route=${route} session=${session} /></main>` : html`<main id="main" tabindex="-1"></main>`}
		${over ? html`<${Login} reason=${session ? null : reason} done=${logged} />` : null}${shown === "help" ? html`<${Help} close=${closed("help")} />` : null}${shown === "search" ? html`<${Search} close=${closed("search")} />` : null}`;
}

async function begin() {
	const token = /^#login=([\w-]+)$/.exec(location.hash)?.[1];
	let session = null, reason = null;
	if (token) history.replaceState(null, "", "#/");
	try {
		session = token ? await logIn({ token }) : proof.get() ? await get("sessions/current") : null;
	} catch (error) {
		reason = error;
	}
	const place = document.getElementById("app");
	place.textContent = "";
	render(html`<${App} first=${session} reason=${reason} />`, place);
}

begin();
