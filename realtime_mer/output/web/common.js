// What the page and the overlay have in common: elements, and what values and status say.

import { colour } from "./drawing.js";
import { colourOf } from "./words.js";

// Seconds that the curve shows.
export const CURVE_S = 10;
// An older picture or score is not the present.
export const STALE_S = 2;

export const at = (id) => document.getElementById(id);

export function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

// Of several faces, the one with the lowest number; null if there is none.
export function mainFace(known) {
  return known.reduce((best, face) => (best && best.face <= face.face ? best : face), null);
}

// A face's score in thresholds; null if there is none.
export function scoreOf(face) {
  const score = face?.score ?? null;
  return score === null ? null : score / (face.threshold || 1);
}

// An event as the curve shows it.
export function windowOf(event, labels) {
  return {
    start: event.onset_s,
    apex: event.apex_s,
    end: event.offset_s,
    colour: colour(colourOf(event.label, labels)),
  };
}

// Whether a status says that there is nothing new to see.
export function isOld(status) {
  return status.is_away || status.age_s > STALE_S;
}
