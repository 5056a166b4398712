// The dashboard: pages chosen by the address's hash, data from the admin API with the token that was asked for once.
// What comes from the node is only ever written as text, never as markup.
"use strict";

const TOKEN = "forerun-token";
const REFRESH_MS = 2000;
const LINES_MAX = 300;
const RETRY_MS = [500, 1000, 2000, 5000];
const PHASES = [["route", "routed_us"], ["admit", "admitted_us"], ["deploy", "deployed_us"],
  ["first byte", "first_byte_us"], ["rest", "total_us"]];
const COLOURS = ["#2f7df6", "#17a673", "#e0a526", "#8b5cf6", "#e5484d", "#0ea5b7", "#d946a8", "#94a3b8"];

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const statusLine = document.getElementById("status");

// ---- elements

/** An element; properties that are functions listen, others are attributes; children are elements or text. */
function make(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else if (value !== undefined && value !== false) element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null));
  return element;
}

function svg(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** A table. Columns: [title, cell of a row, is it a number]; the first column heads its row. */
function table(caption, columns, rows, nothing) {
  if (rows.length === 0) return make("p", { class: "soft" }, nothing);
  const align = (column) => (column[2] ? "number" : undefined);
  const head = columns.map((column) => make("th", { scope: "col", class: align(column) }, column[0]));
  const body = rows.map((row) => make("tr", {}, columns.map((column, index) =>
    make(index === 0 ? "th" : "td", { scope: index === 0 ? "row" : undefined, class: align(column) }, column[1](row) ?? "–"))));
  // A region that scrolls must be reachable by keyboard.
  return make("div", { class: "scroll", role: "region", "aria-label": caption, tabindex: "0" },
    make("table", {}, make("thead", {}, make("tr", {}, head)), make("tbody", {}, body)));
}

function facts(pairs) {
  const rows = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return make("table", { class: "facts" }, make("tbody", {},
    rows.map(([name, value]) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value)))));
}

const card = (title, ...content) => make("section", { class: "card" }, make("h2", {}, title), ...content);

// ---- words and figures

function time(us) {
  if (us === undefined || us === null) return "–";
  if (us < 1000) return `${us} µs`;
  if (us < 1e6) return `${(us / 1000).toFixed(us < 10000 ? 2 : 1)} ms`;
  return `${(us / 1e6).toFixed(2)} s`;
}

function bytes(count) {
  if (count === undefined || count === null) return "–";
  const units = ["B", "KiB", "MiB", "GiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) { count /= 1024; unit += 1; }
  return `${unit === 0 ? count : count.toFixed(1)} ${units[unit]}`;
}

const number = (count) => (count === undefined ? "–" : count.toLocaleString("en"));
const clock = (us) => new Date(us / 1000).toLocaleTimeString("en-GB") + "." + String(Math.floor(us / 1000) % 1000).padStart(3, "0");
const functionLink = (name) => make("a", { href: `#/functions/${encodeURIComponent(name)}` }, name);
const requestLink = (id, text) => make("a", { href: `#/requests/${encodeURIComponent(id)}` }, text);

function outcome(row) {
  const kind = row.outcome !== "ok" || row.status >= 500 ? "bad" : row.status >= 400 ? "warn" : "good";
  return make("span", { class: kind }, row.outcome === "ok" ? String(row.status) : `${row.status} ${row.outcome}`);
}

function state(row) {
  const kind = { ready: "good", failed: "bad" }[row.state] ?? "warn";
  return make("span", { class: kind }, row.reason ? `${row.state}: ${row.reason}` : row.state);
}

/** The phases of a request, drawn to scale. */
function phaseBar(phases, narrow) {
  let before = 0;
  const total = Math.max(phases.total_us, 1);
  const parts = PHASES.map(([, key], index) => {
    const end = Math.max(before, phases[key]);
    const part = svg("rect", { class: `p${index}`, x: 1000 * before / total, y: 0, width: 1000 * (end - before) / total, height: 10 });
    before = end;
    return part;
  });
  return svg("svg", { class: narrow ? "phases narrow" : "phases", viewBox: "0 0 1000 10", preserveAspectRatio: "none", role: "img",
    "aria-label": durations(phases).map(([name, us]) => `${name} ${time(us)}`).join(", ") }, ...parts);
}

function durations(phases) {
  let before = 0;
  return PHASES.map(([name, key]) => {
    // A phase that was not reached has no time of its own.
    const end = Math.max(before, phases[key]);
    const duration = end - before;
    before = end;
    return [name, duration];
  });
}

function phaseKey(phases) {
  const swatch = (index) => svg("svg", { viewBox: "0 0 10 10", "aria-hidden": "true" },
    svg("rect", { class: `p${index}`, width: 10, height: 10, rx: 2 }));
  const parts = phases ? durations(phases) : PHASES.map(([name]) => [name]);
  return make("ul", { class: "key" }, parts.map(([name, us], index) =>
    make("li", {}, swatch(index), us === undefined ? name : `${name} ${time(us)}`)));
}

// ---- the API

class Unauthorized extends Error {}

async function ask(path, signal) {
  const response = await fetch(path, { signal, headers: { Authorization: `Bearer ${sessionStorage.getItem(TOKEN)}` } });
  if (response.status === 401) throw new Unauthorized();
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    throw new Error(problem.detail ?? `the node answered ${response.status}`);
  }
  return response;
}

const askJson = async (path, signal) => (await ask(path, signal)).json();
const askText = async (path, signal) => (await ask(path, signal)).text();

function say(text, lost = false) {
  // Said once, not every second, to those who listen.
  if (statusLine.textContent !== text) statusLine.textContent = text;
  statusLine.classList.toggle("lost", lost);
}

// ---- the live feed

const lines = [];
let feed;
const watchers = new Set();

async function follow(signal) {
  for (let failures = 0; !signal.aborted;) {
    try {
      const response = await ask("/v1/live", signal);
      failures = 0;
      lines.length = 0;
      say("live");
      await readLines(response.body, takeLine);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Unauthorized) return logIn("That token is not this node's.");
      say(`no live figures: ${error.message}`, true);
    }
    if (statusLine.textContent === "live") say("connection lost, trying again", true);
    await new Promise((done) => setTimeout(done, RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)]));
  }
}

async function readLines(body, take) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const events = (rest + value).split("\n\n");
    rest = events.pop();
    for (const event of events) if (event.startsWith("data: ")) take(JSON.parse(event.slice(6)));
    watchers.forEach((watch) => watch());
  }
}

function takeLine(line) {
  lines.push(line);
  if (lines.length > LINES_MAX) lines.shift();
}

function startFeed() {
  feed?.abort();
  feed = new AbortController();
  follow(feed.signal);
}

// ---- charts

const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const ofDay = (seconds) => new Date(seconds * 1000).toLocaleTimeString("en-GB");

/** A chart of the feed: `series` gives [label, value of a line, perhaps the number of its colour] for the lines there are. */
function chart(title, series, format) {
  const place = make("div", { class: "chart" });
  const section = card(title, place);
  let plot, drawn = "";
  // Without a pointer on the chart, the legend has the newest figures.
  const showLast = () => { if (plot.cursor.idx == null) plot.setLegend({ idx: lines.length - 1 }, false); };
  const draw = () => {
    const list = series();
    const labels = list.map(([label]) => label).join();
    const data = [lines.map((line) => line.unix_ms / 1000), ...list.map(([, value]) => lines.map(value))];
    const width = place.clientWidth;
    if (width === 0 || lines.length === 0) return;
    if (plot && drawn === labels) { plot.setData(data); showLast(); return; }
    plot?.destroy();
    drawn = labels;
    const grid = { stroke: ink("--line"), width: 1 };
    plot = new uPlot({
      width, height: 180, cursor: { drag: { x: false, y: false } },
      scales: { y: { range: (_, low, high) => [0, Math.max(high * 1.1, 1)] } },
      axes: [
        { stroke: ink("--soft"), grid, ticks: grid, space: 80, values: (_, ticks) => ticks.map(ofDay) },
        { stroke: ink("--soft"), grid, ticks: grid, size: 76, values: (_, ticks) => ticks.map(format) },
      ],
      series: [{ value: (_, value) => (value == null ? "–" : ofDay(value)) }, ...list.map(([label, , colour], index) => ({
        label, stroke: COLOURS[(colour ?? index) % COLOURS.length], width: 2, dash: label.endsWith("p99") ? [5, 4] : undefined,
        points: { show: lines.length < 3 }, spanGaps: false,
        value: (_, value) => (value === null || value === undefined ? "–" : format(value)),
      }))],
    }, data, place);
    showLast();
  };
  const again = () => { plot?.destroy(); plot = undefined; draw(); };
  const resized = new ResizeObserver(() => plot && plot.setSize({ width: place.clientWidth, height: 180 }));
  resized.observe(place);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", again);
  const end = () => { resized.disconnect(); dark.removeEventListener("change", again); plot?.destroy(); };
  return { section, draw, end };
}

const pathsSeen = () => [...new Set(lines.flatMap((line) => Object.keys(line.paths)))].sort();

// ---- pages: each draws itself into `main` and returns what ends it

function overview() {
  const tiles = make("dl", { class: "tiles" });
  const charts = [
    chart("Requests a second, by serve path", () => pathsSeen().map((path) => [path, (line) => line.paths[path]?.count ?? 0]), number),
    chart("Total latency, by serve path", () => pathsSeen().flatMap((path, index) => [
      [`${path} p50`, (line) => line.paths[path]?.p50_us ?? null, index],
      [`${path} p99`, (line) => line.paths[path]?.p99_us ?? null, index],
    ]), time),
    chart("Errors a second", () => [["errors", (line) => line.errors]], number),
    chart("Memory of the node", () => [["resident", (line) => line.memory_bytes]], bytes),
  ];
  const draw = () => {
    const last = lines.at(-1);
    if (!last) return;
    const tile = ([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value));
    tiles.replaceChildren(...[["Requests a second", number(last.invocations)], ["In flight", number(last.in_flight)],
      ["Queued", number(last.queued)], ["Connections", number(last.connections)], ["Errors a second", number(last.errors)],
      ["Refused since start", number(last.refused_total)], ["Memory", bytes(last.memory_bytes)]].map(tile));
    charts.forEach((one) => one.draw());
  };
  main.replaceChildren(make("h1", {}, "Overview"), tiles, make("div", { class: "charts" }, charts.map((one) => one.section)));
  watchers.add(draw);
  draw();
  return () => { watchers.delete(draw); charts.forEach((one) => one.end()); };
}

/** A page that asks again and again; what is shown stays where the reader is. */
function refreshed(title, load, show, every = REFRESH_MS) {
  const content = make("div");
  const stop = new AbortController();
  let timer, shown = "";
  main.replaceChildren(make("h1", {}, title), content);
  const turn = async () => {
    try {
      const data = await load(stop.signal);
      if (stop.signal.aborted) return;
      const text = JSON.stringify(data);
      // Nothing is touched while it is the same, or while someone is inside it with the keyboard.
      const inside = content.contains(document.activeElement) && document.activeElement !== content;
      if (text !== shown && !(inside && shown)) { content.replaceChildren(...show(data)); shown = text; }
    } catch (error) {
      if (stop.signal.aborted) return;
      if (error instanceof Unauthorized) return logIn("That token is not this node's.");
      content.replaceChildren(make("p", { class: "bad", role: "alert" }, error.message));
      shown = "";
    }
    if (every) timer = setTimeout(turn, every);
  };
  turn();
  return () => { stop.abort(); clearTimeout(timer); };
}

const functionsPage = () => refreshed("Functions", (signal) => askJson("/v1/functions", signal), (rows) => [card("Deployed",
  table("Functions", [
    ["Function", (row) => functionLink(row.spec.name)],
    ["State", state],
    ["Revision", (row) => number(row.revision), true],
    ["World", (row) => row.world || "–"],
    ["Code", (row) => bytes(row.code_bytes), true],
    ["Compiled in", (row) => time(row.compile_ms * 1000), true],
    ["In flight", (row) => number(row.in_flight), true],
    ["Queued", (row) => number(row.queued), true],
  ], rows, "Nothing is deployed. `forerun deploy` does that."))]);

const requestColumns = (withFunction) => [
  ["Time", (row) => requestLink(row.id, clock(row.started_unix_us))],
  ...(withFunction ? [["Function", (row) => functionLink(row.function)]] : []),
  ["Request", (row) => `${row.class.method} ${row.class.route}`],
  ["Outcome", outcome],
  ["Served", (row) => row.serve_path],
  ["Total", (row) => time(row.phases.total_us), true],
  ["Phases", (row) => phaseBar(row.phases, true)],
  ["Caller", (row) => row.caller ?? "–"],
];

const requestsPage = () => refreshed("Requests", (signal) => askJson("/v1/invocations?count=100", signal), (rows) => [
  card("The last hundred", table("Requests", requestColumns(true), rows, "No request has been served yet."), phaseKey())]);

function functionPage(name) {
  const path = encodeURIComponent(name);
  const load = (signal) => Promise.all([askJson(`/v1/functions/${path}`, signal),
    askJson(`/v1/invocations?count=50&function=${path}`, signal), askJson(`/v1/functions/${path}/paths`, signal),
    askJson(`/v1/functions/${path}/profile`, signal), askJson(`/v1/functions/${path}/prediction`, signal)]);
  return refreshed(name, load, ([row, recent, paths, profile, prediction]) => [
    card("What it is", facts([["State", state(row)], ["Revision", number(row.revision)], ["World", row.world],
      ["Code", bytes(row.code_bytes)], ["Compiled in", time(row.compile_ms * 1000)], ["In flight", number(row.in_flight)],
      ["Queued", number(row.queued)], ["Component", make("code", {}, row.digest)],
      ["Log", make("a", { href: `#/logs/${path}` }, "its last lines")]])),
    card("Phases, median of the last requests", ...medians(recent)),
    predictionCard(prediction),
    codeCard(paths, profile),
    card("Last requests", table("Requests", requestColumns(false), recent, "No request has been served yet."), phaseKey()),
  ]);
}

function medians(recent) {
  if (recent.length === 0) return [make("p", { class: "soft" }, "No request has been served yet.")];
  const median = (key) => recent.map((row) => row.phases[key]).sort((a, b) => a - b)[Math.floor((recent.length - 1) / 2)];
  const phases = Object.fromEntries(PHASES.map(([, key]) => [key, median(key)]));
  return [phaseBar(phases), phaseKey(phases)];
}

const requestPage = (id) => refreshed("Request", (signal) => askJson(`/v1/invocations/${encodeURIComponent(id)}/explain`, signal), ({ invocation: row, expectation, function: compared }) => [
  card("Where the time went", phaseBar(row.phases), phaseKey(row.phases)),
  card("Was it expected?", facts(expected(expectation, compared))),
  card("Facts", facts([
    ["Request", `${row.class.method} ${row.class.route}`], ["Outcome", outcome(row)], ["Function", functionLink(row.function)],
    ["Application", row.app], ["Revision", number(row.revision)], ["Served", row.serve_path], ["Why", row.why],
    ["Started", new Date(row.started_unix_us / 1000).toISOString()], ["Total", time(row.phases.total_us)],
    ["Guest held a thread", time(row.busy_us)], ["CPU time", row.cpu_us == null ? "not measured" : time(row.cpu_us)], ["Peak memory of the VM", bytes(row.memory_bytes_peak)],
    ["Bytes in", bytes(row.bytes_in)], ["Bytes out", bytes(row.bytes_out)],
    ["Caller", row.caller ? functionLink(row.caller) : "none"], ["Trace", make("code", {}, row.trace_id)],
    ["Span", make("code", {}, row.span_id)], ["Parent span", row.parent_span_id && make("code", {}, row.parent_span_id)],
    ["Invocation", make("code", {}, row.id)], ["Session", row.session ? make("code", {}, row.session) : "none"],
  ])),
], 0);

const percent = (share) => (share == null ? "–" : `${(share * 100).toFixed(1)} %`);

// Why a request was expected, with the terms of the threshold, and how ready VMs compare with the control group.
function expected(expectation, compared) {
  const cause = expectation?.cause;
  const why = cause ? [
    ["Expected", `${time(expectation.at_unix_us - cause.after_unix_us)} before it came`], ["After", functionLink(cause.after_function)],
    ["Because of", GROUNDS[cause.by] ?? cause.by],
    ["Probability", `${percent(cause.probability)} ± ${percent(cause.error)}`], ["Threshold", percent(cause.terms?.threshold)],
  ] : [["Expected", "no"]];
  const group = ({ requests, typical_us, errors }) => `${time(typical_us)} over ${number(requests)} requests, ${number(errors)} errors`;
  const against = Object.entries(compared?.arms ?? {}).filter(([, arm]) => arm.prepared.requests || arm.given_up).flatMap(([name, arm]) => [
    [`${ARMS[name] ?? name} VMs`, group(arm.prepared)], ["Their control", group(arm.control)], ["Verdict", verdict(arm)]]);
  return [...why, ...against];
}

const ARMS = { ready: "Ready", rolled_back: "Rolled-back", specialized: "Specialized" };

// How VMs prepared in one way stand; if they are given up, why and until when.
const verdict = ({ verdict: word, given_up: given }) => (given
  ? `given up until ${new Date(given.until_unix_ms).toLocaleTimeString()}: ${given.why}` : word.replace("_", " "));

const GROUNDS = { session: "the calls of its session", sequence: "the sequence of calls", rhythm: "its own rhythm",
  call: "a function that calls it", told: "someone told the node" };

const learningPage = () => refreshed("Learning", (signal) => Promise.all([askJson("/v1/learning", signal), askJson("/v1/calls", signal)]), ([learning, { calls }]) => {
  const { ledger, held, budget, prices } = learning;
  const { hit, late, missed } = ledger.predictions;
  const apart = Object.entries(learning.function_modes).map(([name, mode]) => `${name}: ${mode}`).join(", ");
  const group = ({ requests, typical_us }) => (requests ? `${time(typical_us)} / ${number(requests)}` : "–");
  return [
    card("Ledger", facts([
      ["Mode", apart ? `${learning.mode} (${apart})` : learning.mode],
      ["Requests with a VM ready", `${number(hit)} (${percent(hit / Math.max(hit + late + missed, 1))})`],
      ["Expected, and late", number(late)], ["Not expected", number(missed)],
      ["Waiting saved", time(ledger.saved_ms * 1000)], ["Memory held", `${ledger.held_gb_s} GB s`],
      ["Time spent making VMs", time(ledger.making_cpu_ms * 1000)], ["Time spent learning", time(learning.learning_ms_total * 1000)],
      ["Held now", `${number(held.vms)} VMs, ${bytes(held.memory_bytes)} of ${bytes(budget.memory_bytes)}`],
      ["Price of memory", `${prices.memory_ms_per_mb_s.toExponential(2)} ms for a MB second`],
      ["Making ready", prices.halt ? `halted: ${prices.halt}` : "goes on"],
    ])),
    card("By function", table("What was made ready, and what came of it", [
      ["Function", ([name]) => functionLink(name)],
      ["Hit", ([, one]) => number(one.ledger.predictions.hit), true],
      ["Late", ([, one]) => number(one.ledger.predictions.late), true],
      ["Missed", ([, one]) => number(one.ledger.predictions.missed), true],
      ["Saved", ([, one]) => time(one.ledger.saved_ms * 1000), true],
      ["Held", ([, one]) => `${one.ledger.held_gb_s} GB s`, true],
      ["First byte, ready", ([, one]) => group(one.arms.ready.prepared), true],
      ["Control", ([, one]) => group(one.arms.ready.control), true],
      ["Verdict", ([, one]) => verdict(one.arms.ready)],
      ["First byte, put back", ([, one]) => group(one.arms.rolled_back.prepared), true],
      ["Control", ([, one]) => group(one.arms.rolled_back.control), true],
      ["Verdict", ([, one]) => verdict(one.arms.rolled_back)],
      ["First byte, warm copy", ([, one]) => group(one.arms.specialized.prepared), true],
      ["Control", ([, one]) => group(one.arms.specialized.control), true],
      ["Verdict", ([, one]) => verdict(one.arms.specialized)],
    ], Object.entries(learning.functions), "No function has been called yet.")),
    card("Calls between functions", callGraph(calls), table("Calls that functions make of each other", [
      ["Caller", (edge) => functionLink(edge.caller)], ["Calls", (edge) => functionLink(edge.callee)],
      ["Probability", (edge) => `${percent(edge.probability)} ± ${percent(edge.error)}`, true],
      ["After", (edge) => time(edge.lag_us), true], ["95 % within", (edge) => time(edge.lag_late_us), true],
      ["Seen", (edge) => number(edge.calls), true],
    ], calls, "No function has called another one yet.")),
  ];
});

/** Functions in columns by their distance from those that nobody calls; the table below says the same in words. */
function callGraph(calls) {
  if (calls.length === 0) return null;
  const column = new Map(calls.flatMap((edge) => [[edge.caller, 0], [edge.callee, 0]]));
  // As often as a chain can be long; a loop ends there.
  for (let step = 0; step < 8; step += 1) {
    for (const { caller, callee } of calls) if (column.get(callee) <= column.get(caller)) column.set(callee, Math.min(column.get(caller) + 1, 8));
  }
  const [wide, high, inColumn, place] = [190, 44, new Map(), new Map()];
  for (const [name, x] of column) {
    const y = inColumn.get(x) ?? 0;
    inColumn.set(x, y + 1);
    place.set(name, [x * wide + 8, y * high + 8]);
  }
  const edges = calls.map(({ caller, callee, probability, lag_us }) => {
    const [[x1, y1], [x2, y2]] = [place.get(caller), place.get(callee)];
    const path = `M${x1 + 130} ${y1 + 14} C${x1 + 160} ${y1 + 14} ${x2 - 30} ${y2 + 14} ${x2} ${y2 + 14}`;
    return svg("path", { d: path, fill: "none", stroke: "currentColor", "stroke-width": 0.5 + 3 * probability, opacity: 0.25 + 0.6 * probability },
      svg("title", {}, `${caller} calls ${callee}: ${percent(probability)}, after ${time(lag_us)}`));
  });
  const nodes = [...place].map(([name, [x, y]]) => svg("g", {}, svg("rect", { x, y, width: 130, height: 28, rx: 6, class: "node" }),
    svg("text", { x: x + 8, y: y + 18, fill: "currentColor", "font-size": 12 }, name.length > 18 ? `${name.slice(0, 17)}…` : name)));
  const size = [Math.max(...column.values()) * wide + 150, Math.max(...inColumn.values()) * high + 8];
  return make("div", { class: "scroll" }, svg("svg", { width: size[0], height: size[1], role: "img", "aria-label": "Which functions call which" }, ...edges, ...nodes));
}

const imagesPage = () => refreshed("Images", (signal) => askJson("/v1/images", signal), ({ images, split, gone }) => [
  splitCard(split),
  card("In the cache", table("Images", [
    ["Component", (row) => make("code", { title: row.component }, short(row.component))],
    ["Kind", (row) => row.kind],
    ["Before", (row) => row.passes.map((pass) => make("span", { class: pass.applied ? "good" : "", title: pass.detail },
      pass.applied ? pass.pass : `${pass.pass} refused`))],
    ["State", (row) => make("span", { class: row.state === "ready" ? "good" : "warn" }, row.state)],
    ["Size", (row) => bytes(row.bytes), true],
    ["Built in", (row) => (row.build_ms == null ? "–" : time(row.build_ms * 1000)), true],
    ["Age", (row) => (row.age_ms == null ? "–" : time(Math.floor(row.age_ms / 1000) * 1e6)), true],
    ["Hits", (row) => number(row.hits), true],
    ["Misses", (row) => number(row.misses), true],
    ["In use", (row) => number(row.in_use), true],
    ["Failures", (row) => number(row.failures), true],
    ["Why", (row) => row.why],
  ], images, "No image is in the cache.")),
  card("Gone", table("Images that are gone", gone.length === 0 ? [] : Object.keys(gone[0]).map((key) =>
    [key.replaceAll("_", " "), (row) => (typeof row[key] === "object" ? JSON.stringify(row[key]) : String(row[key]))]),
  gone, "None has left the cache.")),
]);

const short = (digest) => digest.replace(/^sha256:/, "").slice(0, 12);

// ---- the way around

const PAGES = [
  [/^#\/functions\/(.+)$/, functionPage, "#/functions"],
  [/^#\/functions$/, functionsPage, "#/functions"],
  [/^#\/requests\/(.+)$/, requestPage, "#/requests"],
  [/^#\/requests$/, requestsPage, "#/requests"],
  [/^#\/images$/, imagesPage, "#/images"],
  [/^#\/logs\/(.+)$/, logsPage, "#/logs"],
  [/^#\/logs$/, () => logsPage(), "#/logs"],
  [/^#\/learning$/, learningPage, "#/learning"],
];

let leave = () => {};

function show(focus) {
  leave();
  leave = () => {};
  if (!sessionStorage.getItem(TOKEN)) return logIn();
  const [pattern, page, place] = PAGES.find(([one]) => one.test(location.hash)) ?? [/^/, overview, "#/"];
  nav.hidden = false;
  for (const link of nav.children) {
    if (link.getAttribute("href") === place) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const argument = pattern.exec(location.hash)?.[1];
  leave = page(argument && decoded(argument));
  const title = main.querySelector("h1")?.textContent;
  document.title = title ? `${title} · Forerun` : "Forerun";
  if (focus) main.focus();
}

function decoded(text) {
  try { return decodeURIComponent(text); } catch { return text; }
}

function logIn(problem) {
  leave();
  leave = () => {};
  feed?.abort();
  sessionStorage.removeItem(TOKEN);
  nav.hidden = true;
  say("");
  const input = make("input", { id: "token", type: "password", autocomplete: "current-password", required: "", spellcheck: "false",
    "aria-describedby": "hint" });
  const enter = (event) => {
    event.preventDefault();
    sessionStorage.setItem(TOKEN, input.value.trim());
    startFeed();
    show(true);
  };
  main.replaceChildren(make("form", { class: "card", submit: enter }, make("h1", {}, "Admin token"),
    problem && make("p", { class: "bad", role: "alert" }, problem), make("label", { for: "token" }, "Token"), input,
    make("p", { id: "hint", class: "soft" }, "It is in admin.token of the node's data directory, and stays in this tab only."),
    make("button", {}, "Open")));
  input.focus();
}

/** `#token=…` in the address, as `#token=…&page=/functions` too: kept for this tab, and gone from the address. */
function takeTokenFromAddress() {
  if (!location.hash.startsWith("#token=")) return;
  const given = new URLSearchParams(location.hash.slice(1));
  sessionStorage.setItem(TOKEN, given.get("token"));
  history.replaceState(null, "", `${location.pathname}#${given.get("page") ?? "/"}`);
}

addEventListener("hashchange", () => {
  const given = location.hash.startsWith("#token=");
  takeTokenFromAddress();
  if (given) startFeed();
  show(true);
});
// The hash is the page, so this link must not change it.
document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
takeTokenFromAddress();
if (sessionStorage.getItem(TOKEN)) startFeed();
show(false);
