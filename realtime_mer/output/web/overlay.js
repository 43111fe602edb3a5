// The overlay for OBS: events as cards that come and go, the score and where the face moves.
//
// Of the address: show=events,score,heat (which parts), scale=1.5, side=left or right, and
// seconds=8 (how long a card stays).

import { colour, decoded, drawCurve, drawFace, drawMotion } from "./drawing.js";
import { Live, OPEN } from "./live.js";
import { colourOf, fixed, motionOf, percent, sizeOf } from "./words.js";

const CURVE_S = 10;
const LEAVE_MS = 800;
const MAX_CARDS = 3;

const at = (id) => document.getElementById(id);
const wishes = new URLSearchParams(location.search);
const shown = new Set((wishes.get("show") ?? "events,score,heat").split(","));
const stayMs = 1000 * between(wishes.get("seconds"), 1, 600, 8);

let run = null;
let labels = [];
let seen = 0;
let now = 0;
let isOver = false;
let isOpen = false;
let trace = [];
let windows = [];

// A number of the address, or what is usual if it is none.
function between(text, least, most, usual) {
  const number = Number.parseFloat(text);
  return Number.isFinite(number) ? Math.min(most, Math.max(least, number)) : usual;
}

function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function addCard(n, event) {
  const card = make("li", colourOf(event.label, labels));
  card.dataset.n = n;
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

// Removes what has no room: older cards, then the faces on the last one.
function fit() {
  const cards = at("cards");
  const isTooHigh = () => cards.children.length && cards.firstElementChild.offsetTop < 0;
  while (isTooHigh() && cards.children.length > 1) cards.firstElementChild.remove();
  if (isTooHigh()) cards.querySelector(".faces")?.remove();
}

async function addFaces(message) {
  const card = at("cards").querySelector(`li[data-n="${Number(message.n)}"]`);
  if (!card) return;
  const bitmaps = await Promise.all([decoded(message.onset), decoded(message.apex)]);
  const faces = make("div", "faces");
  bitmaps.forEach((bitmap, k) => {
    const canvas = make("canvas", "");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", k ? "The face at the apex, with the motion" : "The face at the onset");
    drawFace(canvas, bitmap, k ? message.arrows : [], getComputedStyle(card).getPropertyValue("--colour"));
    bitmap.close();
    faces.append(canvas);
  });
  card.firstElementChild.after(faces);
  fit();
}

function addRecord({ n, record }, isPast) {
  if (n <= seen) return;
  seen = n;
  if (record.type !== "micro_expression") return;
  windows.push({
    start: record.onset_s, apex: record.apex_s, end: record.offset_s,
    colour: colour(colourOf(record.label, labels)),
  });
  if (!isPast && shown.has("events")) addCard(n, record);
}

// Of several sources, the first one's score is shown; events are of all.
function addValues(message) {
  if (message.camera) return;
  now = message.time_s;
  const main = message.faces.reduce((best, face) => (best && best.face <= face.face ? best : face), null);
  if (main) trace.push([now, main.score === null ? null : main.score / (main.threshold || 1)]);
  while (trace.length && trace[0][0] < now - CURVE_S) trace.shift();
  windows = windows.filter((window) => window.end > now - CURVE_S);
  if (shown.has("score")) {
    at("figure").textContent = fixed(main?.score, 2);
    at("figure").classList.toggle("over", (main?.score ?? 0) >= (main?.threshold ?? 1));
    drawCurve(at("curve"), { now, spanS: CURVE_S, traces: [trace], windows, hasMain: true, isPlain: true });
  }
  if (shown.has("heat")) drawMotion(at("face"), main?.regions ?? null);
}

function greet(message) {
  labels = message.session.labels;
  isOver = false;
  if (run === message.run) return;
  run = message.run;
  seen = 0;
  trace = [];
  windows = [];
  at("cards").replaceChildren();
}

function showPresence() {
  document.body.classList.toggle("absent", isOver || !isOpen);
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
    else if (message.type === "thumbnail") addFaces(message);
    else if (message.type === "values") addValues(message);
    else if (message.type === "end") isOver = true;
    showPresence();
  },
  state(state) {
    isOpen = state === OPEN;
    showPresence();
  },
});
