// One stream a tab: what happened is told to whoever listens. Closed while the tab is hidden, taken up where it was.
import { proof, stream } from "./api.js";

const listeners = new Set();
const seen = new Set();
let lastId = null, control = null, live = false, failures = 0;

/** @param {(event: any) => void} action @returns {() => void} stop listening */
export function listen(action) {
  listeners.add(action);
  return () => listeners.delete(action);
}

export const isLive = () => live;

function tell(event, id) {
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
  if (live === value) return;
  live = value;
  listeners.forEach((action) => action({ kind: "line", live }));
}

async function run() {
  while (control) {
    try {
      await stream(lastId, tell, control.signal);
    } catch (error) {
      if (error.name === "AbortError" || error.status === 401) break;
    }
    set(false);
    const wait = Math.min(30, 2 ** failures++) * (0.5 + Math.random() / 2);
    await new Promise((resolve) => setTimeout(resolve, wait * 1000));
  }
}

export function open() {
  if (control || document.hidden || !proof.get()) return;
  control = new AbortController();
  run();
}

export function close() {
  control?.abort();
  control = null;
}

document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
