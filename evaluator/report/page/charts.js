"use strict";
// Metrics, precision-recall curves, and the tables of errors and joints.

function drawFigures(run) {
  table(
    $("coco"),
    ["metric", "value", left("OKS"), left("area")],
    Object.entries(run.rows).map(([name, [title, threshold, area, value]]) => [
      `${title} (${name.slice(0, 2)})`,
      figure(value),
      left(threshold),
      left(area),
    ]),
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
const mean = (curve) => curve.reduce((sum, value) => sum + value, 0) / curve.length;

function drawCurves(run) {
  const thresholds = Object.keys(run.curves);
  const summary = thresholds.map((threshold) => `AP ${figure(mean(run.curves[threshold]))} at OKS ${threshold}`);
  const svg = diagram(`precision-recall curves; ${summary.join(", ")}`, "recall", "precision");
  const paint = (i) => `hsl(${215 + (i * 150) / (thresholds.length - 1)} 62% var(--curve-lightness))`;
  thresholds.forEach((threshold, i) => {
    if (hiddenCurves.has(threshold)) return;
    for (const other of data.runs) {
      const points = line(other.curves[threshold].map((precision, k) => [k / 100, precision]));
      const name = other === run ? "curve" : "other curve";
      const style = `stroke:${paint(i)}`;
      const title = shape("title", {}, `${other.name}, OKS ${threshold}`);
      svg.append(shape("polyline", { class: name, "data-oks": threshold, style, points }, title));
    }
  });
  $("plot").replaceChildren(svg);
  const toggle = (threshold) => {
    hiddenCurves.has(threshold) ? hiddenCurves.delete(threshold) : hiddenCurves.add(threshold);
    drawCurves(run);
    $("legend").querySelector(`[data-oks="${threshold}"]`).focus();
  };
  const button = (threshold, i) =>
    element(
      "button",
      {
        type: "button",
        "aria-pressed": String(!hiddenCurves.has(threshold)),
        "data-oks": threshold,
        onclick: () => toggle(threshold),
      },
      element("i", { style: `color:${paint(i)}` }),
      element("span", {}, threshold),
      element("span", {}, figure(mean(run.curves[threshold]))),
    );
  $("legend").replaceChildren(
    element("div", { class: "sub" }, "OKS threshold and AP" + (data.runs.length > 1 ? " (dashed: other evaluations)" : "")),
    ...thresholds.map(button),
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
    const about = left(element("span", { class: "sub" }, data.errors[kind]));
    return [[dot(kind), kind], bar, String(count), figure(alone), gain(alone - now), figure(soFar), about];
  });
  rows.unshift(["none fixed", track([[now, "var(--rest)", figure(now)]]), "", figure(now), "", figure(now), ""]);
  const rest = [
    [before, "var(--rest)", figure(before)],
    [1 - before, "var(--good)", gain(1 - before)],
  ];
  rows.push(["remaining deviations", track(rest), "", "", "", "1.000", ""]);
  table(
    $("errors"),
    ["error", left("cumulative AP"), "count", "AP if fixed", "gain", "cumulative AP", left("meaning")],
    rows,
  );
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

function sortedJoints(run) {
  const rows = Object.entries(run.joints);
  if (jointOrder.column === null) return rows;
  const value = jointColumns[jointOrder.column][1];
  return rows.sort(([a, first], [b, second]) => {
    const [one, other] = [value(first, a), value(second, b)];
    return (jointOrder.descending ? -1 : 1) * (typeof one === "string" ? one.localeCompare(other) : one - other);
  });
}

function drawJoints(run) {
  const parts = (joint) =>
    ["good", ...[...jointKinds].reverse(), "missed"].map((kind) => {
      const part = (kind === "missed" ? joint.num_missed : joint.counts[kind]) / Math.max(1, joint.num_labeled);
      return [part, color(kind), `${kind}: ${share(part)}`];
    });
  const sort = (i) => {
    jointOrder = { column: i, descending: jointOrder.column === i ? !jointOrder.descending : i > 0 };
    drawJoints(run);
    $("joints").querySelectorAll("th button")[i].focus();
  };
  const heads = jointColumns.map(([name], i) => element("button", { type: "button", onclick: () => sort(i) }, name));
  const format = { 2: figure, 3: figure, 4: (value) => (value === null ? "–" : value.toFixed(1)) };
  const cells = ([name, joint]) => jointColumns.map(([, value], i) => (format[i] || String)(value(joint, name)));
  const [first, ...others] = heads;
  table(
    $("joints"),
    [first, left("shares"), ...others],
    sortedJoints(run).map((row) => {
      const [name, ...values] = cells(row);
      return [name, track(parts(row[1])), ...values];
    }),
  );
  if (jointOrder.column !== null) {
    const order = jointOrder.descending ? "descending" : "ascending";
    $("joints").querySelectorAll("th button")[jointOrder.column].parentNode.setAttribute("aria-sort", order);
  }
}
