// The photo with its mask over it: drawing, zoom, names of the regions, the class activation map.

const LARGEST = 8e6; // pixels of the drawn mask; a larger one is drawn coarser, its pixels stay as they are
const byId = (id) => document.getElementById(id);

export class Stage {
  constructor(classes) {
    this.colors = new Uint8Array(256 * 3);
    classes.forEach(({ color }, k) => this.colors.set([1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16)), 3 * k));
    this.colors.set([255, 255, 255], 3 * 255);
    this.classes = classes;
    this.box = byId("stage");
    this.card = byId("card");
    this.photo = byId("photo");
    this.overlay = byId("overlay");
    this.preview = byId("preview");
    this.cam = byId("cam");
    this.mask = null;
    this.zoom = { scale: 1, x: 0, y: 0 };
    this.opacity = 0.55;
    this.outline = false;
    new ResizeObserver(() => this.fitted && this.fit()).observe(this.box);
  }

  get ready() {
    return this.mask !== null;
  }

  // image: decoded already; it takes the photo's place so that nothing flickers.
  show(image, mask) {
    image.id = "photo";
    image.alt = "";
    image.draggable = false;
    this.photo.replaceWith(image);
    this.photo = image;
    this.mask = mask;
    this.coarse = Math.max(Math.ceil(Math.sqrt((mask.width * mask.height) / LARGEST)), 1);
    for (const canvas of [this.overlay, this.preview]) {
      canvas.width = Math.ceil(mask.width / this.coarse);
      canvas.height = Math.ceil(mask.height / this.coarse);
    }
    this.card.style.width = `${mask.width}px`;
    this.card.style.height = `${mask.height}px`;
    this.draw();
    this.fit();
  }

  clear() {
    this.mask = null;
    this.photo.removeAttribute("src");
    for (const canvas of [this.overlay, this.preview]) canvas.width = canvas.height = 1;
    byId("labels").replaceChildren();
  }

  // Draws the mask, or only the rectangle [left, top, right, bottom] of it.
  draw(box = null) {
    const { mask, coarse, colors } = this;
    if (!mask) return;
    const { width, height, data } = mask;
    const margin = coarse; // the outline of neighbors changes too
    const left = Math.floor(Math.max((box?.[0] ?? 0) - margin, 0) / coarse), top = Math.floor(Math.max((box?.[1] ?? 0) - margin, 0) / coarse);
    const right = Math.min(Math.ceil(((box?.[2] ?? width) + margin + 1) / coarse), this.overlay.width);
    const bottom = Math.min(Math.ceil(((box?.[3] ?? height) + margin + 1) / coarse), this.overlay.height);
    if (right <= left || bottom <= top) return;
    const picture = new ImageData(right - left, bottom - top), out = picture.data;
    const inside = this.outline ? 0 : Math.round(255 * this.opacity);
    for (let y = top, at = 0; y < bottom; y++) {
      const my = y * coarse;
      for (let x = left; x < right; x++, at += 4) {
        const mx = x * coarse, place = my * width + mx, k = data[place];
        if (!k) continue;
        const edge =
          (mx >= coarse && data[place - coarse] !== k) || (mx + coarse < width && data[place + coarse] !== k) ||
          (my >= coarse && data[place - coarse * width] !== k) || (my + coarse < height && data[place + coarse * width] !== k);
        const hatch = k === 255 && (mx + my) % (8 * coarse) < 2 * coarse;
        out[at] = colors[3 * k];
        out[at + 1] = colors[3 * k + 1];
        out[at + 2] = colors[3 * k + 2];
        out[at + 3] = edge ? 255 : hatch ? 200 : k === 255 ? inside / 2 : inside;
      }
    }
    this.overlay.getContext("2d").putImageData(picture, left, top);
  }

  // Shows which pixels (places in the mask) a click would change.
  hint(places, k) {
    const canvas = this.preview, context = canvas.getContext("2d");
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!places?.length) return;
    const picture = context.createImageData(canvas.width, canvas.height), { coarse, colors } = this;
    for (const place of places) {
      const x = place % this.mask.width, y = (place - x) / this.mask.width;
      if (x % coarse || y % coarse) continue;
      const at = 4 * ((y / coarse) * canvas.width + x / coarse);
      const stripe = (x + y) % (6 * coarse) < 3 * coarse;
      picture.data.set(stripe ? [255, 255, 255, 190] : [colors[3 * k], colors[3 * k + 1], colors[3 * k + 2], 210], at);
    }
    context.putImageData(picture, 0, 0);
  }

  names(shown) {
    const space = byId("labels");
    const { counts, places } = this.mask.survey();
    space.replaceChildren();
    const labeled = shown ? [...places].filter(([k]) => counts[k] > 0.0008 * this.mask.data.length) : [];
    for (const [k, [x, y]] of labeled) {
      const label = document.createElement("span"), dot = document.createElement("i");
      dot.className = "dot";
      dot.style.background = k === 255 ? "#fff" : this.classes[k].color;
      label.append(dot, k === 255 ? "ignore" : `${k} ${this.classes[k].name}`);
      label.style.left = `${(100 * x) / this.mask.width}%`;
      label.style.top = `${(100 * y) / this.mask.height}%`;
      space.append(label);
    }
    return counts;
  }

  hide(hidden) {
    for (const each of [this.overlay, this.preview, this.cam, byId("labels")]) each.style.visibility = hidden ? "hidden" : "";
  }

  // Zoom and place

  fit() {
    if (!this.mask) return;
    const { clientWidth: w, clientHeight: h } = this.box, { width, height } = this.mask;
    const scale = Math.min((w - 24) / width, (h - 24) / height);
    this.place(scale, (w - width * scale) / 2, (h - height * scale) / 2);
    this.fitted = true;
    this.fitScale = scale;
  }

  place(scale, x, y) {
    this.zoom = { scale, x, y };
    this.fitted = false;
    this.card.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    this.card.style.setProperty("--unzoom", 1 / scale);
    this.card.classList.toggle("near", scale > 2.5);
  }

  zoomAt(factor, clientX, clientY) {
    if (!this.mask) return;
    const frame = this.box.getBoundingClientRect(), { scale, x, y } = this.zoom;
    const px = clientX - frame.left, py = clientY - frame.top;
    const next = Math.min(Math.max(scale * factor, this.fitScale * 0.7), Math.max(24, this.fitScale * 4));
    this.place(next, px - ((px - x) * next) / scale, py - ((py - y) * next) / scale);
  }

  move(dx, dy) {
    this.place(this.zoom.scale, this.zoom.x + dx, this.zoom.y + dy);
  }

  // spot: left, top, width, height as shares of the photo.
  zoomTo([left, top, w, h]) {
    const { width, height } = this.mask, { clientWidth: W, clientHeight: H } = this.box;
    const scale = Math.min(W / (width * w * 3), H / (height * h * 3), 24);
    const cx = (left + w / 2) * width, cy = (top + h / 2) * height;
    this.place(Math.max(scale, this.fitScale), W / 2 - cx * scale, H / 2 - cy * scale);
  }

  // The point of the mask under a point of the window.
  at(clientX, clientY) {
    const frame = this.box.getBoundingClientRect(), { scale, x, y } = this.zoom;
    return [(clientX - frame.left - x) / scale, (clientY - frame.top - y) / scale];
  }
}
