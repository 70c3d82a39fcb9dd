"use strict";
// Two loops: pictures, one request at a time, so that a slow connection drops frames; and figures, twice a second.
const $ = (id) => document.getElementById(id);
const WINDOW_MS = 2000;
const STATES = {
  running: "Running",
  reconnecting: "The connection to the stream is lost; trying again…",
  ended: "The source has ended.",
};
const STOPPED = "No connection: the source has ended, or the command was stopped. Run it again and open the address that it prints.";
const token = new URLSearchParams(location.hash.slice(1)).get("token");
const headers = token ? { Authorization: `Bearer ${token}` } : {};
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

let latencies = []; // [time, latency] of the frames that this page has shown, in milliseconds
let isRefused = false;

function say(text, alarm = false) {
  if ($("state").textContent !== text) $("state").textContent = text; // a screen reader reads every change
  $("state").classList.toggle("alarm", alarm);
}

async function ask(path, options = {}) {
  const response = await fetch(path, { ...options, headers: { ...headers, ...options.headers }, cache: "no-store" });
  if (response.status >= 400 && response.status !== 410) {
    isRefused = true;
    say((await response.json()).error, true);
    throw new Error(`${path}: ${response.status}`);
  }
  isRefused = false;
  return response;
}

function canShow() {
  return !document.hidden && $("pause").getAttribute("aria-pressed") === "false";
}

// Shows one picture and returns its version. The latency needs no common clock: the age of the frame when it was sent, plus the time
// from the request until the picture is on the screen, without the time for which the server waited for a frame.
async function showNext(version, frame) {
  const start = performance.now();
  const response = await ask(`frame?after=${version}`);
  if (response.status === 410) await pause(500);
  if (response.status !== 200) return [version, frame];
  const number = (name) => Number(response.headers.get(name));
  const address = URL.createObjectURL(await response.blob());
  const next = new Image();
  next.src = address;
  await next.decode();
  if (canShow()) {
    const before = $("picture").src;
    $("picture").src = address;
    $("picture").hidden = false;
    $("waiting").hidden = true;
    if (before) URL.revokeObjectURL(before);
    await new Promise((resolve) => requestAnimationFrame(resolve));
  } else {
    URL.revokeObjectURL(address);
  }
  if (number("X-Frame") !== frame) {
    const now = performance.now();
    latencies.push([now, number("X-Age-Ms") + now - start - number("X-Waited-Ms")]);
  }
  return [number("X-Version"), number("X-Frame")];
}

async function pictures() {
  let shown = [0, 0];
  for (;;) {
    if (!canShow()) {
      await pause(100);
      continue;
    }
    try {
      shown = await showNext(...shown);
    } catch {
      shown = [0, 0]; // the command may have been started again
      await pause(1000);
    }
  }
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? sorted[Math.floor(sorted.length / 2)] : null;
}

const digits = (value, places) => (value === null ? "–" : value.toFixed(places));

function showFigures(facts) {
  latencies = latencies.filter(([time]) => time > performance.now() - WINDOW_MS);
  const texts = {
    source: facts.source,
    fps: digits(facts.fps, 1),
    "source-fps": digits(facts.source_fps, 1),
    latency: digits(facts.latency_ms, 0),
    "screen-latency": digits(median(latencies.map(([, latency]) => latency)), 0),
    dropped: `${facts.num_dropped} of ${facts.num_captured}`,
    drawn: facts.num_drawn,
    "people-found": facts.num_people,
  };
  for (const [id, text] of Object.entries(texts)) $(id).textContent = text;
  $("people").replaceChildren(...facts.people.map(row));
  if (!isSending && $("min-score-number") !== document.activeElement) showMinScore(facts.min_score);
}

function row(person) {
  const line = document.createElement("tr");
  line.className = person.drawn ? "" : "hidden";
  for (const text of [person.id ?? "–", person.score.toFixed(2), person.num_joints, person.drawn ? "yes" : "no"]) {
    line.insertCell().textContent = text;
  }
  return line;
}

async function figures() {
  for (;;) {
    try {
      const facts = await (await ask("status")).json();
      say(STATES[facts.state] ?? facts.state, facts.state !== "running");
      showFigures(facts);
    } catch {
      for (const id of ["fps", "source-fps", "latency", "screen-latency"]) $(id).textContent = "–";
      if (!isRefused) say(STOPPED, true);
    }
    await pause(500);
  }
}

// Sends the newest value; values that the slider passes while a request is under way are left out.
let isSending = false;
let wanted = null;

function showMinScore(value) {
  $("min-score").value = value;
  $("min-score-number").value = value;
}

async function sendMinScore(value) {
  wanted = value;
  if (isSending) return;
  isSending = true;
  try {
    while (wanted !== null) {
      const body = JSON.stringify({ min_score: wanted });
      wanted = null;
      await ask("threshold", { method: "POST", body, headers: { "Content-Type": "application/json" } });
    }
  } catch {
    wanted = null; // the other loop says why
  }
  isSending = false;
}

$("min-score").addEventListener("input", () => {
  $("min-score-number").value = $("min-score").value;
  sendMinScore(Number($("min-score").value));
});
$("min-score-number").addEventListener("input", () => {
  if ($("min-score-number").value === "" || !$("min-score-number").checkValidity()) return;
  $("min-score").value = $("min-score-number").value;
  sendMinScore(Number($("min-score-number").value));
});
$("pause").addEventListener("click", () => {
  const isPaused = $("pause").getAttribute("aria-pressed") === "false";
  $("pause").setAttribute("aria-pressed", isPaused);
  $("pause").textContent = isPaused ? "Continue" : "Pause the picture";
});

pictures();
figures();
