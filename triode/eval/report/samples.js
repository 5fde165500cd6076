// What pictures and recordings share: which item and rate level is chosen, what can be shown there, and its numbers.

const groupOf = () => D.samples.find((group) => group.item === state.look) || D.samples[0];
const levelOf = (group) =>
  group.levels.find((level) => level.name === state.level) || group.levels[Math.floor(group.levels.length / 2)];

// What can be shown: the original first, then the codecs, as {name, src, codec, row}.
function shownOf(group) {
  const source = (id) => document.getElementById(id).getAttribute("src");
  const codecs = levelOf(group).shown.map(({ codec, row, id }) => (
    { name: D.codecs[codec].name, src: source(id), codec, row: rows[row] }));
  return [{ name: "original", src: source(group.original) }, ...codecs];
}
const currentOf = (shown) =>
  shown.find((one) => one.name === state.show) || shown.find((one) => one.codec === D.subject) || shown[1] || shown[0];

function sampleControls(host) {
  if (D.samples.length > 1) choice(host, "Item", "look", D.samples.map((group) => [group.item, group.item]));
  if (!state.look) DEFAULTS.look = state.look = groupOf().item;
  const levels = element("div", { class: "controls" });
  const buttons = element("div", { class: "controls picks", role: "group", "aria-label": "What to show" });
  host.append(levels);
  host.after(buttons);
  const button = (key, name, ...children) =>
    element("button", { type: "button", value: name, onclick: () => change({ [key]: name }) }, ...children);
  const levelButton = (one) => button("level", one.name,
    `${one.name} \u2248\u2009${significant(one.target, 2)}\u2009${D.rateUnit}`);
  const pickButton = (one, at) => button("show", one.name,
    at < 9 ? element("kbd", {}, String(at + 1)) : null, one.name,
    element("small", {}, one.row ? rateText(one.row.rate) : ""));
  let [builtLevels, builtPicks] = [null, null]; // built anew only for other samples, so that focus stays
  whenChanged(() => {
    const group = groupOf();
    const level = levelOf(group);
    const shown = shownOf(group);
    if (builtLevels !== group) {
      builtLevels = group;
      const made = element("div", { class: "segments", role: "group", "aria-label": "Rate" });
      if (group.levels.length > 1) made.append(...group.levels.map(levelButton));
      levels.replaceChildren(made);
    }
    if (builtPicks !== level) {
      builtPicks = level;
      buttons.replaceChildren(...shown.map(pickButton));
    }
    for (const button of $$("button", levels)) button.setAttribute("aria-pressed", button.value === level.name);
    for (const button of buttons.children) button.setAttribute("aria-pressed", button.value === currentOf(shown).name);
  });
}

// Digits and arrows choose what is shown while the focus is inside; `extra` tells whether it took another key.
function sampleKeys(host, extra) {
  host.addEventListener("keydown", (event) => {
    if (event.target.matches("select, input") || event.ctrlKey || event.metaKey || event.altKey) return;
    const shown = shownOf(groupOf());
    const at = shown.indexOf(currentOf(shown));
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const next = step ? (at + step + shown.length) % shown.length : /^[1-9]$/.test(event.key) ? event.key - 1 : -1;
    if (shown[next]) {
      event.preventDefault();
      change({ show: shown[next].name });
      announce(shown[next].name);
    } else if (extra(event)) event.preventDefault();
  });
}

// Bytes, rate and quality of everything at this level, with how far each is from the rate wanted.
function sampleTable(host) {
  const heads = ["codec", "quality", "bytes", `rate, ${D.rateUnit}`, "off target",
    ...D.metrics.map((metric) => metric.title)];
  whenChanged(() => {
    const group = groupOf();
    const level = levelOf(group);
    const shown = shownOf(group);
    const now = currentOf(shown);
    const line = ({ name, row }) => {
      const off = 100 * (row.rate / level.target - 1);
      const texts = [row.quality, row.size.toLocaleString("en"), significant(row.rate), percent(off, 0),
        ...D.metrics.map((metric) => fixed(valueOf(row, metric) ?? NaN, metric.digits))];
      const cells = texts.map((text, at) => (
        element("td", { class: at === 3 && Math.abs(off) > 10 ? "number warn" : "number" }, String(text))));
      const head = element("th", { scope: "row" }, name);
      return element("tr", { class: name === now.name ? "current" : null }, head, ...cells);
    };
    const body = element("tbody", {}, ...shown.filter((one) => one.row).map(line));
    host.replaceChildren(tableOf("Sizes and quality at this rate", heads, body));
    for (const part of $$(".gallery [data-group]")) { // what is printed
      part.classList.toggle("current", Number(part.dataset.group) === D.samples.indexOf(group));
    }
    for (const figure of $$(".gallery figure")) {
      const { levels } = figure.dataset;
      figure.classList.toggle("current", !levels || levels.split(" ").includes(level.name));
    }
  });
}
