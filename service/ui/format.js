// Numbers, times and ids as people read them. Pure functions; nothing given is a dash.

/** A latency in ms with three significant digits. */
export function ms(value) {
	if (value == null) return "–";
	const text = value >= 100 ? value.toFixed(0) : Number(value.toPrecision(3)).toString();
	return `${text} ms`;
}

/** A share as a percentage. */
export function percent(value, digits = 2) {
	return value == null ? "–" : `${(100 * value).toFixed(digits)} %`;
}

/** A count with its prefix: 1.2 M. */
export function count(value) {
	if (value == null) return "–";
	const found = [[1e9, "G"], [1e6, "M"], [1e3, "k"]].find(([size]) => value >= size);
	return found ? `${(value / found[0]).toPrecision(3)} ${found[1]}` : String(value);
}

/** Bytes in KiB or MiB. */
export function bytes(value) {
	if (value == null) return "–";
	return value < 2 ** 20 ? `${(value / 1024).toFixed(0)} KiB` : `${(value / 2 ** 20).toFixed(1)} MiB`;
}

/** Seconds as 1:05 or 12 s. */
export function duration(value) {
	if (value == null) return "";
	const whole = Math.round(value);
	if (whole < 60) return `${whole} s`;
	if (whole < 3600) return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")} min`;
	return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

/** How long ago a time was. */
export function age(at, now = Date.now()) {
	if (!at) return "–";
	const seconds = Math.max(0, (now - Date.parse(at)) / 1000);
	for (const [size, name] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
		if (seconds >= size) return `${Math.floor(seconds / size)} ${name} ago`;
	}
	return seconds < 5 ? "just now" : `${Math.floor(seconds)} s ago`;
}

/** The beginning of an id, enough to tell it by. */
export const short = (id) => (id.length > 14 ? `${id.slice(0, 12)}…` : id);

/** `train_supernet` as words. */
export const words = (step) => (step ?? "").replaceAll("_", " ");

const STATES = {
	queued: ["waiting", "◌"], running: ["running", "▶"], succeeded: ["done", "✓"], failed: ["failed", "✕"],
	cancelled: ["cancelled", "■"], quarantined: ["quarantined", "⚠"],
	ready: ["ready", "✓"], training: ["training", "▶"], waiting: ["waiting", "◌"], needs_review: ["needs review", "⚠"],
	present: ["agent here", "●"], absent: ["no agent", "○"],
};

/** Word and shape of a state, so that colour is never alone. */
export function stateWords(state) {
	return STATES[state] ?? [words(state), "•"];
}
