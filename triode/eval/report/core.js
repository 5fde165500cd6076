// What every part of the page shares: the data, elements, numbers, and the state that lives in the address.

const D = JSON.parse(document.getElementById("page-data").textContent);
D.items = D.results.items;
D.codecs = D.results.codecs.map((codec) => ({ name: codec.name, title: codec.facts.title }));
D.published = D.results.published || [];
const root = document.documentElement;
const $ = (selector, from = document) => from.querySelector(selector);
const $$ = (selector, from = document) => [...from.querySelectorAll(selector)];
const SVG = "http://www.w3.org/2000/svg";

// Text from the results enters the page through textContent and attributes alone, never as markup.
function element(name, attributes = {}, ...children) {
  const svg = name.startsWith("svg:");
  const made = svg ? document.createElementNS(SVG, name.slice(4)) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child != null));
  return made;
}

// -- numbers ---------------------------------------------------------------------------------------------------------

const [MINUS, DASH] = ["\u2212", "\u2013"];
const signed = (text) => (/[1-9]/.test(text) ? text.replace("-", MINUS) : text.replace("-", ""));
const fixed = (value, digits) => (Number.isFinite(value) ? signed(value.toFixed(digits)) : DASH);
const significant = (value, digits = 3) => {
  if (!Number.isFinite(value)) return DASH;
  if (value === 0) return "0";
  const places = digits - 1 - Math.floor(Math.log10(Math.abs(value)));
  return signed(places > 0 ? value.toFixed(Math.min(places, 9)) : Math.round(value).toString());
};
const percent = (value, digits = 1) => {
  if (!Number.isFinite(value)) return DASH;
  const text = fixed(value, digits);
  return `${value > 0 && /[1-9]/.test(text) ? "+" : ""}${text}\u2009%`;
};
const bytes = (value) => {
  if (!Number.isFinite(value)) return DASH;
  if (value < 1e4) return `${Math.round(value).toLocaleString("en")}\u2009B`;
  return value < 1e6 ? `${significant(value / 1e3)}\u2009kB` : `${significant(value / 1e6)}\u2009MB`;
};
const rateText = (value) => `${significant(value)}\u2009${D.rateUnit}`;
const metricOf = (name) => D.metrics.find((metric) => metric.name === name) || D.metrics[0];
const valueText = (metric, value) => fixed(value, metric.digits) + (metric.unit ? `\u2009${metric.unit}` : "");
const secondsText = (value) => {
  if (!Number.isFinite(value)) return DASH;
  return value < 1 ? `${significant(value * 1e3)}\u2009ms` : `${significant(value)}\u2009s`;
};

// -- measurements: rows of columns in the page, objects here ----------------------------------------------------------

const NAMES = D.results.metrics;
const COLUMNS = ["item", "codec", "quality", "size", "payload", "encode", "decode", "memory", "values", "parts",
  "error", "sample"];
const rows = D.rows.map((cells) => {
  const row = Object.fromEntries(COLUMNS.map((name, at) => [name, cells[at]]));
  return { ...row, rate: (8 * row.size) / D.items[row.item].units / (D.media === "image" ? 1 : 1000) };
});
// A value of a metric, or null where there is none that is finite.
const valueOf = (row, metric) => {
  const value = row.values[NAMES.indexOf(metric.name)];
  return typeof value === "number" ? value : null;
};

// The file of results as it was, from the rows.
function asResults() {
  const measurements = rows.map((row) => {
    const entry = {
      item: D.items[row.item].name, codec: D.codecs[row.codec].name, quality: row.quality,
      bytes: row.size, payload_bytes: row.payload, encode_seconds: row.encode, decode_seconds: row.decode,
    };
    if (row.memory != null) entry.peak_memory_bytes = row.memory;
    const metrics = NAMES.map((name, at) => [name, row.values[at]]).filter(([, value]) => value !== "");
    if (metrics.length) entry.metrics = Object.fromEntries(metrics);
    if (row.parts) entry.parts = row.parts;
    if (row.error) entry.error = row.error;
    if (row.sample) entry.sample = row.sample;
    return entry;
  });
  return { ...D.results, measurements };
}

// -- state: everything that is not as at the start stands in the address, so that a link shows the same ---------------

const DEFAULTS = {
  theme: "", metric: D.metrics[0].name, log: "", hide: D.hide, item: "", zoom: "", anchor: D.anchor, at: "",
  look: "", level: "", show: "", split: "", scale: "",
};
const state = { ...DEFAULTS };
const listeners = [];
const whenChanged = (action) => listeners.push(action);

function readHash() {
  const found = { ...DEFAULTS };
  for (const token of location.hash.slice(1).split("&").filter(Boolean)) {
    const [key, ...rest] = token.split("=");
    let value = rest.join("=");
    try { value = decodeURIComponent(value); } catch { /* a stray percent sign stands for itself */ }
    if (rest.length && key in DEFAULTS) found[key] = value;
    else if (key === "dark" || key === "light") found.theme = key;
    else if (document.getElementById(key)) found.at = key;
  }
  return found;
}

// Names may hold halves of surrogate pairs, which addresses cannot.
const inAddress = (text) => encodeURIComponent(text.replace(/\p{Surrogate}/gu, "\ufffd")).replaceAll("%2C", ",");

function hashOf(values) {
  const written = Object.keys(DEFAULTS)
    .filter((key) => key !== "at" && values[key] !== DEFAULTS[key])
    .map((key) => (key === "theme" ? values.theme : `${key}=${inAddress(values[key])}`));
  return `#${[values.at, ...written].filter(Boolean).join("&")}`;
}

function change(values) {
  const before = { ...state };
  Object.assign(state, values);
  const hash = hashOf(state);
  const address = hash === "#" ? location.pathname + location.search : hash;
  if (hash !== location.hash) history.replaceState(null, "", address);
  for (const action of listeners) action(before);
}

const hidden = () => new Set(state.hide.split(",").filter(Boolean));
function toggleHidden(name, only = false) {
  const all = [...D.codecs, ...D.published].map((entry) => entry.name);
  let off = hidden();
  if (only) {
    const others = all.filter((other) => other !== name);
    off = others.every((other) => off.has(other)) && !off.has(name) ? new Set() : new Set(others);
  } else if (!off.delete(name)) off.add(name);
  change({ hide: all.filter((other) => off.has(other)).join(",") });
}

// -- controls ---------------------------------------------------------------------------------------------------------

function choice(host, label, key, options) {
  const select = element("select", { onchange: () => change({ [key]: select.value }) });
  for (const [value, text] of options) select.append(element("option", { value }, text));
  host.append(element("label", { class: "choice" }, element("span", {}, label), select));
  whenChanged(() => { select.value = state[key]; });
}

function segments(host, label, options, current, pick) {
  const group = element("div", { class: "segments", role: "group", "aria-label": label });
  for (const [value, text, hint] of options) {
    group.append(element("button", { type: "button", value, title: hint, onclick: () => pick(value) }, text));
  }
  host.append(group);
  whenChanged(() => {
    for (const button of group.children) button.setAttribute("aria-pressed", button.value === current());
  });
  return group;
}

function download(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = element("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}

const announce = (text) => { $("#status").textContent = text; };
