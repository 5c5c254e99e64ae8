// The cohort: filters over the table, and a strip of dots for each structure, tied to each other and to the table.
"use strict";
const data = embedded("plots");
const RADIUS = 3.2, NEAR = 8, INSET = 8; // CSS pixels
const rows = [...document.querySelectorAll(".cohort tbody tr")];
const tip = document.getElementById("tip");
let marked = -1;

const digits = (value) => (Math.abs(value) < 100 ? value.toFixed(Math.abs(value) < 2 ? 2 : 1) : Math.round(value).toLocaleString("en").replaceAll(",", "\u202f"));
const known = (values) => values.filter((value) => value !== null);
const median = (values) => {
  const sorted = [...values].sort((a, b) => a - b), half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
};

const strips = [...document.querySelectorAll(".strip")].map((element) => {
  const row = data.rows[element.dataset.name];
  const peers = Object.values(data.rows).filter((other) => other.group === row.group);
  const all = known(peers.flatMap((other) => other.values));
  const [low, high] = row.group === "quality" ? [0, 1] : [Math.min(...all), Math.max(...all)];
  const own = known(row.values);
  const ends = new Set(own.length ? [Math.min(...own), Math.max(...own)] : []);
  element.querySelector("span").textContent = [...ends].map(digits).join(" – ") || "–";
  return { ...row, name: element.dataset.name, canvas: element.querySelector("canvas"), low, high, own };
});

// Where the dot of a scan lies; dots are spread upwards by their number alone, so that they stay where they are.
const dotOf = (strip, scan, width, height) => {
  const share = strip.high > strip.low ? (strip.values[scan] - strip.low) / (strip.high - strip.low) : 0.5;
  return [INSET + share * (width - 2 * INSET), INSET + ((scan * 0.618034) % 1) * (height - 2 * INSET)];
};

const paintStrip = (strip) => {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = strip.canvas;
  Object.assign(strip.canvas, { width: width * ratio, height: height * ratio });
  const context = strip.canvas.getContext("2d");
  context.scale(ratio, ratio);
  if (!strip.own.length) return;
  const dot = (scan, radius) => {
    const [x, y] = dotOf(strip, scan, width, height);
    context.beginPath();
    context.arc(x, y, radius, 0, 7);
    context.fill();
  };
  const share = strip.high > strip.low ? (median(strip.own) - strip.low) / (strip.high - strip.low) : 0.5;
  context.fillStyle = "#8a93a0";
  context.fillRect(INSET + share * (width - 2 * INSET) - 0.5, 1, 1.5, height - 2);
  const odd = (scan) => Math.abs(strip.z[scan] ?? 0) > data.limit;
  for (const [unusual, color, opacity] of [[false, "#5f86b3", strip.own.length > 100 ? 0.45 : 0.75], [true, "#d0443b", 1]]) {
    context.fillStyle = color;
    context.globalAlpha = opacity;
    strip.values.forEach((value, scan) => { if (value !== null && odd(scan) === unusual) dot(scan, RADIUS); });
  }
  context.globalAlpha = 1;
  if (marked < 0 || strip.values[marked] === null) return;
  context.fillStyle = "#f0a020";
  dot(marked, RADIUS + 2);
};

let waiting = false;
const paintAll = () => {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; strips.forEach(paintStrip); });
};

const mark = (scan) => {
  if (scan === marked) return;
  marked = scan;
  for (const row of rows) row.classList.toggle("here", scan >= 0 && row.dataset.name === data.names[scan]);
  paintAll();
};

const nearest = (strip, event) => {
  const { clientWidth: width, clientHeight: height } = strip.canvas;
  let best = -1, least = NEAR ** 2;
  strip.values.forEach((value, scan) => {
    if (value === null) return;
    const [x, y] = dotOf(strip, scan, width, height);
    const far = (x - event.offsetX) ** 2 + (y - event.offsetY) ** 2;
    if (far < least) [best, least] = [scan, far];
  });
  return best;
};

const tell = (strip, scan, event) => {
  tip.hidden = scan < 0;
  if (scan < 0) return;
  const z = strip.z[scan];
  const unit = strip.group === "quality" ? "" : " mm³";
  tip.textContent = `${data.names[scan]}: ${digits(strip.values[scan])}${unit}${z === null ? "" : `, robust z ${z.toFixed(1)}`}`;
  tip.style.left = `${Math.min(event.clientX + 12, window.innerWidth - tip.offsetWidth - 8)}px`;
  tip.style.top = `${event.clientY + 14}px`;
};

for (const strip of strips) {
  strip.canvas.addEventListener("pointermove", (event) => {
    const scan = nearest(strip, event);
    mark(scan);
    tell(strip, scan, event);
    strip.canvas.style.cursor = scan >= 0 && data.hrefs[scan] ? "pointer" : "default";
  });
  strip.canvas.addEventListener("pointerleave", () => { mark(-1); tip.hidden = true; });
  strip.canvas.addEventListener("click", (event) => {
    const scan = nearest(strip, event);
    if (scan >= 0 && data.hrefs[scan]) window.location.href = data.hrefs[scan];
  });
}
for (const row of rows) {
  const scan = data.names.indexOf(row.dataset.name);
  for (const kind of ["pointerenter", "focusin"]) row.addEventListener(kind, () => mark(scan));
  for (const kind of ["pointerleave", "focusout"]) row.addEventListener(kind, () => mark(-1));
}

const filter = () => {
  const text = document.getElementById("filter").value.toLowerCase();
  const lookOnly = document.getElementById("look-only").checked;
  for (const row of rows) {
    row.hidden = !row.dataset.name.toLowerCase().includes(text) || (lookOnly && row.dataset.look === "0");
  }
  const count = rows.filter((row) => !row.hidden).length;
  document.getElementById("count").textContent = count < rows.length ? `${count} of ${rows.length}` : "";
};
document.getElementById("filter").addEventListener("input", filter);
document.getElementById("look-only").addEventListener("change", filter);
filter();
new ResizeObserver(paintAll).observe(document.querySelector(".plots"));
strips.forEach(paintStrip);
document.body.dataset.ready = "1";
