// What the viewer shows: one crosshair in three planes, and what lies under it.
"use strict";
const byId = (id) => document.getElementById(id);
const ENDS = ["LR", "PA", "IS"];

let view = null; // volumes, crosshair `at` and how it is all drawn, once the sheets are unpacked
const structureRows = [...document.querySelectorAll(".volumes tbody tr")];
const panels = [...document.querySelectorAll(".panel")].map((figure) => {
  const axis = Number(figure.dataset.axis);
  const [across, up] = [0, 1, 2].filter((other) => other !== axis);
  return {
    axis, across, up, ends: figure.dataset.ends, canvas: figure.querySelector("canvas"),
    slider: figure.querySelector("input"), output: figure.querySelector("output"),
  };
});

const startView = async () => {
  const data = embedded("scan");
  const [grey, channels] = await Promise.all([unpackSheet(data.grey, data), unpackSheet(data.channels, data)]);
  view = {
    ...data, grey, channels, spacing: data.spacing_mm, at: data.start,
    visible: new Uint8Array(data.names.length).fill(1),
    chosen: 0, filled: false, opacity: 0.8, brightness: 0, contrast: 0,
  };
  const read = adler32(channels);
  byId("inexact").hidden = read === data.adler32;
  document.body.dataset.adler32 = read;
};

const draw = () => {
  labelColors(view);
  greyTable(view);
  const mm = transform(view.affine, view.at);
  for (const panel of panels) {
    paintPanel(panel, view);
    panel.slider.value = view.at[panel.axis];
    panel.output.textContent = placeText(mm[panel.axis], panel.axis, 0);
  }
  describe("cross", view.at);
  const here = view.channels[indexOf(view.at)];
  for (const row of structureRows) row.classList.toggle("here", here > 0 && Number(row.dataset.channel) === here);
  document.body.dataset.at = view.at.join(" ");
  document.body.dataset.label = view.names[here];
};

let drawing = false;
const redraw = () => { // at most once a frame
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => { drawing = false; draw(); });
};

const moveTo = (axis, value) => {
  view.at[axis] = inside(value, axis);
  redraw();
};

// Label, value and place of a voxel, in the column of the crosshair ("cross") or of the pointer ("point").
const describe = (column, at) => {
  const stored = view.grey[indexOf(at)];
  const value = view.low + (stored / 255) * (view.high - view.low);
  const sign = stored === 255 ? "≥" : stored === 0 ? "≤" : "≈";
  const mm = transform(view.affine, at), voxel = transform(view.to_file, at);
  const cells = {
    label: view.names[view.channels[indexOf(at)]],
    value: `${sign} ${Number(value.toPrecision(3))} ${view.unit}`.trim(),
    mm: mm.map((place, axis) => placeText(place, axis, 1)).join(" "),
    voxel: voxel.map((place) => Math.max(0, Math.round(place))).join(", "),
  };
  for (const [key, text] of Object.entries(cells)) byId(`${column}-${key}`).textContent = text;
};

const forgetPointer = () => {
  for (const key of ["label", "value", "mm", "voxel"]) byId(`point-${key}`).textContent = "";
};

const inside = (value, axis) => Math.max(0, Math.min(view.shape[axis] - 1, Math.round(value)));
const indexOf = ([i, j, k]) => i + view.shape[0] * (j + view.shape[1] * k);
const transform = (matrix, [i, j, k]) => matrix.slice(0, 3).map((row) => row[0] * i + row[1] * j + row[2] * k + row[3]);
const placeText = (mm, axis, digits) => `${ENDS[axis][mm >= 0 ? 1 : 0]}${Math.abs(mm).toFixed(digits)}`;
