// Shows the events one by one and sends what the reviewer decides. Text from the server is never
// treated as markup.
"use strict";

const SPEEDS = [1, 0.5, 0.25];
const SPEED_NAMES = ["1/1", "1/2", "1/4"];
// Without a clip, a step is a frame of a usual camera.
const STEP_S = 1 / 30;
// Clips that are kept decoded: the shown one, its neighbours and their magnified ones.
const MAX_CLIPS = 8;
const KEYS = [
  ["T, F, U", "true, false, unsure"],
  ["1, 2, 3", "true, and of this label"],
  ["Q, W", "onset one frame earlier, later"],
  ["E, R", "offset one frame earlier, later"],
  ["A", "add a missed event that begins at the shown time"],
  ["Z", "undo the last change"],
  ["N, P", "next event, previous event"],
  ["Space", "pause or play the loop"],
  ["← →", "one frame back, on"],
  ["S", "speed 1/1, 1/2, 1/4"],
  ["M", "magnify the motion"],
  ["H, ?", "this help"],
];
// What is told where there are no keys.
const BUTTONS = [
  ["True, False, Unsure", "your verdict"],
  ["the labels", "true, and of this label"],
  ["− and +", "onset or offset one frame earlier, later"],
  ["Add missed", "a missed event that begins at the shown time"],
  ["Undo", "takes the last change back"],
  ["−1 and +1", "one frame back, on"],
  ["Speed", "1/1, 1/2, 1/4"],
  ["Magnify", "the skin moves five times as far"],
];

const at = (id) => document.getElementById(id);
const pen = at("clip").getContext("2d");
const stillness = matchMedia("(prefers-reduced-motion: reduce)");

let events = [];
let byId = new Map();
let labels = [];
let order = [];
let place = 0;
let current = null;
// The shown clip: {times, pictures}, or null.
let clip = null;
let clipTime = 0;
let playing = !stillness.matches;
let speed = 0;
let magnifying = false;
let canUndo = false;
// Seconds for which the event has been looked at.
let looked = 0;
let lastTick = performance.now();
// One command after the other: a key that is pressed before the last answer has come belongs to
// the event that this answer will show.
let queue = Promise.resolve();
let summaryTimer = 0;
let chosenRate = null;
const clips = new Map();

function write(id, text) {
  if (at(id).textContent !== text) at(id).textContent = text;
}

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function clock(seconds) {
  const ms = Math.round(seconds * 1000);
  const pad = (number, digits) => String(number).padStart(digits, "0");
  const tail = `${pad(Math.floor(ms / 1000) % 60, 2)}.${pad(ms % 1000, 3)}`;
  const hours = Math.floor(ms / 3600000);
  const minutes = Math.floor(ms / 60000) % 60;
  return hours ? `${hours}:${pad(minutes, 2)}:${tail}` : `${minutes}:${tail}`;
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

function say(text) {
  write("spoken", text);
}

function complain(text) {
  write("alert", text);
  at("alert").hidden = !text;
}

async function ask(path, values) {
  const options = values && {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(values),
  };
  let answer;
  try {
    answer = await fetch(path, options);
  } catch {
    throw new Error("The program does not answer: has it been ended? Nothing more is kept.");
  }
  const kind = answer.headers.get("Content-Type") ?? "";
  if (answer.ok && kind.startsWith("application/octet-stream")) return answer.arrayBuffer();
  const isJson = kind.startsWith("application/json");
  const message = isJson ? await answer.json() : { error: await answer.text() };
  if (!answer.ok) throw new Error(message.error);
  return message;
}

// Events and their order

// The same for everyone and at every start, but without any relation to what is shown.
function shuffled(id) {
  let hash = 2166136261;
  for (let i = 0; i < id.length; i += 1) hash = Math.imul(hash ^ id.charCodeAt(i), 16777619);
  hash = Math.imul(hash ^ (hash >>> 15), 2246822519);
  return (hash ^ (hash >>> 13)) >>> 0;
}

function certainty(event) {
  return event.score === null || event.score === undefined ? null : Math.abs(event.score - 0.5);
}

function sortEvents() {
  const how = at("order").value;
  const found = events.filter((event) => !event.added);
  if (how === "random") {
    const rank = new Map(found.map((event) => [event, shuffled(event.id)]));
    found.sort((a, b) => rank.get(a) - rank.get(b));
  } else if (how !== "time") {
    const sign = how === "certain" ? -1 : 1;
    // Those without a score come last.
    const value = (event) => certainty(event) === null ? Infinity : sign * certainty(event);
    const rank = new Map(found.map((event) => [event, value(event)]));
    found.sort((a, b) => rank.get(a) - rank.get(b) || 0);
  }
  // What was added follows the event in whose clip it was seen.
  order = found.flatMap((event) => [
    event,
    ...events.filter((other) => other.added && other.clip === event.id),
  ]);
}

function verdictOf(event) {
  return event.own?.verdict ?? null;
}

function showProgress() {
  const found = events.filter((event) => !event.added);
  const decided = found.filter(verdictOf).length;
  const added = events.length - found.length;
  at("progress").max = Math.max(1, found.length);
  at("progress").value = decided;
  const more = added ? `, ${added} added` : "";
  write("progress-text", `${decided} of ${found.length} decided${more}`);
  at("undo").disabled = !canUndo;
}

function goTo(index, words = "") {
  if (!order.length) return;
  place = (index + order.length) % order.length;
  current = order[place];
  looked = 0;
  clip = null;
  clipTime = -Infinity;
  // Never the face before under the new title.
  pen.clearRect(0, 0, at("clip").width, at("clip").height);
  setPlaying(playing || !stillness.matches);
  showEvent();
  loadClip(current, magnifying);
  say(`${words}${spokenTitle()}`);
}

function spokenTitle() {
  const name = current.added ? "added event" : current.label;
  const own = verdictOf(current) ? `, you said ${ownWords(current)}` : "";
  return `${at("title").textContent}: ${name}, ${current.video}, at ${clock(span(current).onset)}${own}`;
}

function nextUndecided() {
  for (let step = 1; step <= order.length; step += 1) {
    const index = (place + step) % order.length;
    if (!verdictOf(order[index])) return index;
  }
  return null;
}

// Onset and offset as the reviewer has them.
function span(event) {
  const source = event.own ?? event;
  return { onset: source.onset_s, offset: source.offset_s };
}

function ownWords(event) {
  const verdict = verdictOf(event);
  if (!verdict) return event.own ? "no verdict, times moved" : "nothing yet";
  const label = event.own.label;
  return verdict === "true" && label ? `true, ${label}` : verdict;
}

function showEvent() {
  const event = current;
  write("title", `Event ${place + 1} of ${order.length}`);
  const face = `face ${event.face}`;
  const which = event.added ? "added by you" : `number ${event.number}`;
  write("where", `${event.video} · ${which} · ${face} · ${clock(span(event).onset)}`);
  write("label", event.added ? "nothing" : event.label);
  write("confidence", event.added ? "–" : percent(event.confidence));
  write("score", typeof event.score === "number" ? percent(event.score) : "–");
  write("own", ownWords(event));
  at("own").className = verdictOf(event) ?? "";
  for (const button of document.querySelectorAll("[data-verdict]")) {
    button.setAttribute("aria-pressed", String(button.dataset.verdict === verdictOf(event)));
  }
  for (const button of at("labels").children) {
    const isOn = verdictOf(event) === "true" && event.own.label === button.dataset.label;
    button.setAttribute("aria-pressed", String(isOn));
  }
  showTimes();
  showProgress();
}

function showTimes() {
  const { onset, offset } = span(current);
  const moved = (now, before) => {
    if (before === undefined) return "";
    const ms = Math.round(1000 * (now - before));
    return ms ? ` (${ms > 0 ? "+" : "−"}${Math.abs(ms)} ms)` : "";
  };
  write("onset", clock(onset) + moved(onset, current.onset_s));
  write("offset", clock(offset) + moved(offset, current.offset_s));
  drawLine();
}

// The clip

async function fetchClip(id, magnified) {
  const path = `${magnified ? "magnified" : "clip"}/${id}`;
  if (!clips.has(path)) {
    const making = decodeClip(path);
    clips.set(path, making);
    making.catch(() => clips.delete(path));
    while (clips.size > MAX_CLIPS) clips.delete(clips.keys().next().value);
  } else {
    const kept = clips.get(path);
    clips.delete(path);
    clips.set(path, kept);
  }
  return clips.get(path);
}

async function decodeClip(path) {
  const data = await ask(path.split("/").map(encodeURIComponent).join("/"));
  const view = new DataView(data);
  const blocks = [];
  for (let offset = 0; offset < data.byteLength; ) {
    const length = view.getUint32(offset);
    blocks.push(new Uint8Array(data, offset + 4, length));
    offset += 4 + length;
  }
  const { times_s: times } = JSON.parse(new TextDecoder().decode(blocks[0]));
  const pictures = await Promise.all(
    blocks.slice(1).map((block) => createImageBitmap(new Blob([block], { type: "image/jpeg" }))),
  );
  return { times, pictures };
}

async function loadClip(event, magnified) {
  const isWanted = () => event.id === current.id && magnified === magnifying;
  at("no-clip").hidden = event.has_clip;
  at("making").textContent = "";
  if (!event.has_clip) {
    const name = event.video;
    write("no-clip", `No clip of this event was kept. Look for it in ${name} at ${clock(span(event).onset)}.`);
    write("now", "");
    drawLine();
    return;
  }
  const patience = setTimeout(() => {
    if (isWanted()) write("making", magnified ? "magnifying the motion" : "loading the clip");
  }, 300);
  try {
    // Magnifying takes a second or two: meanwhile, the clip is shown as it is.
    for (const how of magnified && !clip ? [false, true] : [magnified]) {
      const loaded = await fetchClip(event.clip, how);
      if (!isWanted()) return;
      clip = loaded;
      if (clipTime < clip.times[0] || clipTime > end(clip)) clipTime = clip.times[0];
      draw();
      drawLine();
    }
    const next = order[(place + 1) % order.length];
    if (next.has_clip) {
      fetchClip(next.clip, false).catch(() => {});
      if (magnified) fetchClip(next.clip, true).catch(() => {});
    }
  } catch (error) {
    if (!isWanted()) return;
    if (magnified) complain(`The motion cannot be magnified: ${error.message}`);
    at("no-clip").hidden = clip !== null;
    write("no-clip", error.message);
  } finally {
    clearTimeout(patience);
    if (isWanted()) write("making", "");
  }
}

// When the loop begins again: the last picture is shown as long as the others.
function end({ times }) {
  const last = times[times.length - 1];
  return times.length > 1 ? last + (last - times[0]) / (times.length - 1) : last + STEP_S;
}

function frameAt(time) {
  let low = 0;
  let high = clip.times.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (clip.times[middle] <= time + 1e-6) low = middle;
    else high = middle - 1;
  }
  return low;
}

function nearestFrame(time) {
  const frame = frameAt(time);
  const next = Math.min(frame + 1, clip.times.length - 1);
  return clip.times[next] - time < time - clip.times[frame] ? next : frame;
}

function draw() {
  if (!clip) return;
  const index = frameAt(clipTime);
  pen.drawImage(clip.pictures[index], 0, 0, at("clip").width, at("clip").height);
  const times = clip.times;
  const position = (clipTime - times[0]) / (end(clip) - times[0]);
  at("head").style.left = `${100 * Math.min(1, Math.max(0, position))}%`;
  const { onset, offset } = span(current);
  const time = times[index];
  const part = time < onset - 1e-3 ? "before" : time > offset + 1e-3 ? "after" : "during the event";
  write("now", `${clock(time)} · frame ${index + 1} of ${times.length} · ${part}`);
}

function drawLine() {
  const { onset, offset } = span(current);
  const line = at("line");
  line.hidden = !clip;
  const label = `The event from ${clock(onset)} to ${clock(offset)}`;
  if (line.getAttribute("aria-label") !== label) line.setAttribute("aria-label", label);
  if (!clip) return;
  const first = clip.times[0];
  const length = end(clip) - first;
  const left = (time) => `${100 * Math.min(1, Math.max(0, (time - first) / length))}%`;
  at("band").style.left = left(onset);
  at("band").style.right = `calc(100% - ${left(offset)})`;
  const marks = { onset: current.onset_s, apex: current.apex_s, offset: current.offset_s };
  for (const [name, time] of Object.entries(marks)) {
    at(`mark-${name}`).hidden = time === undefined;
    if (time !== undefined) at(`mark-${name}`).style.left = left(time);
  }
}

function tick(now) {
  const passed = Math.min(0.25, (now - lastTick) / 1000);
  lastTick = now;
  if (!document.hidden && !at("help").open) looked += passed;
  if (clip && playing && !document.hidden) {
    clipTime += passed * SPEEDS[speed];
    if (clipTime >= end(clip)) clipTime = clip.times[0];
    draw();
  }
  requestAnimationFrame(tick);
}

function setPlaying(on) {
  playing = on;
  const button = at("play");
  button.firstChild.textContent = on ? "Pause " : "Play ";
}

function stepFrame(by) {
  if (!clip) return;
  setPlaying(false);
  const count = clip.times.length;
  const index = (frameAt(clipTime) + by + count) % count;
  clipTime = clip.times[index];
  draw();
}

function changeSpeed() {
  speed = (speed + 1) % SPEEDS.length;
  at("speed").firstChild.textContent = `Speed ${SPEED_NAMES[speed]} `;
  say(`speed ${SPEED_NAMES[speed]}`);
}

function toggleMagnify() {
  magnifying = !magnifying;
  at("magnify").setAttribute("aria-pressed", String(magnifying));
  say(magnifying ? "magnified" : "not magnified");
  loadClip(current, magnifying);
}

// Decisions

// The server's answer; null, after a complaint, if the command failed.
async function send(path, values) {
  try {
    const message = await ask(path, values);
    complain("");
    canUndo = message.can_undo;
    const known = byId.get(message.event);
    if (message.item && known) Object.assign(known, message.item);
    clearTimeout(summaryTimer);
    summaryTimer = setTimeout(showSummary, 200);
    return message;
  } catch (error) {
    complain(error.message);
    return null;
  }
}

// What a decision does not name stays as it is on the server, where another window may have changed
// it.

async function decide(verdict, label) {
  const event = current;
  const took = Math.max(0.1, Math.min(3600, looked));
  looked = 0;
  // A label holds for what is true only; without a new one, the old one stays: JSON leaves out what
  // is undefined.
  const kept = verdict === "true" ? label : null;
  if (!(await send("decide", { event: event.id, verdict, label: kept, took_s: took }))) return;
  const words = `${ownWords(event)}. `;
  setPlaying(playing || !stillness.matches);
  const next = nextUndecided();
  if (next === null) {
    showEvent();
    say(`${words}All events are decided.`);
  } else goTo(next, words);
}

async function move(which, by) {
  const event = current;
  const before = span(event)[which];
  let moved = Math.max(0, before + by * STEP_S);
  if (clip) {
    const frame = Math.min(clip.times.length - 1, Math.max(0, nearestFrame(before) + by));
    moved = clip.times[frame];
  }
  if (!(await send("decide", { event: event.id, [`${which}_s`]: moved }))) return;
  showEvent();
  if (clip) {
    setPlaying(false);
    clipTime = clip.times[nearestFrame(moved)];
    draw();
  }
  say(`${which} ${clock(moved)}`);
}

async function addMissed() {
  const time = clip ? clip.times[frameAt(clipTime)] : span(current).onset;
  const message = await send("add", { event: current.id, onset_s: Math.max(0, time) });
  if (!message) return;
  register(message.item);
  sortEvents();
  goTo(order.findIndex((event) => event.id === message.item.id), "Added. ");
}

async function undo() {
  if (!canUndo) {
    say("There is nothing to undo.");
    return;
  }
  const message = await send("undo", {});
  if (!message) return;
  let id = message.event;
  let words = "Undone. ";
  if (!message.item && byId.has(id)) {
    const gone = byId.get(id);
    events = events.filter((event) => event !== gone);
    byId.delete(id);
    id = gone.clip;
    words = "Undone: the added event is gone. ";
  }
  sortEvents();
  // What was undone may be about an event that is no longer in these results.
  const index = order.findIndex((event) => event.id === id);
  goTo(index < 0 ? place : index, words);
}

function register(item) {
  events.push(item);
  byId.set(item.id, item);
}

// What it is worth

function count(number, noun) {
  return number === 1 ? `1 ${noun}` : `${number} ${noun}s`;
}

async function showSummary() {
  let summary;
  try {
    summary = await ask("summary");
  } catch (error) {
    complain(error.message);
    return;
  }
  const { verdicts } = summary;
  const decided = verdicts.true + verdicts.false;
  const run = summary.rows.find((row) => row.kind === "as run");
  const all = run ?? { precision: decided ? verdicts.true / decided : null };
  write(
    "precision",
    all.precision === null
      ? "Nothing is decided yet: precision is known from the first verdict on."
      : `${verdicts.true} of ${decided} decided events are true: precision ${percent(all.precision)}` +
          (all.interval ? `, 95 % interval ${percent(all.interval[0])} to ${percent(all.interval[1])}.` : "."),
  );
  showCaveats(summary, decided);
  showRows(summary.rows);
  showAgreement(summary);
}

function showCaveats(summary, decided) {
  const caveats = [];
  const { verdicts, events: total } = summary;
  if (decided && decided < total) {
    caveats.push(
      `${total - decided} of ${total} events have no agreed verdict. The reviewed ones stand for the rest ` +
        "only if they were taken at random (see Order).",
    );
  }
  const open = [];
  if (verdicts.disputed) open.push(`${verdicts.disputed} disputed`);
  if (verdicts.unsure) open.push(`${verdicts.unsure} unsure`);
  if (open.length) caveats.push(`${open.join(" and ")}: they count neither as true nor as false.`);
  if (summary.added) {
    const verb = summary.added === 1 ? "was" : "were";
    caveats.push(
      `${count(summary.added, "missed event")} ${verb} added by hand. Whether a larger sensitivity finds ` +
        "what was missed, only a new run tells.",
    );
  }
  if (!summary.tells_stricter) {
    caveats.push(
      "These results do not tell at which sensitivity each event would be missing: run the archive " +
        "again with this version to compare stricter ones.",
    );
  }
  caveats.push(
    "A larger sensitivity than that of the run reports events that are not here: what they are worth, " +
      "only a new run tells.",
  );
  caveats.push(
    summary.look_s === null
      ? "How long a review takes is known after 5 verdicts."
      : `A verdict took ${summary.look_s.toFixed(1)} s on average; so the minutes of review below.`,
  );
  at("caveats").replaceChildren(...caveats.map((text) => make("li", text)));
}

function showRows(rows) {
  const hadFocus = document.activeElement?.name === "sensitivity";
  const shown = rows.filter((row) => row.kind !== "stricter" || row.reports !== 0);
  const rendered = shown.map((row) => {
    const line = make("tr");
    const head = make("th");
    head.scope = "row";
    const label = make("label");
    const radio = make("input");
    radio.type = "radio";
    radio.name = "sensitivity";
    radio.value = String(row.sensitivity);
    radio.checked = chosenRate === null ? row.kind === "as run" : row.sensitivity === chosenRate;
    const name = String(+row.sensitivity.toPrecision(2));
    label.append(radio, row.kind === "as run" ? `${name} (this run)` : name);
    head.append(label);
    line.append(head);
    if (row.reports === null) {
      const cell = make("td", row.kind === "looser" ? "only a new run tells" : "not known of these results", "unknown");
      cell.colSpan = 5;
      line.append(cell);
      return line;
    }
    const bounds = row.interval && ` (${Math.round(100 * row.interval[0])} to ${percent(row.interval[1])})`;
    const hourly = row.reports_per_hour;
    const minutes = row.minutes_per_hour;
    line.append(
      make("td", hourly === null ? `${row.reports} in all` : hourly.toFixed(hourly < 100 ? 1 : 0)),
      make("td", `${row.true} of ${row.decided}`),
      make("td", row.precision === null ? "–" : percent(row.precision) + bounds),
      make("td", `${row.kept} of ${row.confirmed}`),
      make("td", minutes === null ? "–" : `${minutes.toFixed(1)} min`),
    );
    return line;
  });
  at("rows").replaceChildren(...rendered);
  if (hadFocus) document.querySelector("[name=sensitivity]:checked")?.focus();
}

function showAgreement(summary) {
  const kappa = (value) => (value === null ? "–" : value.toFixed(2));
  at("agreement").hidden = !summary.agreement.length;
  at("pairs").replaceChildren(
    ...summary.agreement.map((pair) => {
      const line = make("tr");
      const head = make("th", pair.names.join(" and "));
      head.scope = "row";
      line.append(
        head,
        make("td", pair.events ? `${pair.same} of ${pair.events}` : "no event in common"),
        make("td", kappa(pair.kappa)),
        make("td", pair.label_events ? `${kappa(pair.label_kappa)} (${count(pair.label_events, "event")})` : "–"),
      );
      return line;
    }),
  );
}

at("rows").addEventListener("change", (event) => {
  chosenRate = Number(event.target.value);
});

at("choice").addEventListener("submit", async (event) => {
  event.preventDefault();
  const radio = document.querySelector("[name=sensitivity]:checked");
  if (!radio) {
    write("chosen", "Choose a sensitivity in the table first.");
    return;
  }
  try {
    const message = await ask("settings", { sensitivity: Number(radio.value) });
    write("chosen", `Written. For new runs: --settings ${message.path}`);
  } catch (error) {
    complain(error.message);
  }
});

// Keys and buttons

const COMMANDS = {
  t: () => decide("true"),
  f: () => decide("false"),
  u: () => decide("unsure"),
  q: () => move("onset", -1),
  w: () => move("onset", 1),
  e: () => move("offset", -1),
  r: () => move("offset", 1),
  a: addMissed,
  z: undo,
  n: () => goTo(place + 1),
  p: () => goTo(place - 1),
  s: changeSpeed,
  m: toggleMagnify,
  h: openHelp,
  "?": openHelp,
  " ": () => setPlaying(!playing),
  ArrowLeft: () => stepFrame(-1),
  ArrowRight: () => stepFrame(1),
};

// They decide nothing and wait for nothing.
const AT_ONCE = new Set([" ", "ArrowLeft", "ArrowRight", "s", "m", "h", "?"]);

function openHelp() {
  at("help").showModal();
}

function run(key) {
  const isHelp = key === "h" || key === "?";
  if (!current && !isHelp) return;
  const label = labels[key - 1];
  const command = /^[1-9]$/.test(key) ? label && (() => decide("true", label)) : COMMANDS[key];
  if (!command) return;
  if (AT_ONCE.has(key)) command();
  else queue = queue.then(command).catch((error) => complain(error.message));
}

document.addEventListener("keydown", (event) => {
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const target = event.target;
  const isTaken =
    event.ctrlKey || event.altKey || event.metaKey || at("help").open ||
    target.matches("select, .scroll") ||
    (target.matches("input") && (key === " " || key.startsWith("Arrow"))) ||
    (target.matches("button") && key === " ");
  const isKey = key in COMMANDS || /^[1-9]$/.test(key);
  const isLetter = key.length === 1 && key !== " ";
  if (isTaken || !isKey || (isLetter && !at("use-keys").checked)) return;
  // A key that is held down moves times and frames, and decides nothing twice.
  if (event.repeat && !/^([qwer]|Arrow.*)$/.test(key)) return;
  event.preventDefault();
  run(key);
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-key]");
  if (button) run(button.dataset.key);
});
at("play").addEventListener("click", () => setPlaying(!playing));
at("order").addEventListener("change", () => {
  sortEvents();
  const first = order.findIndex((event) => !verdictOf(event));
  goTo(Math.max(0, first), "Sorted. ");
});

function explain(id, rows) {
  for (const [name, meaning] of rows) {
    const line = make("tr");
    const head = make("th", name);
    head.scope = "row";
    line.append(head, make("td", meaning));
    at(id).append(line);
  }
}

async function begin() {
  explain("keys", KEYS);
  explain("buttons", BUTTONS);
  setPlaying(playing);
  let state;
  try {
    state = await ask("events");
  } catch (error) {
    complain(error.message);
    return;
  }
  labels = state.labels;
  canUndo = state.can_undo;
  write("whose", `${state.folder} · reviewer ${state.reviewer}`);
  labels.forEach((label, index) => {
    const button = make("button", `${label} `);
    button.type = "button";
    button.dataset.label = label;
    button.setAttribute("aria-pressed", "false");
    if (index < 9) {
      button.dataset.key = String(index + 1);
      button.setAttribute("aria-keyshortcuts", String(index + 1));
      button.append(make("kbd", String(index + 1)));
    }
    at("labels").append(button);
  });
  state.events.forEach(register);
  sortEvents();
  const first = order.findIndex((event) => !verdictOf(event));
  goTo(Math.max(0, first));
  complain(state.notes.join(" "));
  showSummary();
  requestAnimationFrame(tick);
}

begin();
