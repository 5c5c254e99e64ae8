// Sheets of tiles back into volumes: one byte a voxel, first axis fastest.
"use strict";
const loadPicture = (source) => new Promise((resolve, reject) => {
  const picture = new Image();
  picture.onload = () => resolve(picture);
  picture.onerror = () => reject(new Error("a sheet of slices cannot be decoded"));
  picture.src = source;
});

const unpackSheet = async (source, { shape: [width, height, count], tile, columns }) => {
  const picture = await loadPicture(source);
  const canvas = document.createElement("canvas");
  canvas.width = picture.naturalWidth;
  canvas.height = picture.naturalHeight;
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const bytes = new Uint8Array(width * height * count);
  for (let slice = 0, at = 0; slice < count; slice++) {
    const left = (slice % columns) * tile[0];
    const top = Math.floor(slice / columns) * tile[1];
    const pixels = context.getImageData(left, top, width, height).data;
    for (let p = 0; p < pixels.length; p += 4) bytes[at++] = pixels[p];
  }
  return bytes;
};

const adler32 = (bytes) => {
  let a = 1, b = 0;
  for (let start = 0; start < bytes.length; start += 2048) { // as far as sums stay exact
    const end = Math.min(start + 2048, bytes.length);
    for (let i = start; i < end; i++) { a += bytes[i]; b += a; }
    a %= 65521;
    b %= 65521;
  }
  return b * 65536 + a;
};

// The voxel of a channel nearest to the centre of all of its voxels; null where there is none.
const centreOf = (channels, [width, height], channel) => {
  const place = (index) => {
    const i = index % width, rest = (index - i) / width;
    return [i, rest % height, Math.floor(rest / height)];
  };
  const sum = [0, 0, 0];
  let count = 0;
  for (let index = channels.indexOf(channel); index >= 0; index = channels.indexOf(channel, index + 1)) {
    place(index).forEach((value, axis) => { sum[axis] += value; });
    count++;
  }
  let best = null, least = Infinity;
  for (let index = channels.indexOf(channel); index >= 0; index = channels.indexOf(channel, index + 1)) {
    const here = place(index);
    const far = here.reduce((total, value, axis) => total + (value - sum[axis] / count) ** 2, 0);
    if (far < least) [best, least] = [here, far];
  }
  return best;
};
