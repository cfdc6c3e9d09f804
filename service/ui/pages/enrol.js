// Adding a device: name and context, the two lines to paste, waiting for its agent, measuring.
import { html, useEffect, useState } from "../html.js";
import { get, post, enc } from "../api.js";
import { duration } from "../format.js";
import { Copy, Loading, sent, State, Teach, Trouble } from "../parts.js";
import { Work } from "./devices.js";
import { go, link, useAction, useLive } from "../store.js";

const FIELDS = [["runtime", "onnxruntime"], ["runtime_version", ""], ["provider", "CPUExecutionProvider"], ["threads", 1], ["precision", "float32"], ["batch_size", 1]];

export function Enrol({ query }) {
	return query.name ? html`<${Connect} name=${query.name} />` : html`<${Register} />`;
}

function Register() {
	const [form, set] = useState({ name: "", description: "", ...Object.fromEntries(FIELDS) });
	const { data: limits } = useLive((signal) => get("limits", signal));
	useEffect(() => { if (limits?.runtime_version) set((f) => ({ ...f, runtime_version: f.runtime_version || limits.runtime_version })); }, [limits]);
	const context = Object.fromEntries(FIELDS.map(([name, first]) => [name, typeof first === "number" ? Number(form[name]) : form[name]]));
	const body = { name: form.name, description: form.description, context };
	const [run, state] = useAction(async () => { await post("devices", body); return () => go(["enrol"], { name: body.name }); });
	const field = (name, label, more = {}) => html`<label>${label} <input required=${name !== "description"} value=${form[name]} onInput=${(e) => set({ ...form, [name]: e.target.value })} ...${more} /></label>`;
	return html`<h1>Add a device</h1><ol class="steps"><li class="running">1 name it</li><li>2 start its agent</li><li>3 measure</li></ol><form class="tall" onSubmit=${sent(run)}>
		${field("name", "name", { pattern: "[a-z0-9][a-z0-9._\\-]{0,63}", title: "small letters, digits, dot, dash, underscore", autofocus: true })}${field("description", "description")}
		<fieldset><legend>context: latencies of two contexts never mix; the runtime version is that of the agent</legend>${FIELDS.map(([name, first]) => field(name, name.replace("_", " "), typeof first === "number" ? { type: "number", min: 1 } : {}))}</fieldset>
		<button class="main" disabled=${state.busy}>Register it</button><${Trouble} error=${state.error} /><${Teach} command=${`bespoke devices add ${form.name || "NAME"} --runtime-version ${form.runtime_version} --threads ${form.threads}`} method="POST" path="devices" body=${body} /></form>`;
}

function Connect({ name }) {
	const path = `devices/${enc(name)}`;
	const { data: device, error } = useLive((signal) => get(path, signal), (e) => ["agent", "device", "table"].includes(e.kind) && e.subject === name, [name]);
	const [made, setMade] = useState(null);
	const [left, setLeft] = useState(0);
	const [address, setAddress] = useState(new URL("..", document.baseURI).href.replace(/\/$/, ""));
	const [run, state] = useAction(async () => setMade(await post(`${path}/enrolments`)));
	useEffect(() => {
		const tick = () => setLeft(made ? Math.max(0, (Date.parse(made.expires_at) - Date.now()) / 1000) : 0);
		tick();
		const timer = setInterval(tick, 1000);
		return () => clearInterval(timer);
	}, [made]);
	if (!device) return error ? html`<${Trouble} error=${error} action=${html`<a class="button" href="#/enrol">Add another device</a>`} />` : html`<${Loading} what=${name} />`;
	const lines = made ? [`pip install 'bespoke-nas[agent]'`, `bespoke agent --server ${address} --token ${made.token}`] : [];
	const here = device.agent?.present;
	return html`<h1>Add ${name}</h1><ol class="steps"><li class="succeeded">1 named</li><li class=${here ? "succeeded" : "running"}>2 start its agent</li><li class=${here ? "running" : ""}>3 measure</li></ol>
		${here ? html`<section role="status"><h2>Connected <${State} of="present" /></h2><p>${seen(device.environment)}</p><${Work} device=${device} /><p><a href=${link(["devices", name])}>its page</a></p></section>`
			: html`<section><p>On the device, with Python 3.11 or newer. It only calls out; nothing has to reach it.</p>
			${made ? html`<label>address of this service as the device sees it <input value=${address} onInput=${(e) => setAddress(e.target.value)} /></label>
				${lines.map((text) => html`<div class="line"><pre tabindex="0">${text}</pre><${Copy} text=${text} /></div>`)}<p role="timer">${left > 0 ? `The token works once, for another ${duration(left)}. It is shown here only.` : "The token is too old; make another."}</p>
				<p role="status">waiting for the agent…</p>` : null}<button class=${made ? "" : "main"} disabled=${state.busy} onClick=${run}>${made ? "Make another token" : "Show me the two lines"}</button>
			<${Trouble} error=${state.error} /><${Teach} command=${`bespoke devices enrol ${name}`} method="POST" path=${`${path}/enrolments`} /></section>`}`;
}

function seen(environment) {
	const facts = Object.entries(environment ?? {}).filter(([, v]) => typeof v === "string" || typeof v === "number");
	return facts.slice(0, 6).map(([k, v]) => `${k.replaceAll("_", " ")} ${v}`).join(", ");
}
