// The overlay for OBS: events as cards that come and go, the score and where the face moves.
//
// Of the address: show=events,score,heat (which parts), scale=1.5, side=left or right, and
// seconds=8 (how long a card stays).

import { CURVE_S, at, isOld, mainFace, make, scoreOf, windowOf } from "./common.js";
import { drawCurve, drawMotion } from "./drawing.js";
import { Live, OPEN } from "./live.js";
import { colourOf, fixed, motionOf, percent, sizeOf } from "./words.js";

const LEAVE_MS = 800;
const MAX_CARDS = 3;

const wishes = new URLSearchParams(location.search);
const shown = new Set((wishes.get("show") ?? "events,score,heat").split(","));
const stayMs = 1000 * between(wishes.get("seconds"), 1, 600, 8);

let run = null;
let labels = [];
let seen = 0;
let now = 0;
let isOver = false;
let isOpen = false;
// Which of several sources the score is of, and whether there is anything new of it.
let camera = 0;
let isStill = true;
let trace = [];
let windows = [];

// A number of the address, or what is usual if it is none.
function between(text, least, most, usual) {
  const number = Number.parseFloat(text);
  return Number.isFinite(number) ? Math.min(most, Math.max(least, number)) : usual;
}

function addCard(event) {
  const card = make("li", colourOf(event.label, labels));
  const head = make("p", "head");
  head.append(make("span", "label", event.label), make("span", "", percent(event.confidence)));
  card.append(head, make("p", "facts", sizeOf(event)));
  const motion = motionOf(event, 1);
  if (motion) card.append(make("p", "facts", motion));
  at("cards").append(card);
  while (at("cards").children.length > MAX_CARDS) at("cards").firstElementChild.remove();
  fit();
  setTimeout(() => card.classList.add("leaving"), stayMs);
  setTimeout(() => card.remove(), stayMs + LEAVE_MS);
}

// Removes older cards that have no room.
function fit() {
  const cards = at("cards");
  while (cards.children.length > 1 && cards.firstElementChild.offsetTop < 0) cards.firstElementChild.remove();
}

function addRecord({ n, record }, isPast) {
  if (n <= seen) return;
  seen = n;
  if (record.type !== "micro_expression") return;
  windows.push(windowOf(record, labels));
  if (!isPast && shown.has("events")) addCard(record);
}

// Of several sources, one's score is shown; events are of all.
function addValues(message) {
  if (message.camera !== camera) return;
  now = message.time_s;
  const main = mainFace(message.faces);
  if (main) trace.push([now, scoreOf(main)]);
  while (trace.length && trace[0][0] < now - CURVE_S) trace.shift();
  windows = windows.filter((window) => window.end > now - CURVE_S);
  if (shown.has("score")) {
    at("figure").textContent = fixed(main?.score, 2);
    at("figure").classList.toggle("over", scoreOf(main) >= 1);
    drawCurve(at("curve"), { now, spanS: CURVE_S, traces: [trace], windows, hasMain: true, isPlain: true });
  }
  if (shown.has("heat")) drawMotion(at("face"), main?.regions ?? null);
}

function greet(message) {
  labels = message.session.labels;
  isOver = false;
  isStill = true;
  if (run === message.run) return;
  run = message.run;
  seen = 0;
  trace = [];
  windows = [];
  at("cards").replaceChildren();
}

function showStatus(status) {
  isStill = status.time_s === undefined || isOld(status);
  if (isStill || status.camera === camera) return;
  camera = status.camera;
  trace = [];
}

function showPresence() {
  document.body.classList.toggle("absent", isOver || !isOpen);
  document.body.classList.toggle("still", isStill);
}

document.documentElement.style.setProperty("--scale", between(wishes.get("scale"), 0.25, 8, 1));
document.body.classList.toggle("right", wishes.get("side") === "right");
at("face").hidden = !shown.has("heat");
at("score").hidden = !shown.has("score");
at("now").classList.toggle("narrow", at("score").hidden);
at("now").hidden = at("face").hidden && at("score").hidden;

addEventListener("resize", fit);

new Live({
  message(message, isPast) {
    if (message.type === "hello") greet(message);
    else if (message.type === "record") addRecord(message, isPast);
    else if (message.type === "values") addValues(message);
    else if (message.type === "status") showStatus(message);
    else if (message.type === "end") isOver = true;
    showPresence();
  },
  state(state) {
    isOpen = state === OPEN;
    showPresence();
  },
});
