// Pictures at matched rate: to flip between, split and enlarge.

function describe(one) {
  if (!one.row) return "original";
  const values = D.metrics.filter((metric) => valueOf(one.row, metric) != null).slice(0, 3)
    .map((metric) => `${metric.title} ${valueText(metric, valueOf(one.row, metric))}`);
  const size = `${one.name} at quality ${one.row.quality}: ${bytes(one.row.size)}`;
  return [size, rateText(one.row.rate), ...values].join(", ");
}

function setUpViewer() {
  const host = $("#viewer");
  const controls = element("div", { class: "controls" });
  const canvas = element("div", { class: "canvas" });
  const stage = element("div", { class: "stage", tabindex: 0, role: "img" }, canvas);
  const handle = element("input", {
    type: "range", min: 0, max: 100, step: 0.5, value: 50, class: "handle", "aria-label": "Where the picture is split",
  });
  const divider = element("div", { class: "divider" });
  const caption = element("p", { class: "caption", "aria-live": "polite" });
  const table = element("div");
  host.append(controls, stage, handle, caption, table);
  sampleControls(controls);
  const zooms = [["", "Fit"], ["1", "1\u00d7"], ["2", "2\u00d7"], ["4", "4\u00d7"]];
  segments(controls, "Zoom", zooms, () => state.scale, (value) => change({ scale: value }));
  const other = element("select", { onchange: () => change({ split: other.value }) });
  controls.append(element("label", { class: "choice" }, element("span", {}, "Split with"), other));
  let [images, built, holding] = [[], null, false];

  const paint = () => {
    const shown = shownOf(groupOf());
    const now = holding ? shown[0] : currentOf(shown);
    const found = holding ? null : shown.find((one) => one.name === state.split);
    const left = found && found.name !== now.name ? found : null;
    images.forEach((image, at) => {
      const isLeft = shown[at].name === left?.name;
      image.classList.toggle("on", isLeft || shown[at].name === now.name);
      image.style.clipPath = isLeft ? `inset(0 ${100 - handle.value}% 0 0)` : "";
      image.style.zIndex = isLeft ? 1 : 0;
    });
    divider.hidden = handle.hidden = !left;
    divider.style.left = `${handle.value}%`;
    caption.textContent = (left ? `left: ${left.name}, right: ` : "") + describe(now);
    stage.setAttribute("aria-label", caption.textContent);
  };
  const build = (group, shown) => {
    images = shown.map((one) => element("img", {
      src: one.src, alt: "", width: group.width, height: group.height, draggable: "false",
    }));
    canvas.replaceChildren(...images, divider);
    const names = [["", "nothing"], ...shown.map((one) => [one.name, one.name])];
    other.replaceChildren(...names.map(([value, text]) => element("option", { value }, text)));
  };
  const layout = () => {
    const group = groupOf();
    const shown = shownOf(group);
    if (built !== levelOf(group)) {
      built = levelOf(group);
      build(group, shown);
    }
    other.value = shown.some((one) => one.name === state.split) ? state.split : "";
    const room = stage.clientWidth || group.width;
    const fit = room >= group.width ? Math.min(2, Math.floor(room / group.width)) : room / group.width;
    const scale = Number(state.scale) || fit;
    canvas.style.width = `${group.width * scale}px`;
    canvas.style.height = `${group.height * scale}px`;
    canvas.classList.toggle("pixels", scale >= 1);
    paint();
  };
  whenChanged((before) => {
    const middle = [
      (stage.scrollLeft + stage.clientWidth / 2) / (canvas.offsetWidth || 1),
      (stage.scrollTop + stage.clientHeight / 2) / (canvas.offsetHeight || 1),
    ];
    layout();
    if (before.scale !== state.scale) { // what was in the middle stays there
      stage.scrollLeft = middle[0] * canvas.offsetWidth - stage.clientWidth / 2;
      stage.scrollTop = middle[1] * canvas.offsetHeight - stage.clientHeight / 2;
    }
  });
  new ResizeObserver(layout).observe(stage);
  handle.addEventListener("input", paint);

  const hold = (on) => {
    if (holding === on) return;
    holding = on;
    paint();
  };
  const splitAt = (event) => {
    const frame = canvas.getBoundingClientRect();
    handle.value = (100 * (event.clientX - frame.left)) / frame.width;
    paint();
  };
  setUpDragging(stage, hold, splitAt, () => !divider.hidden);
  stage.addEventListener("contextmenu", (event) => { if (holding) event.preventDefault(); });
  stage.addEventListener("blur", () => hold(false));
  host.addEventListener("keyup", (event) => { if (event.key === " ") hold(false); });
  sampleKeys(host, (event) => {
    if (event.key !== " " || event.target.matches("button")) return false;
    hold(true);
    return true;
  });
  sampleTable(table);
}

// Holding the picture shows the original; dragging moves it, or the split where there is one.
function setUpDragging(stage, hold, splitAt, isSplit) {
  let start = null;
  stage.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    start = { x: event.clientX, y: event.clientY, left: stage.scrollLeft, top: stage.scrollTop };
    if (isSplit()) splitAt(event);
    else hold(true);
    if (event.pointerType === "mouse") stage.setPointerCapture(event.pointerId);
  });
  stage.addEventListener("pointermove", (event) => {
    if (!start) return;
    const [dx, dy] = [event.clientX - start.x, event.clientY - start.y];
    if (isSplit()) splitAt(event);
    else if (event.pointerType === "mouse" && Math.hypot(dx, dy) >= 4) { // fingers scroll by themselves
      hold(false);
      stage.scrollLeft = start.left - dx;
      stage.scrollTop = start.top - dy;
    }
  });
  for (const type of ["pointerup", "pointercancel", "lostpointercapture"]) {
    stage.addEventListener(type, () => {
      start = null;
      hold(false);
    });
  }
}
