// The only module that asks the service. Addresses are relative, so that any sub-path works.

const BASE = new URL("../v1/", document.baseURI);
const PROOF = "bespoke-proof", SESSION = "bespoke-session";
const listeners = new Set();
export const enc = encodeURIComponent;

/** What the service refused, as its problem document says it. */
export class Refused extends Error {
	/** @param {any} problem */
	constructor(problem) {
		super(problem.detail || problem.title || "the service refused");
		this.problem = problem;
		this.status = problem.status ?? 0;
	}
}

export const proof = () => localStorage.getItem(PROOF);

/** Whom the session acts for, as it was last told: the frame is drawn with it while the service is asked again. */
export const session = {
	get: () => (proof() ? JSON.parse(localStorage.getItem(SESSION)) : null),
	set: (value) => { localStorage.setItem(SESSION, JSON.stringify(value)); return value; },
	ask: async () => session.set(await get("sessions/current")),
};

/** Called when the session is over. @param {() => void} action */
export const onLoggedOut = (action) => listeners.add(action);

function headers(more = {}) {
	const known = proof();
	return { ...(known ? { "X-Bespoke-Proof": known } : {}), ...more };
}

/** asked: the proof that the request had. Its end is no news where somebody has logged in since. */
async function refusal(answer, asked) {
	const type = answer.headers.get("Content-Type") ?? "";
	const problem = type.includes("json") ? await answer.json() : { status: answer.status, title: answer.statusText };
	if (answer.status === 401 && asked === proof()) listeners.forEach((action) => action());
	return new Refused({ status: answer.status, ...problem });
}

async function ask(method, path, { body, more, signal } = {}) {
	const asked = proof();
	const options = { method, headers: headers(more), signal, cache: "no-store", credentials: "same-origin" };
	if (body !== undefined) {
		options.body = typeof body === "string" ? body : JSON.stringify(body);
		options.headers["Content-Type"] ??= "application/json";
	}
	for (let attempt = 0; ; attempt++) {
		let answer;
		try {
			answer = await fetch(new URL(path, BASE), options);
		} catch (error) {
			if (error.name === "AbortError") throw error;
			throw new Refused({ status: 0, title: "the service does not answer", detail: "The service does not answer. Is it running?" });
		}
		if (answer.ok) return answer;
		const wait = Number(answer.headers.get("Retry-After") ?? 1);
		const busy = answer.status === 429 || answer.status === 503;
		if (!busy || method !== "GET" || attempt === 3) throw await refusal(answer, asked);
		await new Promise((resolve) => setTimeout(resolve, Math.min(wait, 30) * 1000));
	}
}

/** Which part of the service answers: `{database: "ok", artifacts: "…"}`; nothing where the whole service is away. */
export const parts = () => fetch(new URL("../readyz", BASE), { cache: "no-store" }).then(async (answer) => (await answer.json()).checks ?? {}, () => ({})).catch(() => ({}));

export const get = async (path, signal) => (await ask("GET", path, { signal })).json();
export const post = async (path, body = {}, more = {}) => (await ask("POST", path, { body, more })).json();
export const patch = async (path, body, more = {}) => (await ask("PATCH", path, { body, more })).json();
export const remove = async (path) => void (await ask("DELETE", path));

/** Every item of a list, up to a number of them. */
export async function all(path, most = 200, signal) {
	const items = [];
	let after = null;
	do {
		const mark = path.includes("?") ? "&" : "?";
		const page = await get(after == null ? path : `${path}${mark}after=${enc(after)}`, signal);
		items.push(...page.items);
		after = page.next;
	} while (after != null && items.length < most);
	return items;
}

/** Log in with a key or with the token of a link. */
export async function logIn({ key, token }) {
	const more = key ? { Authorization: `Bearer ${key.trim()}` } : {};
	const opened = await post("sessions", token ? { token } : {}, more);
	const { proof: half, ...view } = opened;
	localStorage.setItem(PROOF, half);
	return session.set(view);
}

export async function logOut() {
	try { await remove("sessions/current"); } finally { [PROOF, SESSION].forEach((name) => localStorage.removeItem(name)); }
}

/** Bytes of a file and their SHA-256, null where the browser does not compute it (no secure context). */
export async function file(path) {
	const data = await (await ask("GET", path)).arrayBuffer();
	if (!crypto.subtle) return { data, sha256: null };
	const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
	return { data, sha256: [...digest].map((b) => b.toString(16).padStart(2, "0")).join("") };
}

/**
 * What happens in the tenant, for as long as `signal` allows; throws where the line breaks.
 * @param {string | null} lastId @param {(event: any, id: string) => void} tell
 */
export async function stream(lastId, tell, signal) {
	const asked = proof(), more = { Accept: "text/event-stream", ...(lastId == null ? {} : { "Last-Event-ID": lastId }) };
	const answer = await fetch(new URL("events", BASE), { headers: headers(more), signal, cache: "no-store" });
	if (!answer.ok) throw await refusal(answer, asked);
	const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
	for (let text = ""; ;) {
		const { value, done } = await reader.read();
		if (done) return;
		text += value;
		const parts = text.split("\n\n");
		text = parts.pop();
		for (const part of parts.filter((p) => !p.startsWith(":"))) {
			const fields = Object.fromEntries(part.split("\n").map((line) => [line.split(": ", 1)[0], line.slice(line.indexOf(": ") + 2)]));
			tell({ kind: fields.event, ...JSON.parse(fields.data ?? "{}") }, fields.id);
		}
	}
}
