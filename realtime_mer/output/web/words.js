// Figures and records in words.

const ARROWS = ["→", "↗", "↑", "↖", "←", "↙", "↓", "↘"];
const MOST_REGIONS = 3;
// So many labels have a colour of their own in the style sheets.
const LABEL_COLOURS = 7;

function pad(number, digits) {
  return String(number).padStart(digits, "0");
}

// Seconds as 1:02:03.456, or without the decimals.
export function clock(seconds, decimals = 3) {
  if (seconds === null || seconds === undefined) return "?";
  const unit = 10 ** decimals;
  const ticks = Math.round(Math.max(0, seconds) * unit);
  const whole = Math.floor(ticks / unit);
  const hours = Math.floor(whole / 3600);
  const minutes = Math.floor(whole / 60) % 60;
  const tail = pad(whole % 60, 2) + (decimals ? `.${pad(ticks % unit, decimals)}` : "");
  return hours ? `${hours}:${pad(minutes, 2)}:${tail}` : `${minutes}:${tail}`;
}

export function fixed(value, digits) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}

export function percent(value) {
  return value === null || value === undefined ? "–" : `${Math.round(100 * value)}%`;
}

// A length of time, as one would say it.
export function length(seconds) {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  return seconds < 60 ? `${Math.round(seconds)} s` : clock(seconds, 0);
}

export function counted(number, one, many = `${one}s`) {
  return `${number} ${number === 1 ? one : many}`;
}

// A class for the colour of a label; labels have the same colour everywhere.
export function colourOf(label, labels) {
  const index = labels.indexOf(label);
  return index < 0 ? "label-none" : `label-${index % LABEL_COLOURS}`;
}

// One letter for a label, where there is no room for more; two if another label begins like it.
export function signOf(label, labels) {
  const first = (text) => text.slice(0, 1).toUpperCase();
  const alike = labels.filter((other) => first(other) === first(label)).length;
  return first(label) + label.slice(1, alike > 1 ? 2 : 1).toLowerCase();
}

// How long and how strong an event was.
export function sizeOf(event) {
  return `${Math.round(1000 * (event.offset_s - event.onset_s))} ms · ${fixed(event.intensity_px, 1)} px`;
}

// The same, what could have been seen then, and how surely it was one at all.
export function factsOf(event) {
  const words = [sizeOf(event)];
  if (event.from_neutral_px !== undefined) words.push(`${fixed(event.from_neutral_px, 1)} px from neutral`);
  if (event.limit_px !== undefined) words.push(`limit ${fixed(event.limit_px, 1)} px`);
  if (event.spotting_score !== undefined) words.push(`spotting ${percent(event.spotting_score)}`);
  return words.join(" · ");
}

// The action units of an event, and the regions that moved most.
export function motionOf(event, most = MOST_REGIONS) {
  const units = (event.action_units ?? []).map(
    (unit) => (unit.side === "both" ? unit.name : `${unit.name} ${unit.side}`));
  const regions = (event.regions ?? []).slice(0, most).map((region) => {
    const arrow = ARROWS[Math.round(region.direction_deg / 45) % ARROWS.length];
    return `${region.name} ${region.displacement_px.toFixed(1)} px ${arrow}`;
  });
  return [units.join(" "), regions.join(", ")].filter(Boolean).join(" · ");
}
