"use strict";
// Builds the page for the selected evaluation, and the comparison of several evaluations with the first one.

function compareRuns() {
  $("comparison").hidden = data.runs.length < 2;
  const rows = [
    ...Object.keys(data.runs[0].figures).map((name) => [name, (run) => run.figures[name], figure, gain, Math.max]),
    ...otherFigures(data.runs),
    ...kinds.map((kind) => [`count: ${kind}`, (run) => run.errors[kind].count, String, change, Math.min]),
    ...kinds.map((kind) => [`AP gain if fixed: ${kind}`, (run) => run.errors[kind].ap_alone - run.figures.AP, gain, gain, null]),
  ];
  const [first, ...others] = data.runs;
  table(
    $("compare"),
    ["", first.name, ...others.flatMap((run) => [run.name, "change"])],
    rows.map(([name, value, format, difference]) => [
      name,
      format(value(first)),
      ...others.flatMap((run) => [format(value(run)), known(first, run, value) ? difference(value(run) - value(first)) : "–"]),
    ]),
  );
  rows.forEach(([, value, , , best], i) => {
    const cells = $("compare").tBodies[0].rows[i].cells;
    const values = data.runs.map(value);
    if (best && new Set(values).size > 1)
      values.forEach((each, k) => each === best(...values) && cells[k ? 2 * k : 1].classList.add("best"));
  });
}

const change = (value) => (value > 0 ? "+" : "") + value;
const known = (first, run, value) => value(first) !== -1 && value(run) !== -1;

function show(number) {
  const run = data.runs[number];
  $("runs")
    .querySelectorAll("button")
    .forEach((button, i) => button.setAttribute("aria-pressed", String(i === number)));
  $("about").textContent =
    `${run.name}: ${data.annotations} (${count(data.numImages, "image", "images")}, ` +
    `${count(run.numPeople, "labeled person", "labeled people")}), ${count(run.numResults, "prediction", "predictions")}, ` +
    `skeleton ${data.skeleton.name}` +
    (run.numUnreadable ? `, ${count(run.numUnreadable, "unreadable image", "unreadable images")}` : "");
  $("facts").replaceChildren(
    ...Object.entries(run.facts).map(([name, value]) => element("div", {}, element("dt", {}, name), element("dd", {}, value))),
  );
  drawFigures(run);
  drawOthers(run);
  drawCurves(run);
  drawReliability(run);
  drawErrors(run);
  drawJoints(run);
  setUpGallery(run);
  table(
    $("options"),
    ["option", left("value")],
    Object.entries(run.settings).map(([name, value]) => [name, left(value)]),
  );
}

if (data.runs.length > 1)
  $("runs").append(...data.runs.map((run, i) => element("button", { type: "button", onclick: () => show(i) }, run.name)));
compareRuns();
show(0);
