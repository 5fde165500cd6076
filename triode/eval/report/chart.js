// An x-y chart in SVG: axes, lines and points that can be hovered, tapped or walked through with the arrow keys.

const MARKERS = [ // radius about 4, drawn around the origin; shapes tell series apart where colours do not
  "M4 0A4 4 0 1 1-4 0A4 4 0 1 1 4 0Z",
  "M-3.6-3.6H3.6V3.6H-3.6Z",
  "M0-4.8L4.5 3.2H-4.5Z",
  "M0-5L5 0L0 5L-5 0Z",
  "M0 4.8L4.5-3.2H-4.5Z",
  "M-1.5-4.5H1.5V-1.5H4.5V1.5H1.5V4.5H-1.5V1.5H-4.5V-1.5H-1.5Z",
  "M0-5L4.8-1.5L3 4H-3L-4.8-1.5Z",
  "M0-5.4L1.5-1.6L5.3-1.5L2.3.9L3.3 4.6L0 2.4L-3.3 4.6L-2.3.9L-5.3-1.5L-1.5-1.6Z",
];

const marker = (series) => MARKERS[series.place % MARKERS.length];
const look = (series) =>
  `series c${series.place % 8}${series.dashed ? " dashed" : ""}${series.subject ? " subject" : ""}`;

function swatch(series) {
  const size = { width: 30, height: 14, viewBox: "-15 -7 30 14" };
  const svg = element("svg:svg", { ...size, "aria-hidden": "true", class: look(series) });
  if (series.line !== false) svg.append(element("svg:path", { d: "M-15 0H15", class: "line" }));
  svg.append(element("svg:path", { d: marker(series), class: "mark" }));
  return svg;
}

function set(node, attributes) {
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
}

let chartCount = 0;

class Chart {
  // spec() gives {label, empty, x: {label, log, range, marks}, y: {log, include}, rule, zoom, series: [{name, label,
  // place, line, dashed, subject, points: [{x, y, text, tip, pick}]}]}. `tip` is a list of lines, `marks` are names at
  // 1, 2, 3 ... in place of numbers, and `zoom` is told the ends of what was dragged over, or null for the whole.
  constructor(host, spec) {
    Object.assign(this, { host, spec, id: `chart${chartCount++}`, current: null, dim: null, width: 0 });
    this.tip = element("div", { class: "tip", hidden: true });
    host.replaceChildren(this.tip);
    new ResizeObserver(() => { if (Math.abs(host.clientWidth - this.width) > 1) this.draw(); }).observe(host);
    whenChanged(() => this.draw());
    const paper = host.closest(".pair") ? [340, 265] : [680, 360]; // about as large as on a printed page
    addEventListener("beforeprint", () => this.draw(...paper));
    addEventListener("afterprint", () => this.draw());
  }

  draw(W = this.host.clientWidth || 720, H = this.host.clientHeight || 420) {
    const spec = this.spec();
    const svg = element("svg:svg", {
      viewBox: `0 0 ${W} ${H}`, role: "application", tabindex: 0, "aria-roledescription": "chart",
      "aria-label": `${spec.label}. Arrow keys walk through the points.`, class: spec.zoom ? "plot zoomable" : "plot",
    });
    const focused = this.svg && document.activeElement === this.svg;
    this.hide();
    if (this.svg) this.svg.remove();
    this.host.prepend(svg);
    Object.assign(this, { svg, W, H, width: this.host.clientWidth, points: [] });
    const drawable = (p) => Number.isFinite(p.x) && Number.isFinite(p.y) && (!spec.x.log || p.x > 0);
    const series = spec.series
      .map((one) => ({ ...one, points: one.points.filter(drawable) }))
      .filter((one) => one.points.length);
    if (!series.length) {
      svg.append(element("svg:text", { x: W / 2, y: H / 2, class: "empty" }, spec.empty));
      return;
    }
    const { X, Y } = this.axes(spec, series);
    const { box } = this;
    const size = { width: box.right - box.left + 12, height: box.bottom - box.top + 12 };
    const edge = element("svg:rect", { x: box.left - 6, y: box.top - 6, ...size });
    svg.append(element("svg:clipPath", { id: this.id }, edge));
    if (spec.rule != null) {
      svg.append(element("svg:path", { class: "rule", d: `M${box.left} ${Y(spec.rule)}H${box.right}` }));
    }
    const body = element("svg:g", { "clip-path": `url(#${this.id})` });
    const inFront = (one) => (one.subject ? 1 : 0);
    series.sort((a, b) => inFront(a) - inFront(b)).forEach((one) => body.append(this.line(one, X, Y)));
    this.ring = element("svg:circle", { r: 9, class: "ring", visibility: "hidden" });
    svg.append(body, this.ring);
    this.listen(spec, X);
    this.fade(this.dim);
    if (focused) svg.focus();
  }

  axes(spec, series) {
    const { W, H } = this;
    const every = series.flatMap((one) => one.points);
    const [x0, x1] = spec.x.range || padded(every.map((p) => p.x), spec.x.log);
    const seen = spec.x.range ? series.flatMap((one) => between(one.points, x0, x1)) : [];
    const [y0, y1] = padded([...(seen.length ? seen : every.map((p) => p.y)), ...(spec.y.include || [])], spec.y.log);
    const yTicks = ticks(y0, y1, Math.max(3, Math.round(H / 56)), spec.y.log);
    const yTexts = tickTexts(yTicks, spec.y.log);
    const { marks } = spec.x;
    const named = marks && W / marks.length > 17;
    const left = 14 + 7.2 * Math.max(...yTexts.map((text) => text.length));
    const box = { left, right: W - 12, top: 12, bottom: H - (named ? 92 : 42) };
    const X = makeScale(x0, x1, box.left, box.right, spec.x.log);
    const Y = makeScale(y0, y1, box.bottom, box.top, spec.y.log);
    const grid = element("svg:g", { class: "grid" });
    const text = (value, attributes) => grid.append(element("svg:text", attributes, value));
    yTicks.forEach((tick, at) => {
      grid.append(element("svg:path", { d: `M${box.left} ${Y(tick).toFixed(1)}H${box.right}` }));
      text(yTexts[at], { x: box.left - 7, y: Y(tick) + 4, class: "end" });
    });
    const xTicks = marks ? [] : ticks(x0, x1, Math.max(3, Math.round(W / 90)), spec.x.log);
    const xTexts = tickTexts(xTicks, spec.x.log);
    xTicks.forEach((tick, at) => {
      grid.append(element("svg:path", { d: `M${X(tick).toFixed(1)} ${box.top}V${box.bottom}` }));
      text(xTexts[at], { x: X(tick), y: box.bottom + 18, class: "middle" });
    });
    for (const [at, name] of named ? marks.entries() : []) {
      const place = `translate(${(X(at + 1) + 4).toFixed(1)} ${box.bottom + 8}) rotate(-60)`;
      text(name.length > 10 ? `${name.slice(0, 9)}\u2026` : name, { class: "end", transform: place });
    }
    text(spec.x.label, { x: (box.left + box.right) / 2, y: H - 5, class: "middle title" });
    this.svg.append(grid);
    this.box = box;
    return { X, Y };
  }

  line(one, X, Y) {
    const group = element("svg:g", { class: look(one), "data-name": one.name });
    const places = one.points.map((p) => [X(p.x), Y(p.y)]);
    if (one.line !== false) {
      const path = places.map(([px, py]) => `${px.toFixed(1)} ${py.toFixed(1)}`).join("L");
      group.append(element("svg:path", { d: `M${path}`, class: "line" }));
    }
    const scale = one.line === false ? " scale(1.25)" : "";
    one.points.forEach((p, at) => {
      const [px, py] = places[at];
      const transform = `translate(${px.toFixed(1)} ${py.toFixed(1)})${scale}`;
      group.append(element("svg:path", { d: marker(one), class: "mark", transform }));
      if (p.text) {
        const late = px + 7 * p.text.length + 12 > this.W; // no room to the right
        const place = { class: late ? "label end" : "label", x: px + (late ? -9 : 9), y: py - 7 };
        group.append(element("svg:text", place, p.text));
      }
      if (px >= this.box.left - 1 && px <= this.box.right + 1) this.points.push({ ...p, px, py, one });
    });
    return group;
  }

  listen(spec, X) {
    const { svg, box } = this;
    const at = (event) => {
      const frame = svg.getBoundingClientRect();
      const [x, y] = [event.clientX - frame.left, event.clientY - frame.top];
      return [(x * this.W) / frame.width, (y * this.H) / frame.height];
    };
    const size = { y: box.top, height: box.bottom - box.top };
    const band = element("svg:rect", { class: "band", ...size, visibility: "hidden" });
    svg.append(band);
    let [from, ready] = [null, false];
    svg.addEventListener("pointermove", (event) => {
      const [x, y] = at(event);
      if (from == null || Math.abs(x - from) <= 6) {
        this.near(x, y, event.pointerType === "mouse" ? 30 : 44);
        return;
      }
      this.hide();
      const [a, b] = [Math.min(x, from), Math.max(x, from)].map((v) => Math.min(box.right, Math.max(box.left, v)));
      set(band, { x: a, width: b - a, visibility: "visible" });
    });
    svg.addEventListener("pointerleave", (event) => {
      if (event.pointerType === "mouse" && from == null) this.hide();
    });
    svg.addEventListener("pointerdown", (event) => {
      const [x, y] = at(event);
      if (event.pointerType !== "mouse") { // the first tap on a point shows it, the second one picks it
        const before = this.current;
        this.near(x, y, 44);
        ready = before != null && before === this.current;
      } else if (spec.zoom && event.button === 0) {
        from = x;
        svg.setPointerCapture(event.pointerId);
      }
    });
    const release = (event) => {
      const [start, [x]] = [from, at(event)];
      from = null;
      band.setAttribute("visibility", "hidden");
      if (event.type === "pointerup" && start != null && Math.abs(x - start) > 6) {
        spec.zoom([X.back(Math.min(x, start)), X.back(Math.max(x, start))]);
      }
    };
    svg.addEventListener("pointerup", release);
    svg.addEventListener("pointercancel", release);
    svg.addEventListener("click", (event) => {
      if (this.current?.pick && (ready || event.pointerType === "mouse")) this.current.pick();
    });
    svg.addEventListener("dblclick", () => { if (spec.zoom) spec.zoom(null); });
    svg.addEventListener("keydown", (event) => this.key(event));
    svg.addEventListener("blur", () => this.hide());
  }

  near(x, y, reach) {
    let [best, least] = [null, reach];
    for (const point of this.points) {
      const distance = Math.hypot(point.px - x, point.py - y);
      if (distance < least) [best, least] = [point, distance];
    }
    if (best) this.show(best);
    else this.hide();
  }

  // Left and right go along a curve, up and down to the nearest point of another one.
  key(event) {
    if (event.key === "Escape") this.hide();
    if (event.key === "Enter" && this.current?.pick) this.current.pick();
    const steps = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
    const [dx, dy] = steps[event.key] || [0, 0];
    if ((!dx && !dy) || !this.points.length) return;
    event.preventDefault();
    const all = [...new Set(this.points.map((p) => p.one))];
    const now = this.current || { one: all[all.length - 1], px: -1e9 };
    const one = dy ? all[(all.indexOf(now.one) + dy + all.length) % all.length] : now.one;
    const line = this.points.filter((p) => p.one === one).sort((a, b) => a.px - b.px);
    const closer = (a, b) => (Math.abs(b.px - now.px) < Math.abs(a.px - now.px) ? b : a);
    const place = line.indexOf(this.current);
    const next = dy ? line.reduce(closer) : line[place < 0 ? 0 : Math.min(line.length - 1, Math.max(0, place + dx))];
    this.show(next);
    announce(next.tip.join(", "));
  }

  show(point) {
    if (this.current === point) return;
    this.current = point;
    set(this.ring, { cx: point.px, cy: point.py, visibility: "visible", class: `ring ${look(point.one)}` });
    this.svg.classList.toggle("picks", Boolean(point.pick));
    this.tip.replaceChildren(...point.tip.map((line, at) => element(at ? "div" : "strong", {}, line)));
    this.tip.hidden = false;
    const scale = this.host.clientWidth / this.W;
    const [x, y, w, h] = [point.px * scale, point.py * scale, this.tip.offsetWidth, this.tip.offsetHeight];
    const left = x + 14 + w > this.host.clientWidth ? x - w - 14 : x + 14;
    this.tip.style.left = `${Math.max(0, left)}px`;
    this.tip.style.top = `${Math.min(Math.max(0, y - h / 2), this.host.clientHeight - h)}px`;
  }

  hide() {
    this.current = null;
    this.tip.hidden = true;
    if (this.ring) this.ring.setAttribute("visibility", "hidden");
    if (this.svg) this.svg.classList.remove("picks");
  }

  fade(name) {
    this.dim = name;
    for (const group of $$("g.series", this.svg)) {
      group.classList.toggle("faded", name != null && group.dataset.name !== name);
    }
  }
}

// Buttons that switch curves on and off everywhere, and bring one forward while they are pointed at.
function legend(host, series, charts) {
  host.replaceChildren();
  for (const one of series) {
    const fade = (name) => () => charts.forEach((chart) => chart.fade(name));
    const button = element("button", {
      type: "button", title: one.title,
      onclick: (event) => toggleHidden(one.name, event.shiftKey || event.altKey),
      onmouseenter: fade(one.name), onmouseleave: fade(null), onfocus: fade(one.name), onblur: fade(null),
    }, swatch(one), element("span", { class: "name" }, one.label, element("small", {}, one.note || "")));
    host.append(button);
    whenChanged(() => button.setAttribute("aria-pressed", !hidden().has(one.name)));
  }
}
