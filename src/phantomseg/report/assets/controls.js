// What the viewer listens to: pointer, wheel and keys on its pictures, its controls, the table and the rows of slices.
"use strict";

// The voxel under the pointer, on the slice that the panel shows.
const voxelAt = (panel, event) => {
  const { ratio, left, top, w, h } = panel.place;
  const at = [...view.at];
  at[panel.across] = inside(Math.floor(((event.offsetX * ratio - left) / w) * view.shape[panel.across]), panel.across);
  at[panel.up] = inside(Math.floor((1 - (event.offsetY * ratio - top) / h) * view.shape[panel.up]), panel.up);
  return at;
};

const listenToPointer = (panel) => {
  const { canvas } = panel;
  const drag = (event) => {
    view.at = voxelAt(panel, event);
    redraw();
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.isTrusted) canvas.setPointerCapture(event.pointerId);
    drag(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons & 1) drag(event);
    describe("point", voxelAt(panel, event));
  });
  canvas.addEventListener("pointerleave", forgetPointer);
};

const listenToWheel = (panel) => {
  let turned = 0;
  panel.canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    turned += event.deltaY * (event.deltaMode ? 30 : 1); // a line counts as 30 pixels
    if (Math.abs(turned) < 25) return; // smooth wheels turn bit by bit
    moveTo(panel.axis, view.at[panel.axis] - Math.sign(turned));
    turned = 0;
    describe("point", voxelAt(panel, event));
  }, { passive: false });
};

const listenToKeys = (panel) => {
  const moves = {
    ArrowLeft: [panel.across, -1], ArrowRight: [panel.across, 1], ArrowDown: [panel.up, -1],
    ArrowUp: [panel.up, 1], PageDown: [panel.axis, -1], PageUp: [panel.axis, 1],
  };
  panel.canvas.addEventListener("keydown", (event) => {
    if (!(event.key in moves)) return;
    event.preventDefault();
    const [axis, step] = moves[event.key];
    moveTo(axis, view.at[axis] + step);
  });
  panel.slider.addEventListener("input", () => moveTo(panel.axis, Number(panel.slider.value)));
};

const show = (channel, visible) => {
  view.visible[channel] = visible;
  for (const row of structureRows) {
    if (Number(row.dataset.channel) === channel && channel) row.querySelector("input").checked = visible;
  }
  redraw();
};

const showAll = (visible) => view.names.forEach((_, channel) => show(channel, visible));

// Highlights a structure and goes to its middle; the same one again, or 0, ends that.
const choose = (channel) => {
  view.chosen = view.chosen === channel ? 0 : channel;
  for (const row of structureRows) {
    const pressed = view.chosen > 0 && Number(row.dataset.channel) === view.chosen;
    row.querySelector(".pick").setAttribute("aria-pressed", pressed);
  }
  const centre = view.chosen && centreOf(view.channels, view.shape, view.chosen);
  if (centre) {
    view.at = centre;
    show(view.chosen, true);
  }
  redraw();
};

const listenToTable = () => {
  for (const row of structureRows) {
    const channel = Number(row.dataset.channel);
    row.querySelector(".pick").addEventListener("click", () => { if (channel) choose(channel); });
    row.querySelector("input")?.addEventListener("change", (event) => show(channel, event.target.checked));
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") choose(0); });
};

const drawAs = (filled) => {
  view.filled = filled;
  byId("outline").setAttribute("aria-pressed", !filled);
  byId("fill").setAttribute("aria-pressed", filled);
  redraw();
};

const listenToControls = () => {
  const sliders = { opacity: 100, brightness: 1, contrast: 1 };
  const slid = (id) => {
    view[id] = Number(byId(id).value) / sliders[id];
    redraw();
  };
  for (const id of Object.keys(sliders)) byId(id).addEventListener("input", () => slid(id));
  byId("outline").addEventListener("click", () => drawAs(false));
  byId("fill").addEventListener("click", () => drawAs(true));
  byId("show-all").addEventListener("click", () => showAll(true));
  byId("hide-all").addEventListener("click", () => showAll(false));
  byId("reset").addEventListener("click", () => {
    for (const id of Object.keys(sliders)) {
      byId(id).value = byId(id).defaultValue;
      slid(id);
    }
    showAll(true);
    drawAs(false);
    choose(0);
  });
};

const listenToTiles = () => {
  for (const tile of document.querySelectorAll(".tiles button")) {
    const { axis, across, up } = panels.find((panel) => panel.axis === Number(tile.dataset.axis));
    tile.addEventListener("click", (event) => {
      if (event.detail) { // a pointer, which also says where on the slice; the keyboard does not
        view.at[across] = inside((event.offsetX / tile.clientWidth) * view.shape[across] - 0.5, across);
        view.at[up] = inside((1 - event.offsetY / tile.clientHeight) * view.shape[up] - 0.5, up);
      }
      moveTo(axis, Number(tile.dataset.at));
      byId("viewer").scrollIntoView({ block: "nearest" });
    });
  }
};

startView().then(() => {
  for (const panel of panels) [listenToPointer, listenToWheel, listenToKeys].forEach((listen) => listen(panel));
  listenToTable();
  listenToControls();
  listenToTiles();
  draw();
  new ResizeObserver(redraw).observe(byId("viewer"));
  document.body.dataset.ready = "1";
});
