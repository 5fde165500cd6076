// Tables that sort and follow the metric, the table of all measurements, and downloads.

function sortable(table) {
  const heads = $$("thead th", table);
  heads.forEach((head, column) => {
    if (head.dataset.sort === "no") return;
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const sort = () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const compare = (a, b) => {
        const [p, q] = [key(a), key(b)];
        if (p === "" || q === "") return (p === "") - (q === ""); // what has no value stays below
        const difference = Number(p) - Number(q);
        const sign = Number.isNaN(difference) ? p.localeCompare(q, "en", { numeric: true }) : difference;
        return down ? -sign : sign;
      };
      const body = table.tBodies[0];
      body.append(...[...body.rows].sort(compare));
    };
    const button = element("button", { type: "button", onclick: sort });
    button.append(...head.childNodes);
    head.append(button);
  });
}

function setUpTables() {
  $$("table.sortable").forEach(sortable);
  $$("[data-metric-choice]").forEach(metricChoice);
  whenChanged(() => {
    for (const part of $$("[data-metric]")) part.classList.toggle("other", part.dataset.metric !== state.metric);
  });
}

// -- all measurements ------------------------------------------------------------------------------------------------

const PAGE = 200;

function tableOf(label, heads, body, isNumber = (at) => at > 0) {
  const columns = heads.map((head, at) => element("th", { scope: "col", class: isNumber(at) ? "number" : null }, head));
  const table = element("table", {}, element("thead", {}, element("tr", {}, ...columns)), body);
  return element("div", { class: "wide", tabindex: 0, role: "region", "aria-label": label }, table);
}

function setUpData() {
  const host = $("#rows");
  const details = host.closest("details");
  const heads = ["item", "codec", "quality", "bytes", "payload bytes", `rate, ${D.rateUnit}`,
    ...D.metrics.map((metric) => metric.name), "encode s", "decode s", "peak MB", "error"];
  const isNumber = (at) => at > 1 && at < heads.length - 1;
  const cells = (row) => [
    D.items[row.item].name, D.codecs[row.codec].name, row.quality,
    ...(row.error ? ["", "", ""] : [row.size, row.payload, significant(row.rate, 4)]),
    ...D.metrics.map((metric) => (valueOf(row, metric) == null ? "" : fixed(valueOf(row, metric), metric.digits))),
    ...(row.error ? ["", ""] : [significant(row.encode), significant(row.decode)]),
    row.memory == null ? "" : significant(row.memory / 1e6), row.error || "",
  ];
  let shown = 0;
  const body = element("tbody");
  const more = element("button", { type: "button", onclick: () => fill() });
  const fill = () => {
    const off = hidden();
    const wanted = rows.filter((row) =>
      (!state.item || D.items[row.item].name === state.item) && !off.has(D.codecs[row.codec].name));
    for (const row of wanted.slice(shown, shown + PAGE)) {
      const made = cells(row).map((cell, at) => element("td", { class: isNumber(at) ? "number" : null }, String(cell)));
      body.append(element("tr", {}, ...made));
    }
    shown = Math.min(wanted.length, shown + PAGE);
    more.textContent = `Show more (${shown} of ${wanted.length})`;
    more.hidden = shown >= wanted.length;
  };
  const refill = () => {
    if (!details.open) return;
    shown = 0;
    body.replaceChildren();
    fill();
  };
  host.append(tableOf("All measurements", heads, body, isNumber), more);
  details.addEventListener("toggle", refill);
  whenChanged((before) => { if (before.item !== state.item || before.hide !== state.hide) refill(); });
  setUpDownloads($("#downloads"));
}

function setUpDownloads(host) {
  // A cell that a spreadsheet would take for a formula gets an apostrophe, as OWASP advises.
  const quote = (cell) => {
    const text = typeof cell === "string" && /^[=+\-@\t\r]/.test(cell) ? `'${cell}` : String(cell ?? "");
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const heads = ["item", "codec", "quality", "bytes", "payload_bytes", "rate", ...NAMES, "encode_seconds",
    "decode_seconds", "peak_memory_bytes", "error"];
  const csv = () => {
    const lines = rows.map((row) => [
      D.items[row.item].name, D.codecs[row.codec].name, row.quality, row.size, row.payload, +row.rate.toPrecision(7),
      ...row.values, row.encode, row.decode, row.memory, row.error,
    ]);
    return `${[heads, ...lines].map((line) => line.map(quote).join(",")).join("\r\n")}\r\n`;
  };
  const json = () => JSON.stringify(asResults(), null, 1);
  host.append(
    element("button", { type: "button", onclick: () => download("results.json", "application/json", json()) },
      "Download JSON"),
    element("button", { type: "button", onclick: () => download("results.csv", "text/csv", csv()) }, "Download CSV"));
}
