// What happens, told to whoever listens. One stream for all tabs of a browser, which has six connections for a host only: the tab that
// holds the lock reads it and passes it on, another takes it up where it was. Closed while a tab is hidden.
import { proof, stream } from "./api.js";

const listeners = new Set(), seen = new Set();
// Without a secure context there are no locks, and each tab has its own.
const shared = navigator.locks ? new BroadcastChannel("bespoke") : null;
let lastId = null, control = null, live = false, failures = 0, leads = false;

/** @param {(event: any) => void} action @returns {() => void} stop listening */
export function listen(action) {
	listeners.add(action);
	return () => listeners.delete(action);
}

export const isLive = () => live;

function tell(event, id) {
	if (leads) shared.postMessage({ event, id });
	if (id) lastId = id;
	if (event.position != null) {
		if (seen.has(event.position)) return;
		seen.add(event.position);
		if (seen.size > 5000) seen.delete(seen.values().next().value);
	}
	if (event.kind === "ready") { failures = 0; set(true); }
	listeners.forEach((action) => action(event));
}

function set(value) {
	if (leads) shared.postMessage({ live: value });
	if (live === value) return;
	live = value;
	listeners.forEach((action) => action({ kind: "line", live }));
}

async function run(signal) {
	while (!signal.aborted) {
		try {
			await stream(lastId, tell, signal);
		} catch (error) {
			if (error.name === "AbortError") break;
		}
		set(false);
		// Ended by the signal too: who comes back to the tab waits for nothing left over.
		await new Promise((resolve) => { setTimeout(resolve, Math.min(30, 1.5 ** failures++) * (500 + Math.random() * 500)); signal.addEventListener("abort", resolve); });
	}
}

export function open() {
	if (control || document.hidden || !proof()) return;
	control = new AbortController();
	const { signal } = control;
	if (!shared) return void run(signal);
	shared.postMessage({ hello: true });
	const lead = async () => { leads = true; try { await run(signal); } finally { leads = false; } };
	navigator.locks.request("bespoke-line", { signal }, lead).catch(() => {});
}

export function close() {
	control?.abort();
	control = null;
}

if (shared) shared.onmessage = ({ data }) => {
	if (data.hello) { if (leads && live) set(true); }
	else if (!control || leads) return;
	else if (data.event) tell(data.event, data.id);
	else set(data.live);
};
document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
