"use strict";
// The metrics of other data sets than COCO: figures, and a table of the joints.

/** The rows of a comparison: figures of the metrics that all evaluations have. */
function otherFigures(runs) {
  const metrics = Object.entries(runs[0].others).filter(([metric]) => runs.every((run) => metric in run.others));
  return metrics.flatMap(([metric, { figures }]) =>
    Object.keys(figures).map((name) => [`${metric}: ${name}`, (run) => run.others[metric].figures[name], figure, gain, Math.max]),
  );
}

function drawOthers(run) {
  const metrics = Object.entries(run.others);
  $("others").hidden = !metrics.length;
  $("other-metrics").replaceChildren(...metrics.flatMap(([metric, measured]) => describeMetric(metric, measured)));
}

function describeMetric(metric, { about, figures, joints, counts }) {
  const numbers = Object.entries(counts).map(([name, number]) => `${number} ${name}`);
  const tables = [scrolled(metric, ["figure", "value"], Object.entries(figures).map(([name, value]) => [name, figure(value)]))];
  const columns = Object.entries(joints);
  if (columns.length) {
    const rows = Object.keys(columns[0][1]).map((joint) => [joint, ...columns.map(([, column]) => figure(column[joint]))]);
    tables.push(scrolled(`${metric} by joint`, ["joint", ...columns.map(([name]) => name)], rows));
  }
  return [
    element("h3", {}, metric),
    element("p", { class: "note" }, [about, ...numbers].join("; ")),
    element("div", { class: "columns" }, ...tables),
  ];
}

function scrolled(label, heads, rows) {
  const node = element("table");
  table(node, heads, rows);
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": label }, node);
}
