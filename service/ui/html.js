// What every page is written with: `html` makes elements, hooks keep state.
import { h, render } from "./vendor/preact.js";
import htm from "./vendor/htm.js";

export { render };
export { useState, useEffect, useLayoutEffect, useRef, useMemo } from "./vendor/hooks.js";
export const html = htm.bind(h);
