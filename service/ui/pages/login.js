// Logging in: with a link of `bespoke open`, or with a key. On top of the page, whose forms keep what was typed.
import { html, useState } from "../html.js";
import { logIn } from "../api.js";
import { Trouble } from "../parts.js";
import { useAction } from "../store.js";

export function Login({ reason, done }) {
  const [key, set] = useState("");
  const [run, state] = useAction(async () => { const session = await logIn({ key }); set(""); done(session); });
  return html`<dialog open class="login" aria-labelledby="login"><form onSubmit=${(e) => { e.preventDefault(); run(); }}><h1 id="login">bespoke</h1>
    ${reason ? html`<${Trouble} error=${reason} />` : null}<p>On the service's own machine: <code>bespoke open</code> opens this page logged in. Elsewhere, show a key; the browser does not keep it.</p>
    <label>key <input type="password" autocomplete="off" required value=${key} onInput=${(e) => set(e.target.value)} autofocus /></label><button class="main" disabled=${state.busy}>Log in</button><${Trouble} error=${state.error} /></form></dialog>`;
}
