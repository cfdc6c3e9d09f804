// What every page is written with: `html` makes elements, hooks keep state.
import { h, render, createContext } from "./vendor/preact.js";
import htm from "./vendor/htm.js";

export { render, createContext };
export { useState, useEffect, useRef, useMemo, useCallback, useContext } from "./vendor/hooks.js";
export const html = htm.bind(h);
