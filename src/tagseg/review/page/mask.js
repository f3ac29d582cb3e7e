// The mask of one photo: class numbers, which pixels were painted, and the steps that can be taken back.

const KEPT = 60; // steps

export class Mask {
  constructor({ width, height, data, touched }) {
    Object.assign(this, { width, height, data, touched });
    this.undos = [];
    this.redos = [];
    this.step = null;
  }

  // A step: everything between begin and end is taken back at once. end gives the rectangle that changed, or null.
  begin() {
    this.step = { data: this.data.slice(), touched: this.touched.slice(), box: [Infinity, Infinity, -1, -1] };
  }

  end() {
    const { step, width } = this;
    this.step = null;
    if (!step || step.box[2] < step.box[0]) return null;
    const [left, top, right, bottom] = step.box;
    const w = right - left + 1, h = bottom - top + 1;
    const kept = { left, top, w, h, data: new Uint8Array(w * h), touched: new Uint8Array(w * h) };
    for (let y = 0; y < h; y++) {
      const from = (top + y) * width + left;
      kept.data.set(step.data.subarray(from, from + w), y * w);
      kept.touched.set(step.touched.subarray(from, from + w), y * w);
    }
    this.undos.push(kept);
    if (this.undos.length > KEPT) this.undos.shift();
    this.redos = [];
    return kept;
  }

  undo() {
    return this.swap(this.undos, this.redos);
  }

  redo() {
    return this.swap(this.redos, this.undos);
  }

  swap(from, to) {
    const step = from.pop();
    if (!step) return null;
    const { left, top, w, h } = step;
    const other = { left, top, w, h, data: new Uint8Array(w * h), touched: new Uint8Array(w * h) };
    for (let y = 0; y < h; y++) {
      const at = (top + y) * this.width + left;
      for (const plane of ["data", "touched"]) {
        other[plane].set(this[plane].subarray(at, at + w), y * w);
        this[plane].set(step[plane].subarray(y * w, (y + 1) * w), at);
      }
    }
    to.push(other);
    return step;
  }

  // A thick line with round ends; gives the rectangle [left, top, right, bottom] that may have changed, or null.
  line(x0, y0, x1, y1, radius, value) {
    const count = Math.max(Math.ceil(Math.hypot(x1 - x0, y1 - y0) / Math.max(radius / 3, 0.5)), 1);
    let box = null;
    for (let n = 0; n <= count; n++) {
      const share = n / count;
      box = union(box, this.disc(x0 + (x1 - x0) * share, y0 + (y1 - y0) * share, radius, value));
    }
    return box;
  }

  disc(x, y, radius, value) {
    const top = Math.max(Math.ceil(y - radius - 0.5), 0), bottom = Math.min(Math.floor(y + radius - 0.5), this.height - 1);
    let box = null;
    for (let row = top; row <= bottom; row++) {
      const half = Math.sqrt(Math.max(radius * radius - (row + 0.5 - y) ** 2, 0));
      const left = Math.max(Math.ceil(x - half - 0.5), 0), right = Math.min(Math.floor(x + half - 0.5), this.width - 1);
      if (right < left) continue;
      this.data.fill(value, row * this.width + left, row * this.width + right + 1);
      this.touched.fill(1, row * this.width + left, row * this.width + right + 1);
      box = union(box, [left, row, right, row]);
    }
    if (!box && radius < 1 && x >= 0 && y >= 0 && x < this.width && y < this.height) {
      const at = Math.floor(y) * this.width + Math.floor(x);
      this.data[at] = value;
      this.touched[at] = 1;
      box = [Math.floor(x), Math.floor(y), Math.floor(x), Math.floor(y)];
    }
    if (box && this.step) this.step.box = union(this.step.box, box);
    return box;
  }

  // Gives the pixels of a region (their places) a class.
  fill(places, value) {
    let box = null;
    for (const place of places) {
      this.data[place] = value;
      this.touched[place] = 1;
      const x = place % this.width, y = (place - x) / this.width;
      if (!box) box = [x, y, x, y];
      else {
        if (x < box[0]) box[0] = x;
        if (x > box[2]) box[2] = x;
        if (y < box[1]) box[1] = y;
        if (y > box[3]) box[3] = y;
      }
    }
    if (box && this.step) this.step.box = union(this.step.box, box);
    return box;
  }

  // The places of the connected pixels that have the class of the one at x, y.
  region(x, y) {
    const value = this.data[y * this.width + x];
    return flood(this.width, this.height, x, y, (place) => this.data[place] === value);
  }

  // Counts by class number, and for each class the middle of its widest run of pixels, where its name can stand.
  survey() {
    const counts = new Float64Array(256), best = new Map();
    const { data, width, height } = this;
    const step = Math.max(Math.floor(Math.sqrt((width * height) / 400000)), 1);
    for (let y = 0; y < height; y++) {
      let start = 0;
      const row = y * width;
      for (let x = 1; x <= width; x++) {
        if (x < width && data[row + x] === data[row + start]) continue;
        const value = data[row + start], length = x - start;
        counts[value] += length;
        if (value && y % step === 0) {
          const sum = best.get(value) ?? { x: 0, y: 0, n: 0, runs: [] };
          sum.x += (start + length / 2) * length;
          sum.y += y * length;
          sum.n += length;
          sum.runs.push([start + length / 2, y, length]);
          best.set(value, sum);
        }
        start = x;
      }
    }
    const places = new Map();
    for (const [value, { x, y, n, runs }] of best) {
      // Near the center of gravity, but inside: the run that is long and close to it.
      const cx = x / n, cy = y / n;
      let score = -Infinity, at = [cx, cy];
      for (const [rx, ry, length] of runs) {
        const now = length - 2 * Math.hypot(rx - cx, ry - cy);
        if (now > score) (score = now), (at = [rx, ry]);
      }
      places.set(value, at);
    }
    return { counts, places };
  }
}

export function union(a, b) {
  if (!a) return b;
  if (!b) return a;
  return [Math.min(a[0], b[0]), Math.min(a[1], b[1]), Math.max(a[2], b[2]), Math.max(a[3], b[3])];
}

// The places that can be reached from x, y over the four sides of pixels that belong.
export function flood(width, height, x, y, belongs) {
  const seen = new Uint8Array(width * height), found = [];
  const start = y * width + x;
  if (!belongs(start, start)) return found;
  const stack = [start];
  seen[start] = 1;
  while (stack.length) {
    const place = stack.pop();
    found.push(place);
    const column = place % width;
    if (column > 0) reach(place - 1, place);
    if (column < width - 1) reach(place + 1, place);
    if (place >= width) reach(place - width, place);
    if (place < width * (height - 1)) reach(place + width, place);
  }
  return found;

  function reach(next, from) {
    if (seen[next] || !belongs(next, from)) return;
    seen[next] = 1;
    stack.push(next);
  }
}

// Grows along a photo's edges: no step over an edge, and no color far from that of the click.
export class Grower {
  constructor(image, width, height) {
    this.scale = Math.min(1, Math.sqrt(1.5e6 / (width * height)));
    this.width = Math.max(Math.round(width * this.scale), 1);
    this.height = Math.max(Math.round(height * this.scale), 1);
    const canvas = document.createElement("canvas");
    canvas.width = this.width;
    canvas.height = this.height;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0, this.width, this.height);
    this.pixels = context.getImageData(0, 0, this.width, this.height).data;
  }

  // The places, in a mask of the full width and height, around the point x, y of that mask.
  grow(x, y, tolerance, width, height) {
    const { pixels, scale } = this;
    const sx = Math.min(Math.floor(x * scale), this.width - 1), sy = Math.min(Math.floor(y * scale), this.height - 1);
    const seed = 4 * (sy * this.width + sx);
    const [r, g, b] = [pixels[seed], pixels[seed + 1], pixels[seed + 2]];
    const far = 2.2 * tolerance, edge = 0.9 * tolerance;
    const small = flood(this.width, this.height, sx, sy, (place, from) => {
      const p = 4 * place, q = 4 * from;
      return (
        Math.max(Math.abs(pixels[p] - r), Math.abs(pixels[p + 1] - g), Math.abs(pixels[p + 2] - b)) <= far &&
        Math.max(Math.abs(pixels[p] - pixels[q]), Math.abs(pixels[p + 1] - pixels[q + 1]), Math.abs(pixels[p + 2] - pixels[q + 2])) <= edge
      );
    });
    // Pixels that are enclosed but for one side belong too: noise leaves single holes.
    const inside = new Uint8Array(this.width * this.height);
    for (const place of small) inside[place] = 1;
    for (let yy = 1; yy < this.height - 1; yy++)
      for (let xx = 1; xx < this.width - 1; xx++) {
        const at = yy * this.width + xx;
        if (!inside[at] && inside[at - 1] + inside[at + 1] + inside[at - this.width] + inside[at + this.width] >= 3) {
          inside[at] = 1;
          small.push(at);
        }
      }
    if (scale === 1) return small;
    const found = [];
    for (let yy = 0; yy < height; yy++) {
      const row = Math.min(Math.floor(yy * scale), this.height - 1) * this.width;
      for (let xx = 0; xx < width; xx++) if (inside[row + Math.min(Math.floor(xx * scale), this.width - 1)]) found.push(yy * width + xx);
    }
    return found;
  }
}
