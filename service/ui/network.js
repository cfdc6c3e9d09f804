// A network as a picture: a bar for each block, as wide as its channels, coloured by kernel, with its ms.
import { html } from "./html.js";
import { count, ms } from "./format.js";

const KERNELS = { 1: "k1", 3: "k3", 5: "k5", 7: "k7" };

const named = (b) => (b.kernel == null ? Object.entries(b.values).map(([k, v]) => `${k} ${v}, `).join("") : `${b.kernel}×${b.kernel}, `);
const describe = (b) => (b.left_out ? "left out" : `${named(b)}${b.width} channels` +
	(b.expand > 1 ? `, expansion ${b.expand}` : "") + (b.stride > 1 ? `, stride ${b.stride}` : "") + (b.squeeze_excite ? ", SE" : "") + (b.precision === "int8" ? ", int8" : "") + (b.values.kept ? `, ${Math.round(100 * b.values.kept)} % of its inner channels` : ""));

/** picture: `NetworkPicture`; other: a second one to compare with, whose differing blocks are marked. */
export function Network({ picture, other = null }) {
	const widest = Math.max(...picture.blocks.map((b) => b.width)), costliest = Math.max(...picture.blocks.map((b) => b.share ?? 0));
	const theirs = new Map((other?.blocks ?? []).map((b) => [`${b.stage}/${b.block}`, b]));
	const differs = (b) => other && describe(b) !== describe(theirs.get(`${b.stage}/${b.block}`) ?? { left_out: true });
	return html`<div class="network">
		<p class="muted">${picture.resolution} px in, ${count(picture.macs)} MACs, ${count(picture.parameters)} parameters; ${picture.rows_ms == null
			? html`no milliseconds: the table of <b>${picture.device}</b> lacks operators of this network`
			: html`rows of the table of <b>${picture.device}</b> add up to ${ms(picture.rows_ms)}, calibrated ${ms(picture.predicted_ms)}${picture.upper_ms == null ? "" : `, at most ${ms(picture.upper_ms)}`}`}</p>
		<p class="key" aria-hidden="true">${Object.entries(KERNELS).map(([k, name]) => html`<span class=${`kernel ${name}`}>${k}×${k}</span>`)}${picture.blocks.some((b) => b.precision === "int8") ? html`<span class="kernel k3 rounded">int8</span>` : ""}</p>
		<ol>${picture.blocks.map((b) => html`<li class=${differs(b) ? "differs" : ""}>
			<span class="stage">${b.block === 0 ? b.stage : ""}</span>
			<span class="block" title=${b.operators.join("\n")}>
				<span class=${`kernel ${KERNELS[b.kernel ?? 1] ?? "k7"} ${b.left_out ? "out" : ""} ${b.precision === "int8" ? "rounded" : ""}`} style=${{ width: `${Math.max(6, (100 * b.width) / widest)}%` }}></span></span>
			<span class="what">${describe(b)}${differs(b) ? " ≠" : ""}</span>
			<span class="cost" aria-hidden="true"><span style=${{ width: `${costliest ? (100 * (b.share ?? 0)) / costliest : 0}%` }}></span></span>
			<span class="num">${ms(b.ms)}${b.share == null ? "" : ` · ${(100 * b.share).toFixed(1)} %`}</span></li>`)}</ol></div>`;
}

/** Two networks side by side with what differs. */
export function Networks({ pictures }) {
	if (pictures.length < 2) return html`<${Network} picture=${pictures[0]} />`;
	return html`<div class="side">${pictures.map((p, i) => html`<section><h3>${p.device}</h3><${Network} picture=${p} other=${pictures[1 - i] ?? null} /></section>`)}</div>`;
}
