// The address: `#/jobs/ID?state=running`. Everything that a page shows stands in it, so that a copied link shows the same.

/** @returns {{path: string[], query: Record<string, string>}} */
export function read(hash = location.hash) {
  const [path, query] = hash.replace(/^#\/?/, "").split("?");
  return { path: path.split("/").filter(Boolean).map(decodeURIComponent), query: Object.fromEntries(new URLSearchParams(query ?? "")) };
}

/** @param {string[]} path @param {Record<string, any>} query empty values are left out */
export function link(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value != null && value !== "");
  const text = new URLSearchParams(given).toString();
  return `#/${path.map(encodeURIComponent).join("/")}${text ? `?${text}` : ""}`;
}

/** Change the query of this page without a new entry in the history. */
export function change(query) {
  const here = read();
  history.replaceState(null, "", link(here.path, { ...here.query, ...query }));
}

export const go = (path, query) => { location.hash = link(path, query); };
