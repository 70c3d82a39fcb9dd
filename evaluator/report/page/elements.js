"use strict";
// DOM helpers and tables. Data is inserted as text, never as markup.

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
const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;
const dot = (kind) => element("i", { class: "dot", style: `background:${color(kind)}` });
const left = (...content) => Object.assign(content, { left: true });

/** heads and cells: text, elements, or lists of them; `left(…)` aligns a column of text. The first cell names the row. */
function table(node, heads, rows) {
  const align = (content) => (content && content.left ? { class: "left" } : {});
  const head = (content) => element("th", { scope: "col", ...align(content) }, ...[content].flat());
  const cell = (content, i) =>
    i ? element("td", align(content), ...[content].flat()) : element("th", { scope: "row" }, ...[content].flat());
  node.replaceChildren(
    element("thead", {}, element("tr", {}, ...heads.map(head))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...row.map(cell)))),
  );
}

/** A stacked bar. parts: [[share of the whole bar, color, text]]. */
function track(parts) {
  const bar = ([width, paint, title]) =>
    element("i", { style: `width:${100 * Math.max(0, width)}%;background:${paint}`, title });
  const label = parts.filter(([width]) => width > 0).map(([, , text]) => text);
  return element("div", { class: "track", role: "img", "aria-label": label.join(", ") }, ...parts.map(bar));
}

const frame = { left: 58, top: 12, width: 560, height: 340 };
const atX = (value) => frame.left + frame.width * value;
const atY = (value) => frame.top + frame.height * (1 - value);

/** An empty diagram with both axes from 0 to 1. */
function diagram(label, nameX, nameY) {
  const svg = shape("svg", {
    viewBox: `0 0 ${frame.left + frame.width + 14} ${frame.top + frame.height + 44}`,
    role: "img",
    "aria-label": label,
  });
  for (let i = 0; i <= 5; i++) {
    const at = i / 5;
    svg.append(
      shape("line", { class: "grid", x1: atX(0), x2: atX(1), y1: atY(at), y2: atY(at) }),
      shape("line", { class: "grid", x1: atX(at), x2: atX(at), y1: atY(0), y2: atY(1) }),
      shape("text", { x: frame.left - 8, y: atY(at) + 4, "text-anchor": "end" }, at.toFixed(1)),
      shape("text", { x: atX(at), y: atY(0) + 18, "text-anchor": "middle" }, at.toFixed(1)),
    );
  }
  svg.append(
    shape("text", { x: atX(0.5), y: atY(0) + 38, "text-anchor": "middle" }, nameX),
    shape("text", { transform: `translate(12 ${atY(0.5)}) rotate(-90)`, "text-anchor": "middle" }, nameY),
  );
  return svg;
}

/** The points of a line: [[x, y]], both from 0 to 1. */
const line = (points) => points.map(([x, y]) => `${atX(x).toFixed(1)},${atY(y).toFixed(1)}`).join(" ");
