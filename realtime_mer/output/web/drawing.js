// What is drawn into canvases: the score's curve, the timeline's strip and the faces of an event.

// Longer times between two scores are a hole in the curve.
const HOLE_S = 0.5;
const FACE_PX = 224;
// The face at the apex is darkened, so that the arrows stand out on any skin.
const DARKER = "rgb(0 0 0 / 40%)";

// A face in lines, in the 224 px face: each is a list of x, y, x, y, ...; measured on the demo's.
const FACE_LINES = [
  [123, 18, 176, 22, 211, 40, 223, 69, 224, 108, 221, 151, 208, 195, 184, 225, 158, 247, 122, 257,
    86, 246, 63, 224, 40, 193, 27, 148, 24, 106, 25, 67, 36, 38, 71, 21, 123, 18],
  [58, 86, 70, 92, 86, 93, 99, 91, 90, 84, 74, 79, 58, 86],
  [191, 87, 178, 93, 162, 93, 149, 92, 158, 84, 174, 80, 191, 87],
  [39, 64, 61, 54, 100, 60],
  [209, 66, 187, 55, 147, 59],
  [77, 171, 98, 198, 123, 205, 148, 198, 170, 170, 124, 172, 77, 171],
];
// Where its regions are.
const REGIONS = {
  "inner brow left": [94, 65], "inner brow right": [153, 64],
  "outer brow left": [46, 63], "outer brow right": [203, 65],
  "glabella": [123, 67],
  "lower lid left": [73, 113], "lower lid right": [174, 114],
  "nose wing left": [92, 142], "nose wing right": [155, 143],
  "cheek left": [50, 140], "cheek right": [197, 141],
  "lip corner left": [72, 170], "lip corner right": [175, 170],
  "upper lip": [124, 171], "lower lip": [123, 203], "chin": [122, 239],
};
// As the desktop overlay's heat map: smaller motions are noise, larger ones have the hottest colour.
const QUIET_PX = 0.35;
const HOTTEST_PX = 2;
// Its colours, Viridis, in steps.
const HEAT = ["#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"];
const MOTION_GAIN = 24;
const SPOT_PX = 26;
const FACE_HEIGHT_PX = 264;

// The value of a colour of the style sheet.
export function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

// A pen for a canvas that has as many pixels as the screen shows of it. Its unit is a 16th of the
// letters' size, so that lines are as thick for the letters everywhere.
function penFor(canvas) {
  const unit = Number.parseFloat(getComputedStyle(document.documentElement).fontSize) / 16;
  const ratio = unit * (window.devicePixelRatio || 1);
  const [width, height] = [canvas.clientWidth / unit, canvas.clientHeight / unit];
  const pixels = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
  if (canvas.width !== pixels[0]) canvas.width = pixels[0];
  if (canvas.height !== pixels[1]) canvas.height = pixels[1];
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, height);
  return { pen, width, height };
}

// The threshold is at half height. Above it the curve flattens, so that strong motions fit.
function level(score) {
  return score <= 1 ? Math.max(0, score) / 2 : 1 - 0.5 / score;
}

// The score over the last `spanS` seconds. `traces` are lists of [time, score / threshold], that of
// the main face last if there is one; `windows` are {start, apex, end, colour}.
export function drawCurve(canvas, { now, spanS, traces, windows, hasMain, isPlain = false }) {
  const { pen, width, height } = penFor(canvas);
  const x = (time) => ((time - now + spanS) / spanS) * width;
  if (!isPlain) {
    pen.strokeStyle = colour("line");
    pen.lineWidth = 1;
    pen.beginPath();
    for (let s = 2; s < spanS; s += 2) {
      pen.moveTo(Math.round(x(now - s)) + 0.5, 0);
      pen.lineTo(Math.round(x(now - s)) + 0.5, height);
    }
    pen.stroke();
  }
  for (const { start, apex, end, colour } of windows) {
    const [left, right] = [x(start), Math.max(x(end), x(start) + 2)];
    if (right < 0) continue;
    pen.fillStyle = colour;
    pen.globalAlpha = 0.3;
    pen.fillRect(left, 0, right - left, height);
    pen.globalAlpha = 1;
    pen.fillRect(left, 0, 1.5, height);
    pen.fillRect(right - 1.5, 0, 1.5, height);
    if (apex === undefined) continue;
    pen.beginPath();
    pen.moveTo(x(apex) - 5, 0);
    pen.lineTo(x(apex) + 5, 0);
    pen.lineTo(x(apex), 7);
    pen.fill();
  }
  pen.strokeStyle = colour("threshold");
  pen.lineWidth = 1.5;
  pen.setLineDash([6, 5]);
  pen.beginPath();
  pen.moveTo(0, height / 2);
  pen.lineTo(width, height / 2);
  pen.stroke();
  pen.setLineDash([]);
  pen.lineJoin = "round";
  traces.forEach((trace, k) => {
    const isMain = hasMain && k === traces.length - 1;
    pen.strokeStyle = colour(isMain ? "curve" : "dim");
    pen.lineWidth = isMain ? 2 : 1;
    pen.beginPath();
    let before = null;
    for (const [time, score] of trace) {
      if (score === null) {
        before = null;
        continue;
      }
      // Half the line's width stays free at both ends.
      const y = 1 + (1 - level(score)) * (height - 2);
      if (before === null || time - before > HOLE_S) pen.moveTo(x(time), y);
      else pen.lineTo(x(time), y);
      before = time;
    }
    pen.stroke();
  });
}

// Three lines, one for each part of the face, drawn where it could be read, and hatching where the
// face was not followed. `spans` are {start, end, readable}, `gaps` {start, end}.
export function drawStrip(canvas, { start, end, spans, gaps, ticks }) {
  const { pen, width, height } = penFor(canvas);
  const x = (time) => ((time - start) / (end - start)) * width;
  pen.fillStyle = colour("line");
  for (const tick of ticks) pen.fillRect(Math.round(x(tick)), 0, 1, height);
  const row = height / 3;
  for (const span of spans) {
    pen.fillStyle = colour("readable");
    const left = Math.max(0, x(span.start));
    // Neighbours must not leave a seam.
    const length = Math.max(1, x(span.end) - left + 0.5);
    span.readable.forEach((can, k) => {
      if (can) pen.fillRect(left, k * row + row * 0.2, length, row * 0.6);
    });
  }
  pen.strokeStyle = colour("dim");
  pen.lineWidth = 1;
  for (const gap of gaps) {
    const left = Math.max(0, x(gap.start));
    const right = Math.max(x(gap.end), left + 2);
    if (right < 0) continue;
    pen.save();
    pen.beginPath();
    pen.rect(left, 0, right - left, height);
    pen.clip();
    pen.beginPath();
    for (let at = left - height; at < right; at += 5) {
      pen.moveTo(at, height);
      pen.lineTo(at + height, 0);
    }
    pen.stroke();
    pen.restore();
  }
}

// A JPEG in base 64 as a bitmap. No address of its own: the page's policy allows none.
export function decoded(base64) {
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: "image/jpeg" }));
}

// A face of an event; `arrows` are [x, y, dx, dy] in pixels of the 224 px face.
export function drawFace(canvas, bitmap, arrows, ink) {
  canvas.width = canvas.height = FACE_PX;
  const pen = canvas.getContext("2d");
  pen.drawImage(bitmap, 0, 0, FACE_PX, FACE_PX);
  if (!arrows.length) return;
  pen.fillStyle = DARKER;
  pen.fillRect(0, 0, FACE_PX, FACE_PX);
  pen.strokeStyle = ink;
  pen.lineWidth = 4;
  for (const arrow of arrows) drawArrow(pen, ...arrow);
}

// An arrow from (x, y) to (x + dx, y + dy).
function drawArrow(pen, x, y, dx, dy) {
  const [endX, endY] = [x + dx, y + dy];
  pen.lineCap = pen.lineJoin = "round";
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(endX, endY);
  for (const side of [-1, 1]) {
    pen.moveTo(endX, endY);
    pen.lineTo(endX - 0.4 * dx + side * 0.3 * dy, endY - 0.4 * dy - side * 0.3 * dx);
  }
  pen.stroke();
}

// A face in lines with a spot and an arrow wherever it moves. `regions` are name: [dx, dy] in
// pixels of the 224 px face; null if there is no face.
export function drawMotion(canvas, regions) {
  const { pen, width, height } = penFor(canvas);
  const scale = Math.min(width / FACE_PX, height / FACE_HEIGHT_PX);
  pen.translate((width - scale * 248) / 2, 0);
  pen.scale(scale, scale);
  for (const [name, [dx, dy]] of Object.entries(regions ?? {})) {
    const size = Math.hypot(dx, dy);
    if (size < QUIET_PX || !REGIONS[name]) continue;
    const heat = Math.min(1, (size - QUIET_PX) / (HOTTEST_PX - QUIET_PX));
    pen.fillStyle = HEAT[Math.round(heat * (HEAT.length - 1))];
    pen.globalAlpha = 0.8;
    pen.beginPath();
    pen.arc(...REGIONS[name], SPOT_PX, 0, 2 * Math.PI);
    pen.fill();
    pen.globalAlpha = 1;
  }
  pen.strokeStyle = colour(regions ? "text" : "line");
  pen.lineWidth = 5;
  pen.lineJoin = pen.lineCap = "round";
  for (const [x, y, ...more] of FACE_LINES) {
    pen.beginPath();
    pen.moveTo(x, y);
    for (let k = 0; k < more.length; k += 2) pen.lineTo(more[k], more[k + 1]);
    pen.stroke();
  }
  pen.lineWidth = 8;
  for (const [name, [dx, dy]] of Object.entries(regions ?? {})) {
    if (Math.hypot(dx, dy) < QUIET_PX || !REGIONS[name]) continue;
    const [x, y] = REGIONS[name];
    const gain = MOTION_GAIN;
    drawArrow(pen, x - (gain * dx) / 2, y - (gain * dy) / 2, gain * dx, gain * dy);
  }
}
