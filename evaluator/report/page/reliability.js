"use strict";
// The reliability diagram: the share of right people beside their scores.

function drawReliability(run) {
  const found = run.reliability;
  $("scores").hidden = !found;
  if (!found) return;
  const curves = [
    ["scores of this evaluation", "written", "accent"],
    ["scores fitted to the other half of the images", "fitted", "good"],
  ];
  const summary = curves.map(([name, key]) => `${name}: expected calibration error ${figure(found[key].ece)}`);
  const svg = diagram(`reliability of the scores; ${summary.join("; ")}`, "score", "share of right people");
  svg.append(shape("line", { class: "ideal", x1: atX(0), x2: atX(1), y1: atY(0), y2: atY(1) }));
  for (const [name, key, paint] of curves) {
    const points = found[key].points;
    svg.append(shape("polyline", { class: `curve ${key}`, stroke: color(paint), points: line(points) }));
    for (const [score, right, people] of points) {
      const title = shape("title", {}, `${name}: score ${figure(score)}, ${share(right)} of ${people} right`);
      svg.append(shape("circle", { cx: atX(score), cy: atY(right), r: 4, fill: color(paint) }, title));
    }
  }
  $("reliability").replaceChildren(svg);
  table(
    $("errors-of-scores"),
    ["", "calibration error", left("scores")],
    curves.map(([name, key, paint]) => [dot(paint), figure(found[key].ece), left(name)]),
  );
  const [others, right] = found.leftOut;
  $("about-scores").replaceChildren(
    `${count(others, "person", "people")} with a fitted score below ${found.minProbability}, ${right} of them right, are left ` +
      "out, because certainly wrong ones would hide the error of the others. ",
    ...aboutCalibration(found),
  );
}

function aboutCalibration(found) {
  if (found.fittedHere) return ["The network was calibrated on these images, so the error of its scores is larger on others."];
  if (found.isCalibrated) return ["The network is calibrated, on other images than these."];
  return [
    "The network is not calibrated: its scores are no probabilities. ",
    element("code", {}, "python -m evaluator calibrate"),
    " makes them probabilities, as the green curve shows.",
  ];
}
