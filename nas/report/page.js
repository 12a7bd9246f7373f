"use strict";
// Draws the page's plots from the JSON in #data. Every run is {name, color, columns, text, front, baseline, …}.
const data = JSON.parse(document.getElementById("data").textContent);
const INK = "#1f2933", PALE = "#9aa5b1", MARK = "#d64545", GRID = "#e4e7eb", FONT = "system-ui, -apple-system, Segoe UI, Roboto, Arial, sans-serif";
const SETTINGS = {responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]]};
const PLAIN = Object.assign({}, SETTINGS, {displayModeBar: false});
// Beyond so many points, SVG is too slow and WebGL draws them, which takes a while to start.
const MANY = 6000;
const kind = n => n > MANY ? "scattergl" : "scatter";
const pick = (list, places) => places.map(i => list[i]);
const rest = (run, keep) => run.front_of.map((f, i) => i).filter(keep);

function axis(title, extra) {
  return Object.assign({title: {text: title, standoff: 8}, gridcolor: GRID, linecolor: PALE, zeroline: false, ticks: "outside", tickcolor: PALE, automargin: true}, extra);
}
// Ticks at 1, 2, 5 of each decade, where those are not too many.
function scaled(metric, values) {
  if (!metric.log || !values.length) return {type: metric.log ? "log" : "linear"};
  const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
  const first = Math.floor(Math.log10(low)), last = Math.ceil(Math.log10(high));
  if (last - first > 4) return {type: "log"};
  const ticks = [];
  for (let d = first; d <= last; d++) for (const m of [1, 2, 5]) ticks.push(Number(`${m}e${d}`));
  return {type: "log", tickvals: ticks, ticktext: ticks.map(t => t.toLocaleString("en", {maximumSignificantDigits: 3}))};
}
function layout(extra) {
  return Object.assign({
    font: {family: FONT, size: 12, color: INK}, paper_bgcolor: "#fff", plot_bgcolor: "#fff",
    margin: {l: 60, r: 16, t: 36, b: 48}, hovermode: "closest",
    hoverlabel: {bgcolor: "#fff", bordercolor: PALE, align: "left", font: {family: FONT, size: 12, color: INK}},
    legend: {orientation: "h", x: 0, y: 1.02, yanchor: "bottom", font: {size: 12}},
  }, extra);
}

// A bound is drawn unless it is so far off that it would press all points together.
function bound(metric, side, values) {
  if (metric.bound === null || !values.length) return null;
  const low = values.reduce((a, b) => Math.min(a, b)), high = values.reduce((a, b) => Math.max(a, b));
  const near = metric.log ? low / 3 <= metric.bound && metric.bound <= high * 3
    : Math.abs(metric.bound - (low + high) / 2) <= Math.max(high - low, 1e-12);
  if (!near) return null;
  const across = side === "x";
  const at = metric.log ? Math.log10(metric.bound) : metric.bound;
  return {
    shape: Object.assign({type: "line", line: {color: MARK, width: 1, dash: "dash"}, layer: "below"},
      across ? {x0: metric.bound, x1: metric.bound, y0: 0, y1: 1, yref: "paper"} : {y0: metric.bound, y1: metric.bound, x0: 0, x1: 1, xref: "paper"}),
    annotation: Object.assign({text: metric.bound_text, showarrow: false, font: {color: MARK, size: 11}},
      across ? {x: at, y: 1, yref: "paper", xanchor: "left", yanchor: "top", xshift: 3} : {y: at, x: 1, xref: "paper", xanchor: "right", yanchor: "bottom"}),
  };
}

function staircase(run, x, y) {
  // Left of each member lies what only the member before it reaches, or what none does.
  const places = rest(run, i => run.front_of[i] === 2).sort((a, b) => run.columns[x.name][a] - run.columns[x.name][b]);
  return {x: pick(run.columns[x.name], places), y: pick(run.columns[y.name], places), mode: "lines", hoverinfo: "skip", showlegend: false,
    line: {color: run.color, width: 1, shape: x.goal === "min" ? "hv" : "vh"}, opacity: 0.5};
}

function points(run, x, y, wanted, style, label) {
  const known = i => run.columns[x.name][i] !== null && run.columns[y.name][i] !== null;
  const places = rest(run, i => run.front_of[i] === wanted && known(i));
  return Object.assign({x: pick(run.columns[x.name], places), y: pick(run.columns[y.name], places), text: pick(run.text, places), mode: "markers",
    type: kind(places.length), name: `${label} (${places.length.toLocaleString("en")})`, hovertemplate: "%{text}<extra></extra>"}, style);
}

function drawFront(place) {
  const x = data.metrics[+document.getElementById("x").value], y = data.metrics[+document.getElementById("y").value];
  const traces = [], single = data.runs.length === 1;
  for (const run of data.runs) {
    const group = single ? {} : {legendgroup: run.name};
    if (single) traces.push(points(run, x, y, 0, {marker: {color: "#fff", size: 6, line: {color: "#cbd2d9", width: 1}}}, "misses a bound"));
    traces.push(points(run, x, y, 1, Object.assign({showlegend: single, marker: {color: single ? PALE : run.color, size: single ? 6 : 5, opacity: single ? 0.8 : 0.3}}, group), "feasible"));
    if (data.goals === 2 && x.goal !== "none" && y.goal !== "none" && x.goal !== "limit" && y.goal !== "limit" && x !== y) traces.push(staircase(run, x, y));
    traces.push(points(run, x, y, 2, Object.assign({marker: {color: run.color, size: 9, symbol: run.symbol, line: {color: "#fff", width: 1}}}, group), single ? "front" : run.name));
    const b = run.baseline;
    if (b && b.values[x.name] != null && b.values[y.name] != null) traces.push({x: [b.values[x.name]], y: [b.values[y.name]], text: [b.text], mode: "markers", name: single ? "baseline" : `baseline of ${run.name}`, showlegend: single,
      marker: {symbol: "star", size: 15, color: single ? MARK : run.color, line: {color: "#fff", width: 1}}, hovertemplate: "%{text}<extra></extra>", ...group});
  }
  const seen = side => traces.flatMap(t => (t.showlegend === false && single) ? [] : t[side]).filter(v => v !== null);
  const marks = [bound(x, "x", seen("x")), bound(y, "y", seen("y"))].filter(m => m);
  const shown = traces.filter(t => t.x.length);
  return Plotly.react(place, shown, layout({
    xaxis: axis(x.label, scaled(x, seen("x"))), yaxis: axis(y.label, scaled(y, seen("y"))),
    shapes: marks.map(m => m.shape), annotations: marks.map(m => m.annotation), showlegend: true,
  }), innerWidth < 720 ? PLAIN : SETTINGS);
}

function drawCurve(place, over, title) {
  const traces = data.runs.map(run => ({x: run.volume[over], y: run.volume.volumes, mode: "lines", name: run.name, showlegend: data.runs.length > 1,
    line: {shape: "hv", color: run.color, width: 2, dash: run.dash}, hovertemplate: `%{y:.4f} after %{x:,.6~g}<extra>${data.runs.length > 1 ? "%{fullData.name}" : ""}</extra>`}));
  return Plotly.newPlot(place, traces, layout({margin: {l: 56, r: 12, t: data.runs.length > 1 ? 36 : 12, b: 44},
    xaxis: axis(title, {rangemode: "tozero"}), yaxis: axis("hypervolume", {rangemode: "tozero"})}), PLAIN);
}

function drawImportance(place, one) {
  const names = one.names.slice().reverse(), shares = one.shares.slice().reverse();
  return Plotly.newPlot(place, [{type: "bar", orientation: "h", x: shares, y: names, marker: {color: "#0b69a3"}, hovertemplate: "%{y}: %{x:.1%}<extra></extra>"}],
    layout({title: {text: one.label, font: {size: 13}, x: 0, xanchor: "left", xref: "container", pad: {l: 4}}, margin: {l: 8, r: 16, t: 34, b: 32},
      xaxis: axis("", {tickformat: ".0%", rangemode: "tozero"}), yaxis: {automargin: true, ticks: "", type: "category", ticksuffix: " "}, bargap: 0.35}), PLAIN);
}

// The front first, so that the page can be read at once; every other plot when it comes near to what is seen.
const waiting = new Map();
const here = id => document.getElementById(id);
const near = new IntersectionObserver(seen => seen.filter(one => one.isIntersecting).forEach(one => drawNow(one.target)), {rootMargin: "300px"});
function drawLater(id, draw) {
  if (here(id)) { waiting.set(here(id), draw); near.observe(here(id)); }
}
async function drawNow(place) {
  const draw = waiting.get(place);
  waiting.delete(place);
  near.unobserve(place);
  if (draw) await draw(place);
}
async function drawAll() {
  await Promise.all([...waiting.keys()].map(drawNow));
  performance.mark("all");
}
addEventListener("beforeprint", drawAll);
async function draw() {
  await drawFront(here("front-plot"));
  for (const id of ["x", "y"]) here(id).addEventListener("change", () => drawFront(here("front-plot")));
  performance.mark("front");
  drawLater("volume-trials", place => drawCurve(place, "trials", "trials"));
  drawLater("volume-time", place => drawCurve(place, "time", data.time_unit));
  (data.importance || []).forEach((one, i) => {
    here(`importance-${i}`).style.height = `${70 + 22 * one.names.length}px`;
    drawLater(`importance-${i}`, place => drawImportance(place, one));
  });
  drawLater("parallel-plot", drawParallel);
}
window.drawn = draw();
