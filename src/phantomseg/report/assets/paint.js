// Draws one plane: the scan smoothly enlarged, labels with sharp edges, crosshair and letters.
"use strict";
const LINE = 1.4, DIMMED = 0.3, TINTED = 0.45; // CSS pixels; shares of the opacity

const newCanvas = (width, height) => Object.assign(document.createElement("canvas"), { width, height });

// Where the picture lies in the panel's canvas, in its own pixels: as large as fits, in the middle.
const fitPicture = (panel, view) => {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth, clientHeight } = panel.canvas;
  const width = Math.max(1, Math.round(clientWidth * ratio)), height = Math.max(1, Math.round(clientHeight * ratio));
  if (panel.canvas.width !== width || panel.canvas.height !== height) Object.assign(panel.canvas, { width, height });
  const across = view.shape[panel.across] * view.spacing[panel.across];
  const up = view.shape[panel.up] * view.spacing[panel.up];
  const scale = Math.min(width / across, height / up);
  const [w, h] = [Math.max(1, Math.round(across * scale)), Math.max(1, Math.round(up * scale))];
  return { ratio, w, h, left: Math.floor((width - w) / 2), top: Math.floor((height - h) / 2) };
};

const strides = ([width, height]) => [1, width, width * height];

const paintGrey = (panel, view, context, place) => {
  const [columns, rows] = [view.shape[panel.across], view.shape[panel.up]];
  const step = strides(view.shape);
  const slice = newCanvas(columns, rows);
  const image = new ImageData(columns, rows);
  const pixels = new Uint32Array(image.data.buffer);
  for (let row = 0, p = 0; row < rows; row++) {
    let at = view.at[panel.axis] * step[panel.axis] + (rows - 1 - row) * step[panel.up];
    for (let column = 0; column < columns; column++, at += step[panel.across]) pixels[p++] = view.greys[view.grey[at]];
  }
  slice.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingQuality = "high";
  context.drawImage(slice, place.left, place.top, place.w, place.h);
};

// Channel at each pixel of the picture, 0 where it is hidden.
const pixelChannels = (panel, view, { w, h }) => {
  const [columns, rows] = [view.shape[panel.across], view.shape[panel.up]];
  const step = strides(view.shape);
  const offsets = Uint32Array.from({ length: w }, (_, x) => Math.floor(((x + 0.5) * columns) / w) * step[panel.across]);
  const found = new Uint8Array(w * h);
  for (let y = 0, p = 0; y < h; y++) {
    const row = rows - 1 - Math.floor(((y + 0.5) * rows) / h);
    const start = view.at[panel.axis] * step[panel.axis] + row * step[panel.up];
    for (let x = 0; x < w; x++) {
      const channel = view.channels[start + offsets[x]];
      found[p++] = view.visible[channel] ? channel : 0;
    }
  }
  return found;
};

const onEdge = (found, p, x, y, { w, h }, line) =>
  (x >= line && found[p - line] !== found[p]) || (x < w - line && found[p + line] !== found[p]) ||
  (y >= line && found[p - line * w] !== found[p]) || (y < h - line && found[p + line * w] !== found[p]);

const paintLabels = (panel, view, context, place) => {
  const { w, h } = place;
  const found = pixelChannels(panel, view, place);
  const line = Math.max(1, Math.round(LINE * place.ratio));
  const image = new ImageData(w, h);
  const pixels = new Uint32Array(image.data.buffer);
  for (let y = 0, p = 0; y < h; y++) {
    for (let x = 0; x < w; x++, p++) {
      const channel = found[p];
      if (!channel) continue;
      const edge = onEdge(found, p, x, y, place, line);
      if (edge) pixels[p] = view.edges[channel];
      else if (view.filled || channel === view.chosen) pixels[p] = view.fills[channel];
    }
  }
  const layer = newCanvas(w, h);
  layer.getContext("2d").putImageData(image, 0, 0);
  context.drawImage(layer, place.left, place.top);
};

// Little-endian colours of edges and fills for each channel, with their opacity.
const labelColors = (view) => {
  const colors = (share) => Uint32Array.from(view.colors, (color, channel) => {
    const [red, green, blue] = [1, 3, 5].map((start) => parseInt(color.slice(start, start + 2), 16));
    const dim = view.chosen && channel !== view.chosen ? DIMMED : 1;
    return ((Math.round(255 * share * view.opacity * dim) << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  });
  view.edges = colors(1);
  view.fills = colors(TINTED);
};

// Grey after brightness and contrast, for each stored grey.
const greyTable = (view) => {
  const [low, high] = view.window.map((value) => (255 * (value - view.low)) / (view.high - view.low));
  const width = (high - low) * 2 ** (-view.contrast / 40);
  const middle = (low + high) / 2 - (view.brightness / 100) * (high - low) * 0.75;
  view.greys = Uint32Array.from({ length: 256 }, (_, grey) => {
    const value = Math.max(0, Math.min(255, Math.round(255 * ((grey - middle) / width + 0.5))));
    return ((255 << 24) | (value << 16) | (value << 8) | value) >>> 0;
  });
};

const paintCross = (panel, view, context, { ratio, left, top, w, h }) => {
  const x = left + ((view.at[panel.across] + 0.5) / view.shape[panel.across]) * w;
  const y = top + (1 - (view.at[panel.up] + 0.5) / view.shape[panel.up]) * h;
  const gap = 7 * ratio;
  context.beginPath();
  const arms = [[left, y, x - gap, y], [x + gap, y, left + w, y], [x, top, x, y - gap], [x, y + gap, x, top + h]];
  for (const [x0, y0, x1, y1] of arms) {
    if (x1 < x0 || y1 < y0) continue;
    context.moveTo(x0, y0);
    context.lineTo(x1, y1);
  }
  for (const [color, thick] of [["rgba(0, 0, 0, .35)", 3], ["rgba(255, 205, 70, .85)", 1]]) { // seen on black and on white
    context.strokeStyle = color;
    context.lineWidth = thick * ratio;
    context.stroke();
  }
};

const paintEnds = (panel, context, { ratio }) => {
  const { width, height } = panel.canvas;
  const inset = 9 * ratio;
  const [left, right, down, up] = panel.ends;
  context.font = `600 ${12 * ratio}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineWidth = 3 * ratio;
  context.strokeStyle = "#000";
  context.fillStyle = "#fff";
  const write = (letter, x, y) => {
    context.strokeText(letter, x, y);
    context.fillText(letter, x, y);
  };
  write(left, inset, height / 2);
  write(right, width - inset, height / 2);
  write(up, width / 2, inset);
  write(down, width / 2, height - inset);
};

const paintPanel = (panel, view) => {
  const context = panel.canvas.getContext("2d");
  panel.place = fitPicture(panel, view);
  context.clearRect(0, 0, panel.canvas.width, panel.canvas.height);
  paintGrey(panel, view, context, panel.place);
  paintLabels(panel, view, context, panel.place);
  paintCross(panel, view, context, panel.place);
  paintEnds(panel, context, panel.place);
};
