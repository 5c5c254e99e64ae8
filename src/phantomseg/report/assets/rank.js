// Where this scan's volumes lie among those of the cohort, once it has three scans.
"use strict";
const FEWEST = 3;

const drawStrip = (canvas, others, own) => {
  const ratio = window.devicePixelRatio || 1, width = 52, height = 16, inset = 5;
  Object.assign(canvas, { width: width * ratio, height: height * ratio });
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const low = Math.min(own, ...others), high = Math.max(own, ...others);
  const x = (value) => inset + (high > low ? (value - low) / (high - low) : 0.5) * (width - 2 * inset);
  context.fillStyle = "#8a93a0";
  context.globalAlpha = Math.max(0.25, Math.min(0.8, 12 / others.length));
  for (const value of others) context.fillRect(x(value) - 0.75, 3, 1.5, height - 6);
  context.globalAlpha = 1;
  context.fillStyle = "#2f7fd6";
  context.beginPath();
  context.arc(x(own), height / 2, 4, 0, 7);
  context.fill();
};

const showRanks = () => {
  const { self = -1, count = 0, structures = {} } = embedded("cohort");
  if (count < FEWEST) return;
  for (const row of document.querySelectorAll(".volumes tbody tr")) {
    const cell = row.querySelector(".rank");
    const own = Number(row.dataset.volume ?? NaN);
    const others = (structures[row.dataset.name] || []).filter((value, index) => value !== null && index !== self);
    if (!others.length || Number.isNaN(own)) continue;
    const below = others.filter((value) => value < own).length + others.filter((value) => value === own).length / 2;
    const percentile = Math.round((100 * below) / others.length);
    const canvas = document.createElement("canvas");
    drawStrip(canvas, others, own);
    cell.dataset.value = percentile;
    cell.title = `larger than ${percentile} % of ${others.length} other scans`;
    cell.replaceChildren(canvas, Object.assign(document.createElement("span"), { textContent: percentile }));
  }
  document.querySelector(".volumes table").classList.add("ranked");
};

showRanks();
