// What all pages know: where we are, the clock, what is live, the lists everybody needs. The address is `#/jobs/ID?state=running`:
// everything that a page shows stands in it, so that a copied link shows the same.
import { useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { all, get, enc } from "./api.js";
import { listen } from "./live.js";

/** Run something now and whenever one of the events happens; at most four times a second. */
export function useLive(load, kinds = () => false, depends = []) {
	const [found, set] = useState({ data: null, error: null, stale: false, at: null });
	// Not useEffect, which waits for a picture: here it is the answer that is waited for.
	useLayoutEffect(() => {
		const control = new AbortController();
		let timer = null, due = 0, running = false, again = false;
		const run = async () => {
			if (running) { again = true; return; }
			running = true;
			try {
				const data = await load(control.signal);
				if (!control.signal.aborted) set({ data, error: null, stale: false, at: new Date().toISOString() });
			} catch (error) {
				if (error.name !== "AbortError" && !control.signal.aborted) set((before) => ({ ...before, error, stale: true }));
			}
			running = false;
			if (again) { again = false; soon(); }
		};
		const soon = (wait = 250) => {
			if (timer && due <= Date.now() + wait) return;
			clearTimeout(timer);
			due = Date.now() + wait;
			timer = setTimeout(() => { timer = null; run(); }, wait);
		};
		run();
		const stop = listen((event) => {
			// What happened before the line was there was not told: look again, once the page is drawn.
			if (event.kind === "ready" || (event.kind === "line" && event.live)) soon(2000);
			else if (event.kind === "reset" || kinds(event)) soon();
		});
		return () => { control.abort(); clearTimeout(timer); stop(); };
	}, depends);
	return found;
}

export function useRoute() {
	const [route, set] = useState(() => read());
	useEffect(() => {
		const changed = () => set(read());
		addEventListener("hashchange", changed);
		return () => removeEventListener("hashchange", changed);
	}, []);
	return route;
}

const dark = matchMedia("(prefers-color-scheme: dark)");
const themeOfNow = () => document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");

/** The theme that is shown, as state: chosen on the page or by the system. */
export function useTheme() {
	const [theme, set] = useState(themeOfNow());
	useEffect(() => {
		const changed = () => set(themeOfNow());
		const chosen = new MutationObserver(changed);
		chosen.observe(document.documentElement, { attributeFilter: ["data-theme"] });
		dark.addEventListener("change", changed);
		return () => { chosen.disconnect(); dark.removeEventListener("change", changed); };
	}, []);
	return theme;
}

/** The time, every ten seconds, so that ages grow. */
export function useNow() {
	const [now, set] = useState(Date.now());
	useEffect(() => {
		const timer = setInterval(() => set(Date.now()), 10_000);
		return () => clearInterval(timer);
	}, []);
	return now;
}

/**
 * An action with its progress and error: `[run, {busy, error}]`. A second click while it runs does nothing. An action may return what to
 * do next, such as to go to another page: that is not done any more where the person has gone elsewhere.
 */
export function useAction(action) {
	const [state, set] = useState({ busy: false, error: null });
	const now = useRef({ busy: false, here: true }).current;
	useEffect(() => () => { now.here = false; }, []);
	const run = async (...given) => {
		if (now.busy) return;
		now.busy = true;
		set({ busy: true, error: null });
		let error = null;
		try {
			const next = await action(...given);
			if (now.here && typeof next === "function") next();
		} catch (reason) {
			error = reason;
		}
		now.busy = false;
		set({ busy: false, error });
	};
	return [run, state];
}

export const kinds = (...names) => (event) => names.includes(event.kind);
export const ofJob = (id) => (event) => event.subject === id || event.data?.job_id === id;

export const devices = (signal) => all("devices", 200, signal);
export const supernets = (signal) => all("supernets", 200, signal);

/** Fronts of several devices; what a device cannot show is its error. */
export async function fronts(supernet, names, signal) {
	const asked = names.map((name) => get(`supernets/${supernet}/front?device=${enc(name)}&form=columns`, signal)
		.then((front) => ({ name, front }), (error) => { if (error.name === "AbortError") throw error; return { name, error }; }));
	return Promise.all(asked);
}

const plain = (text) => { try { return decodeURIComponent(text); } catch { return text; } };

/** @returns {{at: string, path: string[], query: Record<string, string>}} */
export function read(hash = location.hash) {
	const at = hash.replace(/^#\/?/, ""), [path, query] = at.split("?");
	return { at, path: path.split("/").filter(Boolean).map(plain), query: Object.fromEntries(new URLSearchParams(query ?? "")) };
}

/** @param {string[]} path @param {Record<string, any>} query empty values are left out */
export function link(path, query = {}) {
	const given = Object.entries(query).filter(([, value]) => value != null && value !== "");
	const text = new URLSearchParams(given).toString();
	return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** Change the query of a page without a new entry in the history; nothing where another page's address is there already. */
export function change(page, query) {
	const here = read();
	if (here.path[0] === page) history.replaceState(null, "", link(here.path, { ...here.query, ...query }));
}

export const go = (path, query) => { location.hash = link(path, query); };
