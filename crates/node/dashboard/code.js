// What is inside of a function: which of its code runs, drawn to scale, the image that is made of it, what is expected of
// it next, and its log. Loaded before app.js, whose elements and words it uses when a page is drawn.
"use strict";

const MAP = { width: 900, height: 300, boxes_max: 160 };

/** Rectangles for weights, largest first, in rows along the shorter side (squarified: Bruls, Huizing, van Wijk 2000). */
function treemap(items, x, y, width, height) {
  const placed = [];
  let rest = items.filter((item) => item.weight > 0).sort((a, b) => b.weight - a.weight);
  let total = rest.reduce((sum, item) => sum + item.weight, 0);
  while (rest.length > 0) {
    const scale = width * height / total, side = Math.min(width, height);
    const worst = (row) => {
      const area = row.reduce((sum, item) => sum + item.weight, 0) * scale;
      return Math.max(...row.map(({ weight }) => Math.max(side * side * weight * scale / (area * area), area * area / (side * side * weight * scale))));
    };
    let count = 1;
    while (count < rest.length && worst(rest.slice(0, count + 1)) <= worst(rest.slice(0, count))) count += 1;
    const row = rest.slice(0, count), weight = row.reduce((sum, item) => sum + item.weight, 0);
    const thick = weight * scale / side;
    let along = 0;
    for (const item of row) {
      const long = side * item.weight / weight;
      placed.push(width < height ? { item, x: x + along, y, width: long, height: thick } : { item, x, y: y + along, width: thick, height: long });
      along += long;
    }
    if (width < height) { y += thick; height -= thick; } else { x += thick; width -= thick; }
    rest = rest.slice(count);
    total -= weight;
  }
  return placed;
}

/** A class of requests: each box is a function, as large as its code, the darker the more probable; the rest never ran. */
function pathMap(title, view, codeBytes) {
  const shown = view.paths.slice().sort((a, b) => b.code_bytes - a.code_bytes).slice(0, MAP.boxes_max);
  const shownBytes = shown.reduce((sum, path) => sum + path.code_bytes, 0);
  const items = shown.map((path) => ({ weight: path.code_bytes, path }));
  items.push({ weight: Math.max(view.ran_bytes - shownBytes, 0), label: `${view.paths.length - shown.length} smaller ones that ran` });
  // To scale it would leave no room for what ran: drawn as large as that at most, and told in figures.
  items.push({ weight: Math.min(codeBytes - view.ran_bytes, view.ran_bytes), label: `never ran: ${percent(view.never_seen_share)} of the code` });
  const boxes = treemap(items, 0, 0, MAP.width, MAP.height).map(({ item, x, y, width, height }) => {
    const name = item.path ? `${item.path.name}, ${item.path.library}: ${percent(item.path.probability)} ± ${percent(item.path.error)}, ${bytes(item.path.code_bytes)}` : item.label;
    const text = width > 60 && height > 14 ? [svg("text", { x: x + 4, y: y + 13, "font-size": 11, fill: "currentColor" }, cut(item.path?.name ?? item.label, width / 7))] : [];
    return svg("g", {}, svg("title", {}, name), svg("rect", { x, y, width: Math.max(width - 1, 0), height: Math.max(height - 1, 0),
      class: item.path ? "path" : "other", "fill-opacity": item.path ? 0.15 + 0.75 * item.path.probability : 0.1 }), ...text);
  });
  return make("figure", {}, make("figcaption", {}, `${title}: ${number(view.ran)} functions ran, ${bytes(view.ran_bytes)} of ${bytes(codeBytes)}`),
    svg("svg", { class: "treemap", viewBox: `0 0 ${MAP.width} ${MAP.height}`, role: "img", "aria-label": `Code that runs for ${title}` }, ...boxes));
}

const cut = (text, letters) => (text.length > letters ? `${text.slice(0, Math.max(Math.floor(letters) - 1, 1))}…` : text);

/** The card of a function's code. */
function codeCard({ map, sampling_enabled: sampled }, { specialization }) {
  const image = specialization?.image_line ?? "none";
  if (!map) return card("Code that runs", make("p", { class: "soft" }, sampled ? "Not known: small components are not looked at, and large ones once they are called." : "Not known: no requests are sampled."), facts([["Image of it", image]]));
  const classes = map.classes.map((one) => pathMap(`${one.class} (${number(one.samples)} samples)`, one, map.code_bytes));
  return card("Code that runs", facts([
    ["Functions inside", number(map.functions)], ["Image of what runs", image], ["Profile", specialization?.digest ?? specialization?.why_none],
    ["Confidence", specialization?.profile && percent(specialization.profile.confidence / 1000)],
    ["Sampling", `${number(map.sampling.samples)} of ${number(map.sampling.requests)} requests, ${percent(map.sampling.cpu_share)} of their time`],
  ]), ...classes);
}

/** The card of what is expected of a function next. */
function predictionCard({ prediction, held_ready: held }) {
  const now = facts([["Held ready", held.vms ? `${number(held.vms)} VMs, ${bytes(held.memory_bytes)}` : "nothing"],
    ["Calls seen", prediction && number(prediction.calls)]]);
  const next = table("What may be called next", [
    ["Function", (row) => (row.function ? functionLink(row.function) : "–")],
    ["Probability", (row) => percent(row.probability), true],
    ["±", (row) => percent(row.error), true],
  ], (prediction?.next ?? []).slice(0, 10), "Nothing is expected yet.");
  return card("What comes next in its application", now, next);
}

/** The card of images of just the code that requests run. */
function splitCard(split) {
  return card("Images of the code that requests run", table("Split images", [
    ["Function", (row) => row.functions.map(functionLink)],
    ["State", (row) => make("span", { class: row.state === "serving" ? "good" : "" }, row.state.replaceAll("_", " "))],
    ["", (row) => row.line],
  ], split ?? [], "No requests are sampled, so none is made."));
}

const LOG_LINES = 300;

/** The last lines of a function's log; without a name, of the first function. */
function logsPage(name) {
  const load = async (signal) => {
    const functions = (await askJson("/v1/functions", signal)).map((row) => row.spec.name);
    const shown = name ?? functions[0];
    const text = shown ? await askText(`/v1/functions/${encodeURIComponent(shown)}/logs?lines=${LOG_LINES}`, signal) : "";
    return { functions, shown, text };
  };
  return refreshed(name ? `Log of ${name}` : "Logs", load, ({ functions, shown, text }) => [
    make("p", {}, functions.flatMap((one) => [one === shown ? make("strong", {}, one) : make("a", { href: `#/logs/${encodeURIComponent(one)}` }, one), " "])),
    card(shown ? `The last ${LOG_LINES} lines of ${shown}` : "Log", text ? make("pre", { tabindex: "0" }, text) : make("p", { class: "soft" }, "It has written nothing.")),
  ]);
}
