// What a front says about a budget. Pure functions, tested against the solver.

/** @typedef {{device: string, latency_ms: number[], upper_ms: number[] | null, accuracy: number[], genes: string[]}} Front */

/** What a budget is held against: the bound where there is one. @param {Front} front */
export const held = (front) => front.upper_ms ?? front.latency_ms;

/** Index of the most accurate network within a budget, -1 where none is. @param {Front} front @param {number} budget */
export function pick(front, budget) {
	const values = held(front);
	let low = 0, high = values.length;
	while (low < high) {
		const middle = (low + high) >> 1;
		if (values[middle] <= budget) low = middle + 1;
		else high = middle;
	}
	return low - 1;
}

/** Least and greatest budget that makes a difference on any of the fronts. @param {Front[]} fronts */
export function range(fronts) {
	const ends = fronts.filter((f) => f.genes.length).flatMap((f) => [held(f)[0], held(f)[f.genes.length - 1]]);
	return ends.length ? [Math.min(...ends), Math.max(...ends)] : [0.01, 1];
}

/** Three digits, rounded up, so that a budget that was just met is still met. @param {number} value */
export function tidy(value) {
	const size = 10 ** (Math.floor(Math.log10(value)) - 3);
	return Number((Math.ceil(value / size - 1e-9) * size).toPrecision(6));
}

/**
 * Points of a cloud thinned to one a cell of `cell` pixels: which indices to draw.
 * @param {number[]} xs pixels @param {number[]} ys pixels
 */
export function thin(xs, ys, cell = 3) {
	const seen = new Set(), kept = [];
	for (let i = 0; i < xs.length; i++) {
		const key = Math.floor(xs[i] / cell) * 65536 + Math.floor(ys[i] / cell);
		if (!seen.has(key)) { seen.add(key); kept.push(i); }
	}
	return kept;
}

/** A front as CSV, every point. @param {Front[]} fronts */
export function csv(fronts) {
	const rows = ["device,latency_ms,upper_ms,accuracy,genes"];
	for (const f of fronts) {
		f.genes.forEach((g, i) => rows.push([f.device, f.latency_ms[i], f.upper_ms?.[i] ?? "", f.accuracy[i], g].join(",")));
	}
	return rows.join("\n") + "\n";
}
