// Shows what the server sends over one WebSocket: pictures as binary messages, the rest as JSON.
// Text from the server is never treated as markup.
"use strict";

const RETRY_MS = 1000;
const LONGEST_RETRY_MS = 8000;
// The server sends a status twice a second: after this silence, the connection is lost.
const SILENCE_MS = 5000;
// A new event is highlighted for this long.
const FRESH_MS = 4000;
const MAX_ROWS = 200;
// An older picture is worth an alert.
const STALE_S = 2;
const MAX_GLASSES = 4;
// The parts of a face in the server's words, and in those of the page.
const PARTS = { "upper face": "brows", "middle face": "middle", "lower face": "mouth" };
// WebSocket close code of a server that has no place left.
const TRY_AGAIN_LATER = 1013;

const at = (id) => document.getElementById(id);
const picture = at("picture");
const pen = picture.getContext("2d");

let run = null;
let labels = [];
let seen = 0;
let count = 0;
let kind = "";
let ended = false;
let retryMs = RETRY_MS;
let lastHeard = 0;
let received = 0;
let drawn = 0;
// Confirmations held back while the page is hidden: without them, the server sends no pictures.
let heldBack = [];

function write(id, text) {
  if (at(id).textContent !== text) at(id).textContent = text;
}

// Hides the whole tile if the value is not known.
function writeIfKnown(id, value, text) {
  at(id).closest("div").hidden = !value;
  if (value) write(id, text(value));
}

function clock(seconds) {
  if (seconds === null) return "?";
  const ms = Math.round(seconds * 1000);
  const hours = Math.floor(ms / 3600000);
  const minutes = Math.floor(ms / 60000) % 60;
  const tail = `${pad(Math.floor(ms / 1000) % 60, 2)}.${pad(ms % 1000, 3)}`;
  return hours ? `${hours}:${pad(minutes, 2)}:${tail}` : `${minutes}:${tail}`;
}

function pad(number, digits) {
  return String(number).padStart(digits, "0");
}

function fixed(value, digits) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}

function say(text, state) {
  write("connection", text);
  at("connection").className = state;
}

function make(tag, className, text) {
  const element = document.createElement(tag);
  element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function addRow(row) {
  const list = at("events");
  list.prepend(row);
  while (list.children.length > MAX_ROWS) list.lastElementChild.remove();
  at("none").hidden = true;
}

function addEvent(event, isNew) {
  const index = labels.indexOf(event.label);
  const row = make("li", `event label-${index < 0 ? "none" : index % 5}`);
  const first = make("div", "row");
  first.append(make("span", "label", event.label));
  const percent = Math.round(100 * (event.confidence ?? 0));
  const sure = make("span", "sure");
  const bar = make("span", "bar");
  bar.setAttribute("aria-hidden", "true");
  const filled = make("span", "");
  filled.style.width = `${Math.min(100, Math.max(0, percent))}%`;
  bar.append(filled);
  sure.append(bar, make("span", "", `${percent}%`));
  first.append(sure);
  const second = make("div", "row facts");
  const length = Math.round(1000 * (event.offset_s - event.onset_s));
  const face = event.face ? ` · face ${event.face}` : "";
  second.append(make("span", "", clock(event.onset_s) + face));
  second.append(make("span", "", `${length} ms · ${fixed(event.intensity_px, 1)} px`));
  row.append(first, second);
  addRow(row);
  count += 1;
  write("count", String(count));
  if (isNew) {
    row.classList.add("fresh");
    setTimeout(() => row.classList.remove("fresh"), FRESH_MS);
    write("spoken", `${event.label}, ${percent} percent, at ${clock(event.onset_s)}`);
  }
}

function addRecord(message, isNew) {
  if (message.n <= seen) return;
  seen = message.n;
  const record = message.record;
  if (record.type === "micro_expression") {
    addEvent(record, isNew);
  } else if (record.type === "gap") {
    const face = record.face ? ` · face ${record.face}` : "";
    const length = fixed(record.end_s - record.start_s, 1);
    addRow(make("li", "gap", `${clock(record.start_s)}${face} · ${record.reason}, for ${length} s`));
  } else if (record.type === "status") {
    addRow(make("li", "gap", `${clock(record.time_s)} · source ${record.status}`));
  }
}

function greet(message) {
  const isOther = run !== null && run !== message.run;
  if (run !== message.run) {
    run = message.run;
    seen = 0;
    count = 0;
    write("count", "0");
  }
  ended = false;
  const session = message.session;
  labels = session.labels;
  if (isOther) addRow(make("li", "session", `above: a new session, ${session.source}`));
  at("kind").hidden = false;
  at("kind").classList.toggle("live", session.live);
  kind = session.live ? "LIVE" : "FILE";
  write("kind", kind);
  write("source", session.source);
  at("source").title = session.source;
  write("model", `${session.model} on ${session.provider}`);
  write("audience", message.audience);
  alert("");
  say("connected", "");
}

function showStatus(status) {
  at("kind").classList.toggle("live", kind === "LIVE" && !status.is_away);
  write("kind", status.is_away ? "AWAY" : kind);
  write("time", clock(status.time_s).slice(0, -2));
  write("fps", fixed(status.fps, 0));
  writeIfKnown("source-fps", status.source_fps, (fps) => fps.toFixed(0));
  write("latency", fixed(status.latency_ms, 0));
  write("dropped", String(status.dropped));
  at("dropped").classList.toggle("warn", status.dropped > 0);
  writeIfKnown("sensitivity", status.sensitivity, (rate) => String(+rate.toPrecision(2)));
  const faces = status.faces;
  write("quality-name", faces.length > 1 ? `quality, ${faces.length} faces` : "face quality");
  const qualities = faces.map((face) => `${Math.round(100 * (face.quality ?? 0))}%`);
  write("quality", faces.length ? qualities.slice(0, 3).join(" ") : "no face");
  at("quality").classList.toggle("warn", !faces.length || faces.some((face) => face.quality < 0.5));
  showReadable(faces);
  const alerts = [...status.alerts];
  if (status.age_s > STALE_S) alerts.push(`no new picture for ${Math.floor(status.age_s)} s`);
  alert(alerts.join(" · "));
}

// A small face for each face: a part of it is filled while it can be read.
function showReadable(faces) {
  const known = faces.filter((face) => face.readable).slice(0, MAX_GLASSES);
  const place = at("readable");
  place.closest("div").hidden = !known.length;
  while (place.children.length > known.length) place.lastElementChild.remove();
  while (place.children.length < known.length) place.append(at("glass").content.firstElementChild.cloneNode(true));
  known.forEach((face, k) => {
    const glass = place.children[k];
    const words = Object.keys(PARTS).map((part, i) => {
      const isFull = face.readable.includes(part);
      glass.children[i].setAttribute("class", isFull ? "full" : "");
      return `${PARTS[part]} ${isFull ? "yes" : "no"} (${fixed(face.limits[i], 1)} px)`;
    });
    const name = faces.length > 1 ? `face ${face.face}: ` : "";
    glass.setAttribute("aria-label", name + words.join(", "));
  });
  place.title = known.map((face, k) => place.children[k].getAttribute("aria-label")).join("\n");
}

function alert(text) {
  write("alert", text);
  at("alert").hidden = !text;
}

function showEnd(summary) {
  ended = true;
  const events = summary.events === 1 ? "1 event" : `${summary.events} events`;
  alert(`The session is over: ${summary.reason}, ${events}.`);
  say("session over", "ended");
}

async function showPicture(data, shown) {
  const number = (received += 1);
  try {
    const bitmap = await createImageBitmap(new Blob([data], { type: "image/jpeg" }));
    if (picture.width !== bitmap.width || picture.height !== bitmap.height) {
      picture.width = bitmap.width;
      picture.height = bitmap.height;
    }
    if (number > drawn) pen.drawImage(bitmap, 0, 0);
    drawn = Math.max(drawn, number);
    bitmap.close();
  } finally {
    if (document.hidden) heldBack.push(shown);
    else shown();
  }
}

function connect() {
  const address = new URL("live", location.href);
  address.protocol = address.protocol.replace("http", "ws");
  const socket = new WebSocket(address);
  socket.binaryType = "arraybuffer";
  // Records from before we connected are shown, but not read out.
  let isPast = true;
  lastHeard = performance.now();
  const watch = setInterval(() => {
    if (performance.now() - lastHeard > SILENCE_MS) socket.close();
  }, 1000);
  socket.onmessage = ({ data }) => {
    lastHeard = performance.now();
    retryMs = RETRY_MS;
    if (typeof data !== "string") {
      showPicture(data, () => socket.readyState === WebSocket.OPEN && socket.send("shown"));
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "hello") greet(message);
    else if (message.type === "record") addRecord(message, !isPast);
    else if (message.type === "status") {
      isPast = false;
      showStatus(message);
    } else if (message.type === "end") showEnd(message.summary);
  };
  socket.onclose = ({ code }) => {
    clearInterval(watch);
    heldBack = [];
    if (code === TRY_AGAIN_LATER) say("all places are taken, trying again", "waiting");
    else if (!ended) say("connection lost, trying again", "waiting");
    setTimeout(connect, retryMs);
    retryMs = Math.min(2 * retryMs, LONGEST_RETRY_MS);
  };
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  for (const shown of heldBack) shown();
  heldBack = [];
});

connect();
