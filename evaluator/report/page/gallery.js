"use strict";
// The gallery: filters, pages of cards, and the pictures with people drawn on them.

const fates = {
  found: "found",
  score: "ranked before a better prediction of the same person",
  false: "false positive",
  ignored: "ignored: crowd or unlabeled person",
};
const paneNames = { predicted: "prediction", true: "ground truth" };
const pageSize = 24;
let listed = [];
let pageNumber = 0;

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
  const isPrediction = which === "predicted";
  const people = isPrediction
    ? [...image.predicted].reverse().filter((person) => person.fate === "found" || $("unmatched").checked)
    : image.true;
  const label = `${paneNames[which]} for ${image.file}: ${count(people.length, "person", "people")}`;
  const svg = shape("svg", {
    viewBox: `-0.5 -0.5 ${width} ${height}`,
    preserveAspectRatio: "xMidYMid meet",
    role: "img",
    "aria-label": label,
  });
  const place = { x: -0.5, y: -0.5, width, height };
  const picture = data.pictures[image.id];
  svg.append(
    picture
      ? shape("image", { ...place, href: picture, preserveAspectRatio: "none" })
      : shape("rect", { ...place, class: "ground" }),
  );
  for (const person of people) {
    const fate = isPrediction ? person.fate : person.missed ? "missed" : "found";
    const title = isPrediction
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
  const label = `${image.file}, ${oksOf(image)}: show it large`;
  return element(
    "button",
    { class: "card", type: "button", "data-id": image.id, "aria-label": label, onclick: () => enlarge(place) },
    element("div", { class: "panes" }, pane(image, "predicted"), pane(image, "true")),
    element(
      "div",
      {},
      element("strong", {}, oksOf(image)),
      element("span", { class: "sub" }, ` ${[image.file, ...image.groups].join(" · ")}`),
      element("div", {}, ...chips(image)),
    ),
  );
}

const orders = {
  "groups first": () => 0,
  "worst first": (a, b) => (a.oks ?? 2) - (b.oks ?? 2),
  "best first": (a, b) => (b.oks ?? -1) - (a.oks ?? -1),
  "by file name": (a, b) => a.file.localeCompare(b.file),
};

function filterImages(run) {
  const [group, kind, text] = [$("group").value, $("kind").value, $("search").value.toLowerCase()];
  const [low, high] = [Number($("low").value), Number($("high").value)];
  listed = run.gallery.filter(
    (image) =>
      (!group || image.groups.includes(group)) &&
      (!kind || image.counts[kind]) &&
      (image.oks === null ? low <= 0 : image.oks >= low && image.oks <= high) &&
      image.file.toLowerCase().includes(text),
  );
  listed.sort(orders[$("order").value]);
  if (kind) listed.sort((a, b) => b.counts[kind] - a.counts[kind]);
  pageNumber = 0;
  drawCards();
}

function drawCards() {
  const first = pageNumber * pageSize;
  const shown = listed.slice(first, first + pageSize);
  $("cards").replaceChildren(...shown.map((image, i) => card(image, first + i)));
  $("shown").textContent = listed.length
    ? `${first + 1} to ${first + shown.length} of ${count(listed.length, "image", "images")}`
    : "no image fits the filters";
  $("earlier").disabled = first === 0;
  $("later").disabled = first + pageSize >= listed.length;
}

function turnPage(by) {
  pageNumber += by;
  drawCards();
  $("gallery").scrollIntoView();
}

/** Options of a filter with the number of images of each; those without images cannot be chosen. */
function fillSelect(node, all, names, number) {
  const option = (name) =>
    element("option", { value: name, disabled: number(name) ? null : "" }, `${name} (${number(name)})`);
  node.replaceChildren(element("option", { value: "" }, all), ...names.map(option));
}

function setUpGallery(run) {
  const groups = ["best", "median", "worst", ...kinds.map((kind) => `most ${kind}`)];
  const having = (test) => run.gallery.filter(test).length;
  fillSelect($("group"), "all images", groups, (name) => having((image) => image.groups.includes(name)));
  fillSelect($("kind"), "with or without errors", kinds, (kind) => having((image) => image.counts[kind]));
  $("order").replaceChildren(...Object.keys(orders).map((name) => element("option", {}, name)));
  $("key").replaceChildren(...kinds.map((kind) => element("span", {}, dot(kind), `${kind}: ${data.errors[kind]}`)));
  $("filters").onsubmit = (event) => event.preventDefault();
  $("filters").oninput = () => filterImages(run);
  $("earlier").onclick = () => turnPage(-1);
  $("later").onclick = () => turnPage(1);
  filterImages(run);
}
