// What all pages know: where we are, the clock, what is live, the lists everybody needs. The address is `#/jobs/ID?state=running`:
// everything that a page shows stands in it, so that a copied link shows the same.
import { useEffect, useState } from "./html.js";
import { all, get, enc } from "./api.js";
import { listen } from "./live.js";

/** Run something now and whenever one of the events happens; at most four times a second. */
export function useLive(load, kinds, depends = []) {
	const [found, set] = useState({ data: null, error: null, stale: false });
	useEffect(() => {
		const control = new AbortController();
		let timer = null, running = false, again = false;
		const run = async () => {
			if (running) { again = true; return; }
			running = true;
			try {
				const data = await load(control.signal);
				if (!control.signal.aborted) set({ data, error: null, stale: false });
			} catch (error) {
				if (error.name !== "AbortError" && !control.signal.aborted) set((before) => ({ ...before, error, stale: true }));
			}
			running = false;
			if (again) { again = false; soon(); }
		};
		const soon = () => { timer ??= setTimeout(() => { timer = null; run(); }, 250); };
		run();
		const stop = listen((event) => {
			const kind = event.kind === "line" ? (event.live ? "ready" : "") : event.kind;
			if (kind === "reset" || kind === "ready" || kinds(event)) soon();
		});
		return () => { control.abort(); clearTimeout(timer); stop(); };
	}, depends);
	return { ...found, refresh: () => set((before) => ({ ...before })) };
}

/** The address, as state. */
export function useRoute() {
	const [route, set] = useState(read());
	useEffect(() => {
		const changed = () => set(read());
		addEventListener("hashchange", changed);
		return () => removeEventListener("hashchange", changed);
	}, []);
	return route;
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

/** An action with its progress and error: `[run, {busy, error}]`. A second click while it runs does nothing. */
export function useAction(action) {
	const [state, set] = useState({ busy: false, error: null });
	const run = async (...given) => {
		if (state.busy) return;
		set({ busy: true, error: null });
		try {
			await action(...given);
			set({ busy: false, error: null });
		} catch (error) {
			set({ busy: false, error });
		}
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

/** @returns {{path: string[], query: Record<string, string>}} */
export function read(hash = location.hash) {
	const [path, query] = hash.replace(/^#\/?/, "").split("?");
	return { path: path.split("/").filter(Boolean).map(decodeURIComponent), query: Object.fromEntries(new URLSearchParams(query ?? "")) };
}

/** @param {string[]} path @param {Record<string, any>} query empty values are left out */
export function link(path, query = {}) {
	const given = Object.entries(query).filter(([, value]) => value != null && value !== "");
	const text = new URLSearchParams(given).toString();
	return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** Change the query of this page without a new entry in the history. */
export function change(query) {
	const here = read();
	history.replaceState(null, "", link(here.path, { ...here.query, ...query }));
}

export const go = (path, query) => { location.hash = link(path, query); };
