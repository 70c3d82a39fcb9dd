"use strict";
// The large view of one image: prediction and ground truth zoom and move together.

let current = 0;
let view = null;

function enlarge(place) {
  current = (place + listed.length) % listed.length;
  const image = listed[current];
  $("title").textContent = `${oksOf(image)}  ${image.file}`;
  $("details").replaceChildren(...chips(image));
  $("file").hidden = data.images === null;
  if (data.images !== null) $("file").href = `${data.images}/${image.file.split("/").map(encodeURIComponent).join("/")}`;
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

const keys = {
  ArrowLeft: () => enlarge(current - 1),
  ArrowRight: () => enlarge(current + 1),
  "+": () => zoom(1.5),
  "-": () => zoom(1 / 1.5),
  0: fitView,
};
$("previous").onclick = keys.ArrowLeft;
$("next").onclick = keys.ArrowRight;
$("zoom-in").onclick = keys["+"];
$("zoom-out").onclick = keys["-"];
$("fit").onclick = fitView;
$("close").onclick = () => $("large").close();
$("large").addEventListener("keydown", (event) => keys[event.key] && keys[event.key]());
