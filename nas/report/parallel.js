"use strict";
// Parallel coordinates on a plain canvas: starting WebGL takes seconds where there is no graphics card.
// Drag along an axis to choose a range of it, click on it to choose all again; whatever misses a range turns pale.
function drawParallel(place) {
  const p = data.parallel, ranges = new Map(), n = p.dimensions.length;
  const canvas = document.createElement("canvas"), svg = make("svg", {});
  let width = 0, height = 0;
  const TOP = 92, BOTTOM = 24, LEFT = 48, RIGHT = 92;
  place.style.minWidth = `${72 * n + 100}px`;
  place.classList.add("parallel");
  place.replaceChildren(canvas, svg);

  function make(name, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }
  const plain = text => new DOMParser().parseFromString(text, "text/html").documentElement.textContent;
  const ends = p.dimensions.map(d => {
    const found = d.range || [Math.min(...d.values), Math.max(...d.values)];
    return found[0] === found[1] ? [found[0] - 0.5, found[1] + 0.5] : found;
  });
  const x = i => LEFT + (n > 1 ? i * (width - LEFT - RIGHT) / (n - 1) : 0);
  const y = (i, v) => TOP + (1 - (v - ends[i][0]) / (ends[i][1] - ends[i][0])) * (height - TOP - BOTTOM);

  // The pale end of the scale is the worse one, and the better ones are drawn over the worse ones.
  const known = p.color.filter(c => c !== null), low = Math.min(...known), high = Math.max(...known);
  const good = p.color.map(c => c === null || high === low ? 0 : p.better === "max" ? (c - low) / (high - low) : (high - c) / (high - low));
  const stops = [[217, 226, 236], [98, 176, 217], [11, 79, 125]];
  const shade = g => `rgb(${[0, 1, 2].map(k => { const at = Math.min(1, Math.floor(2 * g)), part = 2 * g - at; return Math.round(stops[at][k] * (1 - part) + stops[at + 1][k] * part); })})`;
  const order = good.map((_, k) => k).sort((a, b) => good[a] - good[b]);
  const chosen = k => [...ranges].every(([i, [from, to]]) => { const at = y(i, p.dimensions[i].values[k]); return from <= at && at <= to; });

  function lines() {
    const scale = window.devicePixelRatio || 1, pen = canvas.getContext("2d");
    canvas.width = width * scale; canvas.height = height * scale;
    pen.scale(scale, scale);
    pen.globalAlpha = 0.7;
    const kept = order.filter(chosen), rest = ranges.size ? order.filter(k => !chosen(k)) : [];
    for (const [some, color] of [[rest, () => "rgba(228, 231, 235, 0.5)"], [kept, k => shade(good[k])]]) for (const k of some) {
      pen.strokeStyle = color(k);
      pen.beginPath();
      p.dimensions.forEach((d, i) => i ? pen.lineTo(x(i), y(i, d.values[k])) : pen.moveTo(x(i), y(i, d.values[k])));
      pen.stroke();
    }
    place.dataset.chosen = kept.length;
  }

  function ticks(d, i) {
    if (d.tickvals) return d.tickvals.map((v, k) => [v, plain(d.ticktext[k])]);
    return [0, 1, 2, 3, 4].map(k => ends[i][0] + k * (ends[i][1] - ends[i][0]) / 4).map(v => [v, Number(v.toPrecision(3)).toLocaleString("en", {maximumSignificantDigits: 3})]);
  }

  function axes() {
    svg.replaceChildren();
    svg.setAttribute("width", width); svg.setAttribute("height", height);
    p.dimensions.forEach((d, i) => {
      const group = svg.appendChild(make("g", {transform: `translate(${x(i)},0)`}));
      group.appendChild(make("text", {class: "name", transform: `translate(-4,${TOP - 12}) rotate(-22)`}, plain(d.label)));
      group.appendChild(make("line", {y1: TOP, y2: height - BOTTOM, class: "axis"}));
      for (const [v, text] of ticks(d, i)) {
        group.appendChild(make("line", {x1: -3, x2: 0, y1: y(i, v), y2: y(i, v), class: "axis"}));
        group.appendChild(make("text", {x: 5, y: y(i, v) + 3, class: "tick"}, text));
      }
      const mark = group.appendChild(make("rect", {x: -5, width: 10, y: 0, height: 0, class: "range"}));
      const hold = group.appendChild(make("rect", {x: -10, width: 20, y: TOP - 6, height: height - TOP - BOTTOM + 12, class: "hold"}));
      const show = () => { const r = ranges.get(i) || [0, 0]; mark.setAttribute("y", r[0]); mark.setAttribute("height", r[1] - r[0]); };
      let from = null;
      const at = event => event.clientY - svg.getBoundingClientRect().top;
      hold.addEventListener("pointerdown", event => { from = at(event); hold.setPointerCapture(event.pointerId); ranges.delete(i); show(); lines(); });
      hold.addEventListener("pointermove", event => {
        if (from === null || Math.abs(at(event) - from) < 3) return;
        ranges.set(i, [Math.min(from, at(event)), Math.max(from, at(event))]);
        show(); lines();
      });
      hold.addEventListener("pointerup", () => { from = null; });
    });
  }

  function redraw() {
    if (width === place.clientWidth && height === place.clientHeight) return;
    width = place.clientWidth; height = place.clientHeight;
    ranges.clear();
    lines(); axes();
  }
  redraw();
  new ResizeObserver(redraw).observe(place);
}
