"""The frame of the viewer; scripts fill it."""

from __future__ import annotations

from phantomseg.report.mosaic import PLANES, Plane
from phantomseg.report.shown import Shown

NARROWEST = 0.4  # least width and height of a panel over the largest, so that thin volumes can still be seen


def viewer(volume: Shown) -> str:
    """Coronal and sagittal above, axial below, at one scale, and the controls in the fourth corner."""
    size_mm = [float(size) for size in volume.spacing_mm * volume.grey.shape]
    i, j, k = (max(size, NARROWEST * max(size_mm)) for size in size_mm)
    axial, coronal, sagittal = (_panel(plane, volume) for plane in PLANES)
    columns = f"grid-template-columns:minmax(0,{i:.1f}fr) minmax(0,{j:.1f}fr)"
    return f"""<div class="viewer" id="viewer" style="--i:{i:.1f};--j:{j:.1f};--k:{k:.1f};{columns}">
<noscript><p>The viewer needs JavaScript; the slices above and the table do not.</p></noscript>
<p class="alarm" id="inexact" hidden>This browser changes pictures that a page reads back, a guard against tracking;
labels in the viewer can be wrong. Allow it for this file, or use another browser.</p>
{coronal}
{sagittal}
{axial}
{_controls()}
</div>"""


def _panel(plane: Plane, volume: Shown) -> str:
    last = volume.grey.shape[plane.axis] - 1
    return f"""<figure class="panel {plane.name}" data-axis="{plane.axis}" data-ends="{"".join(plane.ends)}">
<canvas tabindex="0" role="application"
aria-label="{plane.name} slice; arrow keys move the crosshair, page keys the slice"></canvas>
<figcaption><b>{plane.name}</b><input type="range" min="0" max="{last}" aria-label="{plane.name} slice">
<output></output></figcaption></figure>"""


def _controls() -> str:
    return """<div class="controls">
<table class="readout"><thead><tr><th></th><th scope="col">crosshair</th><th scope="col">pointer</th></tr></thead>
<tbody>
<tr><th scope="row">label</th><td id="cross-label" aria-live="polite"></td><td id="point-label"></td></tr>
<tr><th scope="row">value</th><td id="cross-value"></td><td id="point-value"></td></tr>
<tr><th scope="row">mm</th><td id="cross-mm"></td><td id="point-mm"></td></tr>
<tr><th scope="row">voxel</th><td id="cross-voxel"></td><td id="point-voxel"></td></tr>
</tbody></table>
<div class="sliders">
<label>Labels <input type="range" id="opacity" min="0" max="100" value="80"></label>
<label>Brightness <input type="range" id="brightness" min="-100" max="100" value="0"></label>
<label>Contrast <input type="range" id="contrast" min="-100" max="100" value="0"></label>
</div>
<div class="buttons">
<span class="choice" role="group" aria-label="Labels drawn as"><button type="button" id="outline" aria-pressed="true">
Outline</button><button type="button" id="fill" aria-pressed="false">Fill</button></span>
<button type="button" id="show-all">Show all</button>
<button type="button" id="hide-all">Hide all</button>
<button type="button" id="reset">Reset</button>
</div>
<p class="hint">Left of the head is on the left of the picture. Click or drag: crosshair. Wheel: slices.
Arrow and page keys on a picture do the same; Escape ends a highlight. Voxels count from 0 in the scan's file.</p>
</div>"""
