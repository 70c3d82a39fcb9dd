"use strict";
// The gallery: filters, cards, and the large view, in which both panes zoom and move together.

const fates = {
  found: "found",
  score: "ranked before a better prediction of the same person",
  false: "false positive",
  ignored: "ignored: crowd or unlabeled person",
};
const paneNames = { predicted: "prediction", true: "ground truth" };
let listed = [];
let current = 0;
let view = null;

/** Line widths are in screen pixels at every zoom level; small cards have thinner lines. */
function stroke(paint, width) {
  return `stroke:${paint};stroke-width:calc(${width}px * var(--fat))`;
}

/** A person with points [x, y, v]. A ring marks the error of a joint; a single color marks the error of a whole person. */
function body(person, fate) {
  const { limbs, limbColors, joints, jointColors } = data.skeleton;
  const special = { false: "false", score: "score", ignored: "false", missed: "missed" }[fate];
  const paint = (channels) => (special ? color(special) : `rgb(${channels.join(",")})`);
  const group = shape("g", { class: `body ${fate}` }, shape("title", {}, person.title));
  limbs.forEach(([a, b], i) => {
    const [[x, y, seen], [toX, toY, toSeen]] = [person.points[a], person.points[b]];
    const style = stroke(paint(limbColors[i]), special ? 2 : 3) + (special ? ";stroke-dasharray:5 4" : "");
    if (seen && toSeen) group.append(shape("path", { d: `M${x} ${y}L${toX} ${toY}`, style }));
  });
  person.points.forEach(([x, y, seen], j) => {
    if (!seen) return;
    const d = `M${x} ${y}h0.001`; // a line of almost zero length with round caps is a dot
    const error = person.errors[j];
    if (error) {
      const ring = { d, class: "ring", "data-error": error, style: stroke(color(error), 14) };
      group.append(shape("path", ring), shape("path", { d, style: stroke("#fff", 9) }));
    }
    const similarity = person.similarity[j] === null ? "" : `, similarity ${person.similarity[j]}`;
    const title = shape("title", {}, `${joints[j]}${error ? `: ${error}` : ""}${similarity}`);
    group.append(shape("path", { d, style: stroke(paint(jointColors[j]), special ? 5 : 7) }, title));
  });
  return group;
}

function pane(image, which) {
  const [width, height] = image.size;
  const svg = shape("svg", { viewBox: `-0.5 -0.5 ${width} ${height}`, preserveAspectRatio: "xMidYMid meet" });
  const place = { x: -0.5, y: -0.5, width, height };
  const picture = data.pictures[image.id];
  svg.append(
    picture
      ? shape("image", { ...place, href: picture, preserveAspectRatio: "none" })
      : shape("rect", { ...place, class: "ground" }),
  );
  const people =
    which === "predicted"
      ? [...image.predicted].reverse().filter((person) => person.fate === "found" || $("unmatched").checked)
      : image.true;
  for (const person of people) {
    const fate = which === "predicted" ? person.fate : person.missed ? "missed" : "found";
    const title =
      which === "predicted"
        ? `${fates[fate]}, score ${person.score}, OKS ${person.oks}`
        : person.missed
          ? "missed"
          : `OKS ${person.oks}`;
    svg.append(body({ ...person, title }, fate));
  }
  return element("div", { class: "pane", "data-pane": which }, svg, element("span", {}, paneNames[which]));
}

function chips(image) {
  return Object.entries(image.counts).map(([kind, count]) =>
    element("span", { class: "chip", style: `background:${color(kind)}` }, `${count} ${kind}`),
  );
}

const oksOf = (image) => (image.oks === null ? "no labeled people" : `OKS ${image.oks.toFixed(2)}`);

function card(image, place) {
  return element(
    "button",
    { class: "card", type: "button", "data-id": image.id, onclick: () => enlarge(place) },
    element("div", { class: "panes" }, pane(image, "predicted"), pane(image, "true")),
    element(
      "div",
      {},
      element("strong", {}, oksOf(image)),
      element("span", { class: "sub" }, ` ${image.file} · ${image.groups.join(", ")}`),
      element("div", {}, ...chips(image)),
    ),
  );
}

function drawCards(run) {
  const group = $("group").value,
    kind = $("kind").value;
  const [low, high] = [Number($("low").value), Number($("high").value)];
  listed = run.gallery.filter(
    (image) =>
      (!group || image.groups.includes(group)) &&
      (!kind || image.counts[kind]) &&
      (image.oks === null ? low <= 0 : image.oks >= low && image.oks <= high),
  );
  if (kind) listed.sort((a, b) => b.counts[kind] - a.counts[kind]);
  $("cards").replaceChildren(...listed.map(card));
  $("shown").textContent = `${listed.length} of ${run.gallery.length} ${run.gallery.length === 1 ? "image" : "images"}`;
}

function setUpGallery(run) {
  const groups = [...new Set(run.gallery.flatMap((image) => image.groups))];
  const option = (value, text = value) => element("option", { value }, text);
  $("group").replaceChildren(option("", "all groups"), ...groups.map((name) => option(name)));
  $("kind").replaceChildren(option("", "all images"), ...kinds.map((kind) => option(kind)));
  $("key").replaceChildren(...kinds.map((kind) => element("span", {}, dot(kind), `${kind}: ${data.errors[kind]}`)));
  $("filters").onsubmit = (event) => event.preventDefault();
  $("filters").oninput = () => drawCards(run);
  drawCards(run);
}

function enlarge(place) {
  current = (place + listed.length) % listed.length;
  const image = listed[current];
  $("title").textContent = `${oksOf(image)}  ${image.file}`;
  $("details").replaceChildren(...chips(image));
  $("panes").replaceChildren(pane(image, "predicted"), pane(image, "true"));
  for (const svg of $("panes").querySelectorAll("svg")) {
    svg.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        zoom(event.deltaY < 0 ? 1.25 : 0.8, under(svg, event));
      },
      { passive: false },
    );
    svg.addEventListener("pointerdown", (event) => svg.setPointerCapture(event.pointerId));
    svg.addEventListener("pointermove", (event) => event.buttons && move(svg, event));
  }
  fitView();
  if (!$("large").open) $("large").showModal();
}

function under(svg, event) {
  const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  return [point.x, point.y];
}

function fitView() {
  const [width, height] = listed[current].size;
  view = { x: -0.5, y: -0.5, width, height };
  applyView();
}

function zoom(factor, [x, y] = [view.x + view.width / 2, view.y + view.height / 2]) {
  const [width] = listed[current].size;
  const by = Math.min(Math.max(factor, view.width / (width * 1.5)), (32 * view.width) / width); // zoom from 2/3 to 32
  view = { x: x - (x - view.x) / by, y: y - (y - view.y) / by, width: view.width / by, height: view.height / by };
  applyView();
}

function move(svg, event) {
  const { a: scale } = svg.getScreenCTM();
  view.x -= event.movementX / scale;
  view.y -= event.movementY / scale;
  applyView();
}

function applyView() {
  for (const svg of $("panes").querySelectorAll("svg"))
    svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.width} ${view.height}`);
}

$("zoom-in").onclick = () => zoom(1.5);
$("zoom-out").onclick = () => zoom(1 / 1.5);
$("fit").onclick = fitView;
$("close").onclick = () => $("large").close();
$("previous").onclick = () => enlarge(current - 1);
$("next").onclick = () => enlarge(current + 1);
$("large").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") enlarge(current - 1);
  if (event.key === "ArrowRight") enlarge(current + 1);
});
