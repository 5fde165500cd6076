// The charts of the page: rate-distortion curves, speed, items.

const seriesOf = (codec, place) => ({
  name: codec.name, label: codec.name, title: codec.title, note: codec.title === codec.name ? "" : codec.title,
  place, subject: place === D.subject,
});
const publishedSeries = (curve, at) => ({
  name: curve.name, label: curve.name, title: `${curve.title}. ${curve.source}`, note: "as published",
  place: D.codecs.length + at, dashed: true,
});
const metricChoice = (host) => {
  if (D.metrics.length > 1) choice(host, "Metric", "metric", D.metrics.map((one) => [one.name, one.title]));
};
const codecChoice = (host, label, key) => choice(host, label, key, D.codecs.map((codec) => [codec.name, codec.name]));

// -- rate-distortion -------------------------------------------------------------------------------------------------

function curvePoints(at, metric) {
  const codec = D.codecs[at];
  const point = (x, y, ...more) => ({ x, y, tip: [codec.name, `${rateText(x)}, ${valueText(metric, y)}`, ...more] });
  if (!state.item) {
    return (D.mean[metric.name]?.[at] || []).map(([x, y, quality, n]) =>
      point(x, y, `quality ${quality}, mean of ${n} item${n === 1 ? "" : "s"}`));
  }
  return rows
    .filter((row) => row.codec === at && D.items[row.item].name === state.item && valueOf(row, metric) != null)
    .sort((a, b) => a.rate - b.rate)
    .map((row) => point(row.rate, valueOf(row, metric), `quality ${row.quality}, ${bytes(row.size)}`,
      `encode ${secondsText(row.encode)}, decode ${secondsText(row.decode)}`));
}

function publishedPoints(curve, metric) {
  return (curve.points[metric.name] || []).map(([x, y]) => (
    { x, y, tip: [curve.title, `${rateText(x)}, ${valueText(metric, y)}`, `as published: ${curve.source}`] }));
}

function setUpCurves() {
  const metric = () => metricOf(state.metric);
  const zoomed = () => {
    const ends = state.zoom.split(",").map(Number);
    return ends.length === 2 && ends[0] < ends[1] && ends[0] >= (state.log ? 1e-9 : 0) ? ends : undefined;
  };
  const chart = new Chart($("#rd-plot"), () => {
    const off = hidden();
    const series = D.codecs.map((codec, at) => ({ ...seriesOf(codec, at), points: curvePoints(at, metric()) }));
    for (const [at, curve] of state.item ? [] : D.published.entries()) {
      series.push({ ...publishedSeries(curve, at), points: publishedPoints(curve, metric()) });
    }
    return {
      label: `${metric().title} against rate, ${state.item || "mean of all items"}`,
      x: { label: `rate in ${D.rateUnit}`, log: state.log === "1", range: zoomed() },
      y: {},
      series: series.filter((one) => !off.has(one.name)),
      zoom: (ends) => change({ zoom: ends ? ends.map((end) => +end.toPrecision(4)).join(",") : "" }),
      empty: off.size ? "No curve to show: all are switched off" : "No curve to show",
    };
  });
  const controls = $("#rd-controls");
  const items = [["", `Mean of ${D.items.length} items`], ...D.items.map((item) => [item.name, item.name])];
  metricChoice(controls);
  if (D.items.length > 1) choice(controls, "Item", "item", items);
  const scales = [["", "Linear"], ["1", "Log"]];
  segments(controls, "Rate axis", scales, () => state.log, (value) => change({ log: value, zoom: "" }));
  const reset = element("button", { type: "button", onclick: () => change({ zoom: "" }) }, "Whole range");
  controls.append(reset);
  whenChanged(() => {
    const { title, unit, up } = metric();
    reset.hidden = !zoomed();
    $("#rd-axis").textContent = `${title}${unit ? `, ${unit}` : ""} ${DASH} ${up ? "higher" : "lower"} is better`;
  });
  return chart;
}

// -- speed and items --------------------------------------------------------------------------------------------------

const pairs = new Map();
for (const [name, list] of Object.entries(D.bd)) {
  for (const pair of list) pairs.set(`${name}\n${pair.anchor}\n${pair.test}`, pair);
}
const pairOf = (anchor, test) => pairs.get(`${state.metric}\n${anchor}\n${test}`);
const anchorIndex = () => Math.max(0, D.codecs.findIndex((codec) => codec.name === state.anchor));

function speedSeries(column) {
  const off = hidden();
  const { points } = D.equal[state.metric];
  const anchor = D.codecs[anchorIndex()].name;
  const base = points[anchorIndex()][0] ?? NaN;
  return D.codecs.map((codec, at) => {
    const [rate, speed] = [points[at][0] ?? NaN, points[at][column] ?? NaN];
    const relative = (100 * rate) / base;
    const tip = [codec.name, `${significant(speed)}\u2009${D.speedUnit}`, rateText(rate),
      `${fixed(relative, 1)}\u2009% of the rate of ${anchor}`];
    return { ...seriesOf(codec, at), line: false, points: [{ x: speed, y: relative, text: codec.name, tip }] };
  }).filter((one) => !off.has(one.name));
}

function setUpSpeed() {
  const charts = ["encode", "decode"].map((which, at) => new Chart($(`#speed-${which}`), () => ({
    label: `Rate at equal quality against time to ${which}`,
    x: { label: `time to ${which}, ${D.speedUnit}`, log: true }, y: { include: [100] },
    series: speedSeries(at + 1), rule: 100, empty: "No codec reaches this quality here",
  })));
  codecChoice($("#speed-controls"), "Rate relative to", "anchor");
  whenChanged(() => {
    const metric = metricOf(state.metric);
    const { target } = D.equal[metric.name];
    const at = `at ${metric.title} ${valueText(metric, target)}`;
    $("#speed-axis").textContent = target == null ? ""
      : `Rate in % of that of ${D.codecs[anchorIndex()].name}, ${at} ${DASH} lower left is better`;
  });
  return charts;
}

function setUpItems() {
  // The codec by which items are ordered: the one that the page is about, where it is not the one compared with.
  const first = () => (anchorIndex() === D.subject ? D.codecs.findIndex((_, at) => at !== D.subject) : D.subject);
  const order = () => {
    const value = (item) => pairOf(anchorIndex(), first())?.items[item] ?? Infinity;
    return D.items.map((_, item) => item).sort((a, b) => value(a) - value(b) || a - b);
  };
  const pick = (item) => () => {
    change({ item: D.items[item].name, zoom: "" });
    $("#rd").scrollIntoView();
  };
  const chart = new Chart($("#items-plot"), () => {
    const off = hidden();
    const anchor = anchorIndex();
    const against = D.codecs[anchor].name;
    const place = new Map(order().map((item, at) => [item, at + 1]));
    const points = (codec, at) => (pairOf(anchor, at)?.items || []).map((value, item) => ({
      x: place.get(item), y: value ?? NaN, pick: pick(item),
      tip: [D.items[item].name, `${codec.name}: ${percent(value)} against ${against}`, "click for its curves"],
    }));
    return {
      label: `BD-rate of each item against ${against}`,
      x: {
        label: `items, from the lowest to the highest BD-rate of ${D.codecs[first()].name}`,
        range: [0.3, D.items.length + 0.7], marks: order().map((item) => D.items[item].name),
      },
      y: { include: [0] },
      rule: 0,
      series: D.codecs.map((codec, at) => ({ ...seriesOf(codec, at), line: false, points: points(codec, at) }))
        .filter((one) => !off.has(one.name)),
      empty: "No BD-rate of a single item against this codec",
    };
  });
  codecChoice($("#items-controls"), "Against", "anchor");
  return chart;
}
