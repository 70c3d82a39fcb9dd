"use strict";
// DOM helpers, tables and curves. Data is inserted as text, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const kinds = Object.keys(data.errors);
const jointKinds = ["miss", "swap", "inversion", "jitter"];

function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function shape(tag, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

const color = (kind) => `var(--${kind})`;
const figure = (value) => (value === null || value < 0 ? "–" : value.toFixed(3));
const gain = (value) => (value > 0.0005 ? "+" : "") + value.toFixed(3);
const share = (value) => `${(100 * value).toFixed(1)}%`;
const dot = (kind) => element("i", { class: "dot", style: `background:${color(kind)}` });

function table(node, heads, rows) {
  const cell = (tag) => (content, i) =>
    element(tag, i && content && content.left ? { class: "left" } : {}, ...[content].flat());
  node.replaceChildren(
    element("thead", {}, element("tr", {}, ...heads.map(cell("th")))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell("td"))))),
  );
}

/** A stacked bar. parts: [[share of the whole bar, color, title]]. */
function track(parts) {
  const bar = ([width, paint, title]) =>
    element("i", { style: `width:${100 * Math.max(0, width)}%;background:${paint}`, title });
  return element("div", { class: "track" }, ...parts.map(bar));
}

function drawFigures(run) {
  $("tiles").replaceChildren(
    ...Object.entries(run.figures).map(([name, value]) =>
      element("div", { class: "tile" }, element("span", {}, name), element("b", {}, figure(value))),
    ),
  );
  table(
    $("areas"),
    ["area range", "people", "area in px²", "AP", "AR"],
    Object.entries(run.areas).map(([name, area]) => {
      const [low, high] = area.limits;
      const limits = high < 1e9 ? (low ? `${low} to ${high}` : `up to ${high}`) : low ? `${low} and more` : "any";
      return [
        name === "small" ? "small (not part of COCO)" : name,
        String(area.num_people),
        limits,
        figure(area.ap),
        figure(area.ar),
      ];
    }),
  );
}

const hiddenCurves = new Set(["0.55", "0.60", "0.70", "0.80", "0.90"]);

function drawCurves(run) {
  const [left, top, width, height] = [48, 12, 560, 340];
  const x = (recall) => left + width * recall,
    y = (precision) => top + height * (1 - precision);
  const svg = shape("svg", {
    viewBox: `0 0 ${left + width + 14} ${top + height + 44}`,
    role: "img",
    "aria-label": "precision-recall curves",
  });
  for (let i = 0; i <= 5; i++) {
    const at = i / 5;
    svg.append(
      shape("line", { class: "grid", x1: x(0), x2: x(1), y1: y(at), y2: y(at) }),
      shape("line", { class: "grid", x1: x(at), x2: x(at), y1: y(0), y2: y(1) }),
      shape("text", { x: left - 8, y: y(at) + 4, "text-anchor": "end" }, at.toFixed(1)),
      shape("text", { x: x(at), y: y(0) + 18, "text-anchor": "middle" }, at.toFixed(1)),
    );
  }
  svg.append(
    shape("text", { x: x(0.5), y: y(0) + 38, "text-anchor": "middle" }, "recall"),
    shape("text", { transform: `translate(12 ${y(0.5)}) rotate(-90)`, "text-anchor": "middle" }, "precision"),
  );
  const thresholds = Object.keys(run.curves);
  const paint = (i) => `hsl(${215 + (i * 150) / (thresholds.length - 1)} 62% 52%)`;
  const line = (curve) => curve.map((precision, k) => `${x(k / 100).toFixed(1)},${y(precision).toFixed(1)}`).join(" ");
  thresholds.forEach((threshold, i) => {
    if (hiddenCurves.has(threshold)) return;
    for (const other of data.runs) {
      const title = shape("title", {}, `${other.name}, OKS ${threshold}`);
      const name = other === run ? "curve" : "other curve";
      svg.append(
        shape(
          "polyline",
          { class: name, "data-oks": threshold, stroke: paint(i), points: line(other.curves[threshold]) },
          title,
        ),
      );
    }
  });
  $("plot").replaceChildren(svg);
  const mean = (curve) => curve.reduce((sum, value) => sum + value, 0) / curve.length;
  $("legend").replaceChildren(
    element("div", { class: "sub" }, "OKS threshold and AP" + (data.runs.length > 1 ? " (dashed: other evaluations)" : "")),
    ...thresholds.map((threshold, i) =>
      element(
        "button",
        {
          "aria-pressed": String(!hiddenCurves.has(threshold)),
          "data-oks": threshold,
          onclick: () => {
            hiddenCurves.has(threshold) ? hiddenCurves.delete(threshold) : hiddenCurves.add(threshold);
            drawCurves(run);
          },
        },
        element("i", { style: `background:${paint(i)}` }),
        element("span", {}, threshold),
        element("span", {}, mean(run.curves[threshold]).toFixed(3)),
      ),
    ),
  );
}

function drawErrors(run) {
  const now = run.figures.AP;
  let before = now;
  const rows = kinds.map((kind) => {
    const { count, ap_alone: alone, ap_so_far: soFar } = run.errors[kind];
    const bar = track([
      [before, "var(--rest)", `before: ${figure(before)}`],
      [soFar - before, color(kind), `${kind}: ${gain(soFar - before)}`],
    ]);
    before = Math.max(before, soFar);
    const about = Object.assign([element("span", { class: "sub" }, data.errors[kind])], { left: true });
    return [[dot(kind), kind], String(count), figure(alone), gain(alone - now), figure(soFar), bar, about];
  });
  rows.unshift(["none fixed", "", figure(now), "", figure(now), track([[now, "var(--rest)", figure(now)]]), ""]);
  rows.push([
    "remaining deviations",
    "",
    "",
    "",
    "1.000",
    track([
      [before, "var(--rest)", figure(before)],
      [1 - before, "var(--good)", gain(1 - before)],
    ]),
    "",
  ]);
  table($("errors"), ["error", "count", "AP if fixed", "gain", "cumulative AP", "", ""], rows);
}

const jointColumns = [
  ["joint", (joint, name) => name],
  ["labeled", (joint) => joint.num_labeled],
  ["OKS", (joint) => joint.oks],
  ["OKS if found", (joint) => joint.oks_found],
  ["median error in px", (joint) => joint.median_px],
  ["not predicted", (joint) => joint.num_guessed],
  ...[...jointKinds, "missed", "good"].map((kind) => [
    kind,
    (joint) => (kind === "missed" ? joint.num_missed : joint.counts[kind]),
  ]),
];
let jointOrder = { column: null, descending: false };

function drawJoints(run) {
  const rows = Object.entries(run.joints);
  if (jointOrder.column !== null) {
    const value = jointColumns[jointOrder.column][1];
    rows.sort(([a, first], [b, second]) => {
      const [left, right] = [value(first, a), value(second, b)];
      return (jointOrder.descending ? -1 : 1) * (typeof left === "string" ? left.localeCompare(right) : left - right);
    });
  }
  const parts = (joint) =>
    ["good", ...[...jointKinds].reverse(), "missed"].map((kind) => {
      const count = kind === "missed" ? joint.num_missed : joint.counts[kind];
      return [
        count / Math.max(1, joint.num_labeled),
        color(kind),
        `${kind}: ${share(count / Math.max(1, joint.num_labeled))}`,
      ];
    });
  const format = { 2: figure, 3: figure, 4: (value) => (value === null ? "–" : value.toFixed(1)) };
  table(
    $("joints"),
    [...jointColumns.map(([head]) => head), "shares"],
    rows.map(([name, joint]) => [
      ...jointColumns.map(([, value], i) => (format[i] || String)(value(joint, name))),
      track(parts(joint)),
    ]),
  );
  $("joints")
    .querySelectorAll("th")
    .forEach((head, i) => {
      if (i >= jointColumns.length) return;
      if (i === jointOrder.column) head.setAttribute("aria-sort", jointOrder.descending ? "descending" : "ascending");
      head.addEventListener("click", () => {
        jointOrder = { column: i, descending: jointOrder.column === i ? !jointOrder.descending : i > 0 };
        drawJoints(run);
      });
    });
}
