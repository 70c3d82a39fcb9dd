"use strict";
// Builds the page for the selected evaluation, and the comparison of several evaluations.

function compareRuns() {
  $("comparison").hidden = data.runs.length < 2;
  const rows = [
    ...Object.keys(data.runs[0].figures).map((name) => [name, (run) => run.figures[name], figure, Math.max]),
    ...kinds.map((kind) => [`count: ${kind}`, (run) => run.errors[kind].count, String, Math.min]),
    ...kinds.map((kind) => [`AP gain if fixed: ${kind}`, (run) => run.errors[kind].ap_alone - run.figures.AP, gain, null]),
  ];
  table(
    $("compare"),
    ["", ...data.runs.map((run) => run.name)],
    rows.map(([name, value, format]) => [name, ...data.runs.map((run) => format(value(run)))]),
  );
  rows.forEach(([, value, , best], i) => {
    const values = data.runs.map(value);
    if (best)
      values.forEach(
        (each, k) => each === best(...values) && $("compare").tBodies[0].rows[i].cells[k + 1].classList.add("best"),
      );
  });
}

const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;

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
  drawFigures(run);
  drawCurves(run);
  drawErrors(run);
  drawJoints(run);
  setUpGallery(run);
  table(
    $("options"),
    ["option", Object.assign(["value"], { left: true })],
    Object.entries(run.settings).map(([name, value]) => [name, Object.assign([value], { left: true })]),
  );
}

if (data.runs.length > 1)
  $("runs").append(...data.runs.map((run, i) => element("button", { type: "button", onclick: () => show(i) }, run.name)));
compareRuns();
show(0);
