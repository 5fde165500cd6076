// Axes: ticks, their texts, and what range of values a chart shows.

// Round numbers between two ends; on a logarithmic axis, 1-2-5 or decades.
function ticks(low, high, wanted, log) {
  const decades = log ? Math.log10(high / low) : 0;
  if (decades > 0.7) {
    const steps = decades > wanted / 2 ? [1] : decades > wanted / 4 ? [1, 3] : [1, 2, 5];
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      found.push(...steps.map((step) => step * 10 ** power));
    }
    const every = decades > wanted ? Math.ceil(decades / wanted) : 1;
    return found.filter((tick) => tick >= low * 0.999 && tick <= high * 1.001).filter((_, at) => at % every === 0);
  }
  const rough = (high - low) / wanted;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 2.5, 5].find((factor) => factor * power >= rough) || 10);
  const found = [];
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + step * 1e-9; n++) found.push(n * step);
  return found;
}

// As few decimals as tell the ticks apart; on a logarithmic axis over a wide range, each its own.
function tickTexts(all, log) {
  if (log && all[all.length - 1] > 5 * all[0]) return all.map((tick) => String(+tick.toPrecision(2)));
  const step = all[1] - all[0] || 1;
  const exact = (places) => all.every((tick) => Math.abs(tick - tick.toFixed(places)) < 1e-4 * step);
  const places = [0, 1, 2, 3, 4, 5].find(exact) ?? 6;
  return all.map((tick) => signed(tick.toFixed(places)));
}

// The ordinates of a line between two abscissae, so that a zoomed axis fits what is seen.
function between(points, low, high) {
  const seen = points.filter((point) => point.x >= low && point.x <= high).map((point) => point.y);
  for (let at = 1; at < points.length; at++) {
    const [a, b] = [points[at - 1], points[at]];
    for (const edge of [low, high]) {
      if ((a.x - edge) * (b.x - edge) < 0) seen.push(a.y + ((b.y - a.y) * (edge - a.x)) / (b.x - a.x));
    }
  }
  return seen;
}

// The range of values with some room around.
function padded(values, log, share = 0.04) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (log) {
    const factor = Math.max((high / low) ** share, 1.02);
    return [low / factor, high * factor];
  }
  if (high === low) [low, high] = [low - (Math.abs(low) * 0.05 || 1), high + (Math.abs(high) * 0.05 || 1)];
  const pad = (high - low) * share;
  return [low >= 0 && low - pad < 0 ? 0 : low - pad, high + pad];
}

// From values to pixels, and back.
function makeScale(low, high, from, to, log) {
  const share = (value) => (log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low));
  const scale = (value) => from + (to - from) * share(value);
  scale.back = (pixel) => {
    const part = Math.min(1, Math.max(0, (pixel - from) / (to - from)));
    return log ? low * (high / low) ** part : low + (high - low) * part;
  };
  return scale;
}
