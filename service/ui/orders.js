// What a search may be asked for beyond its budgets: in the form, in an address, on the command line. Pure functions.

/** Name in the contract, on the page, unit there in that of the contract, whether the contract wants whole numbers. */
export const LIMITS = [
	["latency_p95_ms", "p95, ms", 1, false], ["energy_mj", "energy, mJ", 1, false],
	["size_bytes", "file, KiB", 1024, true], ["macs", "MACs, million", 1e6, true], ["memory_bytes", "activations, KiB", 1024, true]];
export const TICKS = [["prune", "cut channels out of blocks", "target"], ["control", "train the network from scratch beside it", "order"], ["robustness", "test it on pictures changed to deceive it", "order"], ["defensive", "fine-tune it towards orthogonal layers", "order"]];
export const PRECISIONS = [["float32", "float32"], ["int8", "int8"], ["mixed", "int8 where that is faster"]];
const USUAL = { candidates: 5, confidence: null, tune_epochs: null, precision: "float32", ...Object.fromEntries(TICKS.map(([name]) => [name, false])) };
const ELSEWHERE = { exclude: null, resolutions: null, missing: "refuse", strategy: "exact", generation: null, memory_mb: null, train: "all", batch: "device", preprocessing: "separate", gate_epochs: null, measured_candidates: 3 };

/** Limits as the contract has them. */
export const limitsOf = (form) => Object.fromEntries(LIMITS.filter(([name]) => form[name]).map(([name, , unit, whole]) => [name, whole ? Math.round(form[name] * unit) : Number(form[name])]));

/** The form of an order as an address has it, in the units of the page. */
export const formOf = (query) => ({ ...USUAL, ...query, verify: query.verify !== "false", ...Object.fromEntries(TICKS.map(([name]) => [name, query[name] === "true"])), ...Object.fromEntries(LIMITS.map(([name, , unit]) => [name, query[name] && Number(query[name]) / unit])) });

export function queryOf(request) {
	const names = [...LIMITS.map(([name]) => name), ...Object.keys(USUAL)], asked = { ...request, ...request.targets?.[0], ...request.targets?.[0]?.budget };
	return { ...Object.fromEntries(names.filter((n) => asked[n] != null && asked[n] !== USUAL[n]).map((n) => [n, asked[n]])), verify: request.verify === false ? "false" : null };
}

export function leftOut(request) {
	const asked = { ...request, ...request.targets?.[0] };
	return Object.keys(ELSEWHERE).filter((n) => asked[n] != null && asked[n] !== ELSEWHERE[n] && (typeof asked[n] !== "object" || Object.values(asked[n]).flat().length > 0));
}

export const ofTarget = (form) => ({ ...(form.precision === USUAL.precision ? {} : { precision: form.precision }), ...ticked(form, "target") });

export const ticked = (form, place) => Object.fromEntries(TICKS.filter(([name, , of]) => of === place && form[name]).map(([name]) => [name, true]));

const given = (options) => Object.entries(options).map(([n, v]) => v == null || v === false ? "" : ` --${n.replaceAll("_", "-")}${v === true ? "" : ` ${v}`}`).join("");

/** The command that trains the same supernet, or what the form says. */
export const trainCommand = ({ space, dataset, recipe, seed, parent, class_weights, memory_mb, control }) => `bespoke supernets train ${space} ${dataset} --recipe ${recipe} --seed ${seed}${given({ from: parent, class_weights, memory_mb, control })}`;

export const profileCommand = ({ device, space, resolutions, precisions, prune }) => `bespoke profile --device ${device} --elsewhere --space ${space}${(resolutions ?? []).map((r) => given({ resolution: r })).join("")}${given({ precision: precisions?.[1] ? "mixed" : precisions?.[0], prune })}`;

export function commandOf(request) {
	const { verify, ...further } = queryOf(request);
	const targets = (request.targets ?? []).filter((t) => t.device).map((t) => given({ target: `${t.device}=${t.budget?.latency_ms}` })).join("");
	const limits = Object.fromEntries(Object.entries(further).map(([n, v]) => [n.replace("latency_", ""), v]));
	return `bespoke search --supernet ${request.supernet_id ?? request.supernet}${targets}${given(limits)}${verify ? " --no-verify" : ""}`;
}
