// The page: what the server sends, shown. Text from the server is never treated as markup.

import { CURVE_S, STALE_S, at, isOld, mainFace, make, scoreOf, windowOf } from "./common.js";
import { colour, decoded, drawCurve, drawFace, drawStrip } from "./drawing.js";
import { CONNECTING, FULL, LOST, Live, OPEN, SILENT } from "./live.js";
import { clock, colourOf, counted, factsOf, fixed, length, motionOf, percent, signOf } from "./words.js";

// The timeline grows from one to five minutes.
const SHORTEST_TIMELINE_S = 60;
const LONGEST_TIMELINE_S = 300;
// A longer time between two messages is not a time that was watched.
const HOLE_S = 1.5;
// A new event is highlighted, and a short message shown, for this long.
const FRESH_MS = 4000;
const TOAST_MS = 3000;
// Limits of what the page keeps.
const MAX_ROWS = 200;
const MAX_SPANS = 2000;
const MAX_GLASSES = 4;
// The parts of a face in the server's words, and in those of the page.
const PARTS = { "upper face": "brows", "middle face": "middle", "lower face": "mouth" };

const STATES = {
  [CONNECTING]: "connecting",
  [OPEN]: "connected",
  [SILENT]: "the program is silent",
  [LOST]: "connection lost, trying again",
  [FULL]: "all places are taken, trying again",
};

const picture = at("picture");
const pen = picture.getContext("2d");

// What is known of the session.
let run = null;
let labels = [];
let kind = "";
let mayControl = false;
// The sources, if there are several, and their short names.
let sources = [];
let names = [];
// Number of the last record, and of the events.
let seen = 0;
let count = 0;
let ended = false;
let state = CONNECTING;
// The newest status says that there is nothing new to see.
let isStill = false;
// A picture has come over this connection: none from before it may look like the present.
let hasPicture = false;
// Seconds of the clock that the sources have, and when values of the first one came.
let now = 0;
let firstAt = null;
let beganAt = null;
// Of each face, by source: its scores, as [time, score / threshold].
let traces = new Map();
// The newest faces of each source.
let faces = new Map();
let spans = [];
let gaps = [];
let events = [];
let marks = [];
let toastTimer = 0;

function write(id, text) {
  if (at(id).textContent !== text) at(id).textContent = text;
}

// Which of several sources and faces a record is about.
function whose(record) {
  const source = names[sources.indexOf(record.source)] ?? "";
  return [source, record.face ? `face ${record.face}` : ""].filter(Boolean).join(", ");
}

// The timeline and the curve's main line are about the first source.
function isAboutFirst(record) {
  return !sources.length || record.source === sources[0];
}

// The rows: events, marks, and what happened between them.

function addRow(row) {
  const list = at("events");
  const isAtTop = list.scrollTop < 4;
  list.prepend(row);
  // Who reads further down keeps the place.
  if (!isAtTop) list.scrollTop += row.offsetHeight;
  while (list.children.length > MAX_ROWS) list.lastElementChild.remove();
  at("none").hidden = true;
}

function bars(probabilities) {
  const list = make("dl", "probabilities");
  for (const label of labels.length ? labels : Object.keys(probabilities)) {
    const part = probabilities[label] ?? 0;
    const row = make("div", colourOf(label, labels));
    const bar = make("span", "bar");
    const filled = make("span");
    filled.style.width = `${Math.min(100, Math.max(0, 100 * part))}%`;
    bar.append(filled);
    const figure = make("dd");
    bar.setAttribute("aria-hidden", "true");
    figure.append(bar, make("span", "figure", percent(part)));
    row.append(make("dt", "", label), figure);
    list.append(row);
  }
  return list;
}

// Where and when something was: of a long name, the end is left out.
function placeOf(record, time) {
  const place = make("span", "place");
  const name = whose(record);
  if (name) place.append(make("span", "whose", name));
  place.title = record.source ?? "";
  place.append(make("span", "when", clock(time)));
  return place;
}

function addEvent(n, event, isPast) {
  const row = make("li", `event ${colourOf(event.label, labels)}`);
  row.dataset.n = n;
  row.tabIndex = -1;
  const head = make("div", "head");
  head.append(
    make("span", "label", event.label),
    make("span", "sure", percent(event.confidence)),
    placeOf(event, event.onset_s));
  const body = make("div", "body");
  body.append(bars(event.probabilities ?? {}));
  row.append(head, body, make("p", "facts", factsOf(event)));
  const motion = motionOf(event);
  if (motion) row.append(make("p", "facts", motion));
  addRow(row);
  count += 1;
  write("count", String(count));
  events.push({ n, event });
  if (events.length > MAX_ROWS) events.shift();
  addMoment(n, event.apex_s, signOf(event.label, labels),
    `${event.label} at ${clock(event.onset_s, 1)}`, colourOf(event.label, labels));
  if (isPast) return;
  row.classList.add("fresh");
  setTimeout(() => row.classList.remove("fresh"), FRESH_MS);
  const sure = Math.round(100 * (event.confidence ?? 0));
  write("spoken", `${event.label}, ${sure} percent, at ${clock(event.onset_s)}`);
}

async function addThumbnail(message) {
  const row = at("events").querySelector(`li[data-n="${Number(message.n)}"]`);
  if (!row || row.querySelector("figure")) return;
  const faces = await Promise.all([decoded(message.onset), decoded(message.apex)]);
  const ink = getComputedStyle(row).getPropertyValue("--arrow").trim();
  const figures = faces.map((face, k) => {
    const figure = make("figure");
    const canvas = make("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", k ? "The face at the apex, with the motion" : "The face at the onset");
    drawFace(canvas, face, k ? message.arrows : [], ink);
    face.close();
    figure.append(canvas, make("figcaption", "", k ? "apex" : "onset"));
    return figure;
  });
  row.querySelector(".body").prepend(...figures);
}

function addMark(n, mark, isPast) {
  const row = make("li", "mark");
  row.dataset.n = n;
  row.tabIndex = -1;
  const head = make("div", "head");
  head.append(make("span", "label", mark.text || "mark"), placeOf(mark, mark.time_s));
  row.append(head);
  addRow(row);
  marks.push({ n, mark });
  if (marks.length > MAX_ROWS) marks.shift();
  const title = `mark at ${clock(mark.time_s, 1)}`;
  addMoment(n, mark.time_s, "▾", mark.text ? `${title}: ${mark.text}` : title, "is-mark");
  if (!isPast) write("spoken", title);
}

// What happens over and over becomes one row, so that it hides no event.
function addInterruption(start, end, what) {
  let row = at("events").firstElementChild;
  if (!row?.classList.contains("gap")) {
    row = make("li", "gap");
    row.tally = { counts: new Map(), start, end, total: 0 };
    addRow(row);
  }
  const tally = row.tally;
  tally.counts.set(what, (tally.counts.get(what) ?? 0) + 1);
  tally.total += end - start;
  tally.start = Math.min(tally.start, start);
  tally.end = Math.max(tally.end, end);
  const words = [...tally.counts].map(([name, times]) => (times > 1 ? `${name} ×${times}` : name));
  const many = [...tally.counts.values()].reduce((a, b) => a + b) > 1;
  const until = many ? ` to ${clock(tally.end, 1)}` : "";
  const lasting = tally.total > 0 ? `, ${length(tally.total)}${many ? " in all" : ""}` : "";
  row.textContent = `${clock(tally.start, many ? 1 : 3)}${until} · ${words.join(", ")}${lasting}`;
  at("gaps").hidden = false;
}

function addRecord(message, isPast) {
  if (message.n <= seen) return;
  seen = message.n;
  const record = message.record;
  if (record.type === "micro_expression") addEvent(message.n, record, isPast);
  else if (record.type === "mark") addMark(message.n, record, isPast);
  else if (record.type === "gap") {
    const face = whose(record);
    addInterruption(record.start_s, record.end_s, face ? `${face}: ${record.reason}` : record.reason);
    if (!isAboutFirst(record)) return;
    // It takes the place of what the values said.
    const [start, end] = [record.start_s - HOLE_S, record.end_s + HOLE_S];
    gaps = gaps.filter((gap) => !gap.isOurs || gap.start < start || gap.end > end);
    gaps.push({ start: record.start_s, end: record.end_s });
  } else if (record.type === "status") {
    addInterruption(record.time_s, record.time_s, `${whose(record) || "source"} ${record.status}`);
  } else if (record.type === "baseline") {
    const text = record.quality === "good" ? "good baseline" : `poor baseline (${record.reason})`;
    const place = [whose(record), `${clock(record.start_s, 1)} to ${clock(record.end_s, 1)}`].filter(Boolean);
    addRow(make("li", "note", `${place.join(" · ")} · ${text}`));
  } else if (record.type === "visibility") {
    // What was before we came; from then on, the values tell.
    if (!isAboutFirst(record) || (beganAt !== null && record.end_s > beganAt)) return;
    const readable = Object.keys(PARTS).map((part) => record.readable.includes(part));
    spans.push({ start: record.start_s, end: record.end_s, readable });
  }
}

// The session and its state.

function forget() {
  seen = count = now = 0;
  beganAt = firstAt = null;
  traces = new Map();
  faces = new Map();
  spans = [];
  gaps = [];
  events = [];
  marks = [];
  at("moments").replaceChildren();
  at("reading").hidden = true;
  // Rows of another session are no targets of the timeline.
  for (const row of at("events").children) delete row.dataset.n;
  write("count", "0");
}

function greet(message) {
  const session = message.session;
  if (run !== message.run) {
    const isOther = run !== null;
    forget();
    run = message.run;
    if (isOther) addRow(make("li", "note session", `above: a new session, ${session.source}`));
  }
  ended = hasPicture = false;
  labels = session.labels;
  sources = (session.sources ?? []).map((source) => source.source);
  names = message.names;
  kind = session.live ? "LIVE" : "FILE";
  at("kind").hidden = false;
  write("source", session.source);
  at("source").title = session.source;
  write("model", `${session.model} on ${session.provider}`);
  write("audience", message.audience);
  mayControl = message.may_control === true;
  at("steps").hidden = at("marking").hidden = !mayControl;
  for (const row of document.querySelectorAll(".controlling")) row.hidden = !mayControl;
  alert("");
  showKind(false);
  showState();
}

function showKind(isAway) {
  at("kind").classList.toggle("live", kind === "LIVE" && !isAway);
  write("kind", isAway ? "AWAY" : kind);
}

// Says how the connection is, and greys the picture if it is not the present.
function showState() {
  const text = ended ? "session over" : STATES[state];
  write("connection", text);
  at("connection").className = ended ? "ended" : state;
  const isStale = ended || state !== OPEN || isStill || !hasPicture;
  document.body.classList.toggle("stale", isStale);
  at("veil").hidden = !isStale;
  const waiting = hasPicture ? "no new picture" : "waiting for a picture";
  write("veil", state === OPEN && !ended ? waiting : text);
}

function showStatus(status) {
  if (status.time_s === undefined) return; // it waits for its first frame
  showKind(status.is_away);
  write("time", clock(status.time_s, 1));
  write("fps", fixed(status.fps, 0));
  write("of-source", status.source_fps ? " / source" : "");
  write("source-fps", status.source_fps ? `/ ${status.source_fps.toFixed(0)}` : "");
  write("latency", fixed(status.latency_ms, 0));
  write("dropped", status.dropped.toLocaleString("en"));
  at("dropped").classList.toggle("warn", status.dropped > 0);
  at("sensing").hidden = !status.sensitivity;
  if (status.sensitivity) write("sensitivity", String(+status.sensitivity.toPrecision(2)));
  const quality = Math.min(...status.faces.map((face) => face.quality ?? 0));
  write("quality-name", status.faces.length > 1 ? "worst face" : "face quality");
  write("quality", status.faces.length ? percent(quality) : "no face");
  at("quality").classList.toggle("warn", !status.faces.length || quality < 0.5);
  const main = mainFace(status.faces);
  write("nuisances", main ? main.nuisances.join(", ") : "no face");
  const alerts = [...status.alerts];
  isStill = isOld(status);
  if (status.age_s > STALE_S) alerts.push(`no new picture for ${Math.floor(status.age_s)} s`);
  alert(alerts.join(" · "));
  showState();
}

function alert(text) {
  write("alert", text);
  at("alert").hidden = !text;
}

function showEnd(summary) {
  ended = true;
  alert(`The session is over: ${summary.reason}, ${counted(summary.events, "event")}.`);
  showState();
}

function toast(text) {
  write("toast", text);
  write("spoken", text);
  at("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => (at("toast").hidden = true), TOAST_MS);
}

// The values of the moment: glass, curve and timeline.

// A small face for each face: a part of it is filled while it can be read.
function showReadable() {
  const known = [...faces].flatMap(([camera, ofCamera]) => ofCamera.map((face) => ({ camera, ...face })))
    .filter((face) => face.readable).slice(0, MAX_GLASSES);
  const place = at("readable");
  // Once limits were known, their place stays: nothing else moves.
  if (known.length) at("reading").hidden = false;
  at("reading").classList.toggle("several", known.length > 1);
  while (place.children.length > known.length) place.lastElementChild.remove();
  while (place.children.length < known.length) {
    place.append(at("glass").content.firstElementChild.cloneNode(true));
  }
  known.forEach((face, k) => {
    const glass = place.children[k];
    const words = Object.keys(PARTS).map((part, i) => {
      const isFull = face.readable.includes(part);
      glass.children[i].setAttribute("class", isFull ? "full" : "");
      return `${PARTS[part]} ${isFull ? "yes" : "no"} (${fixed(face.limits[i], 1)} px)`;
    });
    const name = whose({ source: sources[face.camera], face: known.length > 1 ? face.face : 0 });
    glass.setAttribute("aria-label", (name ? `${name}: ` : "") + words.join(", "));
  });
  place.title = known.map((face, k) => place.children[k].getAttribute("aria-label")).join("\n");
}

function addValues(message) {
  const camera = message.camera ?? 0;
  faces.set(camera, message.faces);
  for (const face of message.faces) {
    const name = `${camera}/${face.face}`;
    const trace = traces.get(name) ?? [];
    trace.push([message.time_s, scoreOf(face)]);
    traces.set(name, trace);
  }
  now = sources.length ? Math.max(now, message.time_s) : message.time_s;
  if (camera === 0) addFirst(message.time_s, mainFace(message.faces));
  for (const [name, trace] of traces) {
    while (trace.length && trace[0][0] < now - CURVE_S) trace.shift();
    if (!trace.length) traces.delete(name);
  }
  showReadable();
  // Curve and timeline go on if the first source has ended before the others.
  if (camera === 0 || now - firstAt > HOLE_S) draw();
}

// The values of the first source: score and timeline are about it.
function addFirst(time, main) {
  const before = firstAt;
  beganAt ??= time;
  firstAt = time;
  write("score", fixed(main?.score, 2));
  at("score").classList.toggle("over", scoreOf(main) >= 1);
  addSpan(before, time, main);
}

// The spans that the timeline can show.
function lately(known, time) {
  const isShown = (span) => span.end > time - LONGEST_TIMELINE_S;
  const isFine = known.length <= MAX_SPANS && (!known.length || isShown(known[0]));
  return isFine ? known : known.filter(isShown).slice(-MAX_SPANS);
}

function addSpan(before, time, main) {
  if (before !== null && time > before && time - before < HOLE_S) {
    if (!main) {
      const last = gaps.at(-1);
      if (last && last.isOurs && last.end >= before) last.end = time;
      else gaps.push({ start: before, end: time, isOurs: true });
    } else if (main.readable) {
      const readable = Object.keys(PARTS).map((part) => main.readable.includes(part));
      const last = spans.at(-1);
      const isSame = last?.end === before && last.readable.every((can, k) => can === readable[k]);
      if (isSame) last.end = time;
      else spans.push({ start: before, end: time, readable });
    }
  }
  spans = lately(spans, time);
  gaps = lately(gaps, time);
}

function draw() {
  const main = mainFace(faces.get(0) ?? []);
  const name = main && `0/${main.face}`;
  const order = [...traces].sort(([a], [b]) => (a === name) - (b === name)).map(([, trace]) => trace);
  const windows = events
    .filter(({ event }) => event.offset_s > now - CURVE_S && isAboutFirst(event))
    .map(({ event }) => windowOf(event, labels));
  for (const { mark } of marks) {
    if (mark.time_s <= now - CURVE_S) continue;
    windows.push({ start: mark.time_s, end: mark.time_s, colour: colour("text") });
  }
  drawCurve(at("curve"), {
    now, spanS: CURVE_S, windows, traces: order, hasMain: main !== null || order.length === 1,
  });
  drawTimeline();
}

function drawTimeline() {
  const minutes = Math.ceil(Math.max(now, 1) / 60) * 60;
  const spanS = Math.min(LONGEST_TIMELINE_S, Math.max(SHORTEST_TIMELINE_S, minutes));
  write("timeline-name", spanS === 60 ? "Last minute" : `Last ${spanS / 60} minutes`);
  const start = Math.max(0, now - spanS);
  const end = start + spanS;
  const step = spanS === 60 ? 10 : 60;
  const ticks = [];
  for (let tick = Math.ceil(start / step) * step; tick <= end; tick += step) ticks.push(tick);
  drawStrip(at("strip"), { start, end, spans, gaps, ticks });
  const place = (time) => `${(100 * (time - start)) / spanS}%`;
  const texts = at("ticks");
  while (texts.children.length > ticks.length) texts.lastElementChild.remove();
  while (texts.children.length < ticks.length) texts.append(make("span"));
  ticks.forEach((tick, k) => {
    texts.children[k].textContent = clock(tick, 0);
    texts.children[k].style.left = place(tick);
    texts.children[k].hidden = tick > start + 0.96 * spanS;
  });
  for (const item of [...at("moments").children]) {
    if (item.time < start) removeMoment(item);
    else item.style.left = place(item.time);
  }
}

// An event or mark on the timeline is a button that leads to its row. One of them is reached with
// Tab, the others from there with the arrow keys.
function addMoment(n, time, sign, title, className) {
  const item = make("li");
  item.time = time;
  const button = make("button", `moment ${className}`, sign);
  button.type = "button";
  button.setAttribute("aria-label", title);
  button.title = title;
  button.tabIndex = -1;
  button.onclick = () => goToRow(n);
  item.append(button);
  const later = [...at("moments").children].find((other) => other.time > time);
  at("moments").insertBefore(item, later ?? null);
  chooseMoment(at("moments").contains(document.activeElement) ? document.activeElement : button);
}

function removeMoment(item) {
  const hadFocus = item.contains(document.activeElement);
  const next = item.nextElementSibling?.firstElementChild;
  const wasChosen = item.firstElementChild.tabIndex === 0;
  item.remove();
  if (next && wasChosen) chooseMoment(next);
  if (hadFocus) (next ?? at("events")).focus();
}

function chooseMoment(button) {
  for (const other of at("moments").querySelectorAll("button")) other.tabIndex = other === button ? 0 : -1;
}

function goToRow(n) {
  const row = at("events").querySelector(`li[data-n="${n}"]`);
  if (!row) return;
  setWide(false);
  row.focus({ preventScroll: true });
  const isReduced = matchMedia("(prefers-reduced-motion: reduce)").matches;
  row.scrollIntoView({ block: "nearest", behavior: isReduced ? "auto" : "smooth" });
}

function showPicture(bitmap) {
  if (picture.width !== bitmap.width || picture.height !== bitmap.height) {
    picture.width = bitmap.width;
    picture.height = bitmap.height;
  }
  pen.drawImage(bitmap, 0, 0);
  picture.dataset.shown = "yes";
  if (hasPicture) return;
  hasPicture = true;
  showState();
}

// What the reader does.

function setWide(isWide) {
  document.body.classList.toggle("wide", isWide);
  at("narrow").hidden = !isWide;
  if (!isWide) draw();
}

function setGaps(areShown) {
  at("gaps").setAttribute("aria-pressed", String(areShown));
  at("events").classList.toggle("without-gaps", !areShown);
}

// Sends a command; returns whether it left.
function command(message) {
  const isSent = mayControl && live.send(message);
  if (mayControl && !isSent) toast("not sent: there is no connection");
  return isSent;
}

function mark() {
  if (command({ command: "mark", text: at("mark-text").value.trim() })) at("mark-text").value = "";
}

function step(steps) {
  command({ command: "sensitivity", steps });
}

function openHelp() {
  if (!at("help").open) at("help").showModal();
}

const KEYS = {
  d: () => setWide(!document.body.classList.contains("wide")),
  e: () => {
    setWide(false);
    (at("events").querySelector("li[tabindex]") ?? at("events")).focus();
  },
  t: () => {
    setWide(false);
    at("moments").querySelector("button[tabindex='0']")?.focus();
  },
  g: () => setGaps(at("gaps").getAttribute("aria-pressed") !== "true"),
  k: mark,
  "+": () => step(1),
  "=": () => step(1),
  "-": () => step(-1),
  _: () => step(-1),
  "?": openHelp,
  h: openHelp,
};

// Moves the focus among neighbours; returns whether there was one.
function moveFocus(elements, from, by) {
  const next = elements[elements.indexOf(from) + by];
  next?.focus();
  return Boolean(next);
}

function obey(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || at("help").open) return;
  const focus = document.activeElement;
  if (focus.matches("input")) {
    if (event.key === "Enter" && focus === at("mark-text")) mark();
    if (event.key === "Escape") focus.blur();
    return;
  }
  const sideways = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const upright = { ArrowUp: -1, ArrowDown: 1 }[event.key];
  const moments = at("moments");
  if (sideways && moments.contains(focus)) {
    moveFocus([...moments.querySelectorAll("button")], focus, sideways);
    chooseMoment(document.activeElement);
    event.preventDefault();
  } else if (upright && focus.matches("#events li")) {
    if (moveFocus([...at("events").querySelectorAll("li[tabindex]")], focus, upright)) event.preventDefault();
  } else if (event.key === "Escape") setWide(false);
  else if (at("keys").checked && KEYS[event.key.toLowerCase()]) {
    event.preventDefault();
    KEYS[event.key.toLowerCase()]();
  }
}

document.addEventListener("keydown", obey);
at("narrow").onclick = () => setWide(false);
at("gaps").onclick = KEYS.g;
at("less").onclick = () => step(-1);
at("more").onclick = () => step(1);
at("mark").onclick = mark;
at("help-open").onclick = openHelp;
at("help-close").onclick = () => at("help").close();
new ResizeObserver(draw).observe(at("curve"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

const live = new Live({
  message(message, isPast) {
    if (message.type === "hello") greet(message);
    else if (message.type === "record") addRecord(message, isPast);
    else if (message.type === "values") addValues(message);
    else if (message.type === "thumbnail") addThumbnail(message);
    else if (message.type === "status") showStatus(message);
    else if (message.type === "controlled") toast(message.text);
    else if (message.type === "end") showEnd(message.summary);
  },
  state(newState) {
    state = newState;
    showState();
  },
  picture: showPicture,
});
