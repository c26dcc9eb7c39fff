"""The pen that draws handwriting-like digits: skeleton, bent spline, ink, centring. Compiled with Numba.

One digit is drawn from one key; all its random numbers come from that key alone, so digit i is the same
however many digits are drawn, in whatever order and by however many threads. Coordinates: x to the
right, y down; skeletons in a unit box, pictures in pixels with the centre of pixel (r, c) at (r, c).
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from tinynet.data.jit import compiled, inner
from tinynet.data.style import FIELDS

SIDE = 28  # pixels
MASS_CENTRE = 14.0  # where MNIST puts the centre of mass, in pixel indices

Knobs = namedtuple("Knobs", FIELDS)  # type: ignore[misc]  # a DigitStyle in a form that Numba takes

# All forms in flat arrays: digit d has the forms digits[d]..digits[d+1], form f the strokes
# forms[f]..forms[f+1], stroke s the points (x, y) strokes[s]..strokes[s+1]; samples: of the longest form.
Skeletons = namedtuple("Skeletons", "points strokes forms digits samples")

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


@inner
def uniform(state):
    """A number in (0, 1]; ``state`` (1,) uint64 moves on (SplitMix64)."""
    state[0] += _STEP
    bits = state[0]
    bits = (bits ^ (bits >> np.uint64(30))) * _FIRST
    bits = (bits ^ (bits >> np.uint64(27))) * _SECOND
    bits ^= bits >> np.uint64(31)
    return (np.float64(bits >> np.uint64(11)) + 1.0) * 2.0**-53


@inner
def normal(state):
    """A standard normal number (Box and Muller 1958)."""
    radius = np.sqrt(-2.0 * np.log(uniform(state)))
    return radius * np.cos(2.0 * np.pi * uniform(state))


@inner
def fill_normal(state, out):
    """Standard normal numbers into ``out`` (n,), two from each pair of uniform ones."""
    for i in range(0, len(out), 2):
        radius = np.sqrt(-2.0 * np.log(uniform(state)))
        angle = 2.0 * np.pi * uniform(state)
        out[i] = radius * np.cos(angle)
        if i + 1 < len(out):
            out[i + 1] = radius * np.sin(angle)


@inner
def pick(state, count):
    """One of 0..count-1."""
    return min(int(uniform(state) * count), count - 1)


@inner
def smooth(raw, out):
    """Smooth the noise along a stroke, so that many control points bend it instead of making it jagged."""
    n = len(raw)
    for i in range(n):
        one = raw[max(i - 1, 0)] + raw[min(i + 1, n - 1)]
        if n < 5:
            out[i] = raw[i]
        elif n < 9:
            out[i] = (one + 2.0 * raw[i]) / np.sqrt(6.0)
        else:
            two = raw[max(i - 2, 0)] + raw[min(i + 2, n - 1)]
            out[i] = 1.15 * (two + 2.0 * one + 3.0 * raw[i]) / np.sqrt(19.0)


@inner
def jitter(state, points, knobs, several, raw, out):
    """One stroke's control points (n, 2), moved, into ``out``; one of several also moves as a whole."""
    n = len(points)
    for axis in range(2):
        shift = knobs.stroke_shift * normal(state) if several else 0.0
        fill_normal(state, raw[:n])
        smooth(raw[:n], out[:n, axis])
        for i in range(n):
            out[i, axis] = points[i, axis] + shift + knobs.jitter * out[i, axis]


@inner
def spline(points, u, axis):
    """Catmull-Rom spline through ``points`` at knot position u; ends mirrored, straight on beyond them."""
    last = len(points) - 1
    if u <= 0.0:
        return points[0, axis] + u * (points[1, axis] - points[0, axis])
    if u >= last:
        return points[last, axis] + (u - last) * (points[last, axis] - points[last - 1, axis])
    i = int(u)
    t = u - i
    b, c = points[i, axis], points[i + 1, axis]
    a = points[i - 1, axis] if i > 0 else 2.0 * b - c
    d = points[i + 2, axis] if i + 2 <= last else 2.0 * c - b
    return b + 0.5 * t * (c - a + t * (2.0 * a - 5.0 * b + 4.0 * c - d + t * (3.0 * (b - c) + d - a)))


@inner
def trim(state, knots, knobs):
    """How much of a stroke's end is cut off (positive) or added (negative), in knots."""
    return min(max(knobs.trim * normal(state) * knots, -0.35), 0.15 * knots)


@compiled
def samples(points):
    """Number of samples along a stroke of so many control points."""
    return max(20, 5 * (points - 1)) + 1


@inner
def trace(state, points, knobs, curve, start):
    """Sample the stroke through ``points`` into curve[start:]; returns the index behind its last sample."""
    knots = len(points) - 1.0
    first, last = trim(state, knots, knobs), knots - trim(state, knots, knobs)
    count = samples(len(points))
    for k in range(count):
        u = first + (last - first) * k / (count - 1)
        for axis in range(2):
            curve[start + k, axis] = spline(points, u, axis)
    return start + count


@inner
def balance(curve, x_power, y_power):
    """Shift the weight between left and right, top and bottom (small head, large foot), inside the box."""
    for k in range(len(curve)):
        if 0.0 < curve[k, 0] < 1.0:
            curve[k, 0] **= x_power
        if 0.0 < curve[k, 1] < 1.0:
            curve[k, 1] **= y_power


@inner
def warp(state, curve, spread):
    """Bend the sheet: four slow sine waves for each direction, the cheap form of an elastic deformation."""
    size, phase = np.empty(8), np.empty(8)
    for j in range(8):
        size[j], phase[j] = spread * normal(state), 2.0 * np.pi * uniform(state)
    for k in range(len(curve)):
        x, y = curve[k, 0], curve[k, 1]
        for axis in range(2):
            for j in range(4):
                u = x if j < 2 else y
                curve[k, axis] += size[4 * axis + j] * np.sin(np.pi * (1 + j % 2) * u + phase[4 * axis + j])


@inner
def slant(state, curve, label, knobs):
    """Set the width of the form, lean it, turn it; the box's centre becomes the origin."""
    aspect = knobs.aspect_of_one if label == 1 else knobs.aspect
    aspect *= np.exp(knobs.aspect_spread * normal(state))
    lean = (knobs.slant_of_one if label == 1 else knobs.slant) + knobs.slant_spread * normal(state)
    angle = np.deg2rad(knobs.rotation) * normal(state)
    cos, sin = np.cos(angle), np.sin(angle)
    for k in range(len(curve)):
        y = curve[k, 1] - 0.5
        x = (curve[k, 0] - 0.5) * aspect - lean * y
        curve[k, 0], curve[k, 1] = cos * x - sin * y, sin * x + cos * y


@inner
def ends(curve, axis):
    """Lowest and highest coordinate of the curve along one axis."""
    low = high = curve[0, axis]
    for k in range(len(curve)):
        low, high = min(low, curve[k, axis]), max(high, curve[k, axis])
    return low, high


@inner
def fit_in_box(state, curve, label, knobs):
    """Choose the pen's width, scale the curve so that the ink fills the box, centre it; returns the width."""
    x_low, x_high = ends(curve, 0)
    y_low, y_high = ends(curve, 1)
    long = max(x_high - x_low, y_high - y_low, 1e-3)
    short = min(x_high - x_low, y_high - y_low)
    width = knobs.width + knobs.width_spread * normal(state)
    if label != 1:  # narrow forms would be filled by a wide pen
        width = min(width, knobs.width_cap * 17.0 * short / long)
    width = max(knobs.width_least, width)
    scale = (knobs.box - width - knobs.edge + 0.3) / long
    for k in range(len(curve)):
        curve[k, 0] = (curve[k, 0] - 0.5 * (x_low + x_high)) * scale + 0.5 * (SIDE - 1)
        curve[k, 1] = (curve[k, 1] - 0.5 * (y_low + y_high)) * scale + 0.5 * (SIDE - 1)
    return width


@inner
def press(state, curve, radius, width, knobs, noise):
    """The pen's radius along the curve: a slow wave of pressure and a rough edge."""
    n = len(curve)
    swing, waves = knobs.pressure * normal(state), 1.0 + 2.0 * uniform(state)
    phase = 2.0 * np.pi * uniform(state)
    fill_normal(state, noise[: 3 * n])
    for k in range(n):
        pressure = np.exp(swing * np.sin(2.0 * np.pi * waves * k / n + phase))
        radius[k] = 0.5 * width * pressure * max(0.5, 1.0 + knobs.rough_width * noise[3 * k])
        curve[k, 0] += knobs.rough_edge * width * noise[3 * k + 1]
        curve[k, 1] += knobs.rough_edge * width * noise[3 * k + 2]


@inner
def ink_piece(depth, x0, y0, r0, x1, y1, r1, soft):
    """Raise ``depth`` (radius minus distance to the pen's path) by one straight piece."""
    reach = max(r0, r1) + soft
    dx, dy = x1 - x0, y1 - y0
    scale = 1.0 / max(dx * dx + dy * dy, 1e-12)
    for row in range(max(0, int(min(y0, y1) - reach)), min(SIDE - 1, int(max(y0, y1) + reach) + 1) + 1):
        for col in range(max(0, int(min(x0, x1) - reach)), min(SIDE - 1, int(max(x0, x1) + reach) + 1) + 1):
            along = min(max(((col - x0) * dx + (row - y0) * dy) * scale, 0.0), 1.0)
            off_x, off_y = x0 + along * dx - col, y0 + along * dy - row
            inside = r0 + along * (r1 - r0) - np.sqrt(off_x * off_x + off_y * off_y)
            depth[row, col] = max(depth[row, col], inside)


@inner
def grey(depth, gain, knobs):
    """Turn depth into grey levels 0..1, in place: a soft edge around full ink."""
    for row in range(SIDE):
        for col in range(SIDE):
            level = min(max(0.5 + depth[row, col] / knobs.edge, 0.0), 1.0)
            depth[row, col] = min(gain * level**knobs.edge_power, 1.0) if level > 0.0 else 0.0


@inner
def place(picture, image, by_mass):
    """Round ``picture`` into ``image`` uint8, moved by whole pixels to centre its mass as MNIST does."""
    down, right = 0, 0
    total, rows, cols = 0.0, 0.0, 0.0
    for row in range(SIDE):
        for col in range(SIDE):
            total += picture[row, col]
            rows += row * picture[row, col]
            cols += col * picture[row, col]
    if by_mass > 0.0 and total > 0.0:
        down, right = int(np.rint(MASS_CENTRE - rows / total)), int(np.rint(MASS_CENTRE - cols / total))
    for row in range(SIDE):
        for col in range(SIDE):
            r, c = row - down, col - right
            here = 0 <= r < SIDE and 0 <= c < SIDE
            image[row, col] = np.uint8(np.rint(255.0 * picture[r, c])) if here else 0


@inner
def write(state, form, label, skeletons, knobs, curve, stops, scratch):
    """Bend the strokes of one form into ``curve``, scaled to pixels; returns its length and the pen's width.

    stops[j] becomes the index behind the last sample of the form's j-th stroke.
    """
    raw, moved, _, _ = scratch
    first, last = skeletons.forms[form], skeletons.forms[form + 1]
    end = 0
    for stroke in range(first, last):
        points = skeletons.points[skeletons.strokes[stroke] : skeletons.strokes[stroke + 1]]
        jitter(state, points, knobs, last - first > 1, raw, moved)
        end = trace(state, moved[: len(points)], knobs, curve, end)
        stops[stroke - first] = end
    curve = curve[:end]
    x_power = np.exp(knobs.balance_x * normal(state))
    balance(curve, x_power, np.exp(knobs.balance_y * normal(state)))
    warp(state, curve, knobs.warp)
    slant(state, curve, label, knobs)
    return end, fit_in_box(state, curve, label, knobs)


@inner
def ink(state, curve, stops, width, knobs, scratch, depth):
    """Draw the strokes of ``curve`` into ``depth`` (28, 28) as grey levels 0..1."""
    _, _, radius, noise = scratch
    press(state, curve, radius, width, knobs, noise)
    depth[:] = -SIDE
    start = 0
    for stop in stops:
        for k in range(start, stop - 1):
            x0, y0, x1, y1 = curve[k, 0], curve[k, 1], curve[k + 1, 0], curve[k + 1, 1]
            ink_piece(depth, x0, y0, radius[k], x1, y1, radius[k + 1], 0.5 * knobs.edge)
        start = stop
    gain = knobs.gain_low + (knobs.gain_high - knobs.gain_low) * uniform(state)
    grey(depth, gain, knobs)


@compiled
def draw(keys, skeletons, knobs, images, labels):
    """Draw one digit for each key (n,) uint64 into images (n, 28, 28) uint8 and labels (n,) int64."""
    state, most = np.empty(1, np.uint64), skeletons.samples
    curve, depth = np.empty((most, 2)), np.empty((SIDE, SIDE))
    stops = np.empty(len(skeletons.points), np.int64)
    scratch = np.empty(most), np.empty((most, 2)), np.empty(most), np.empty(3 * most)
    for i in range(len(keys)):
        state[0] = keys[i]
        label = pick(state, len(skeletons.digits) - 1)
        form = skeletons.digits[label] + pick(state, skeletons.digits[label + 1] - skeletons.digits[label])
        end, width = write(state, form, label, skeletons, knobs, curve, stops, scratch)
        strokes = skeletons.forms[form + 1] - skeletons.forms[form]
        ink(state, curve[:end], stops[:strokes], width, knobs, scratch, depth)
        place(depth, images[i], knobs.centre_by_mass)
        labels[i] = label
