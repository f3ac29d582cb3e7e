// The panel at the side: tools, classes with their tags, and how the mask is shown.

const byId = (id) => document.getElementById(id);
const HELP = {
  view: "Drag moves the photo, the wheel zooms. Swipe on a phone: right accepts, left rejects, up puts off.",
  brush: "Paint the chosen class. The right button erases.",
  eraser: "Paint background.",
  region: "A click gives a whole region of the mask to the chosen class.",
  grow: "A click paints what is alike up to the photo's edges; the wheel says how far. Stripes show it before.",
};

export class Panel {
  constructor(app) {
    this.app = app;
    this.tool = "view";
    this.value = app.classes.length > 1 ? 1 : 0;
    this.chosen = false;
    for (const button of document.querySelectorAll("[data-tool]")) button.addEventListener("click", () => this.pick(button.dataset.tool));
    const again = (id, change) => byId(id).addEventListener("input", change);
    again("size", () => this.show_size());
    again("tolerance", () => this.show_size());
    again("opacity", () => this.opacity(byId("opacity").value / 100));
    again("show-mask", () => (app.stage.overlay.hidden = !byId("show-mask").checked));
    again("show-outline", () => {
      app.stage.outline = byId("show-outline").checked;
      app.stage.draw();
    });
    again("show-labels", () => app.mask && app.refresh());
    again("show-cam", () => this.cam());
    const hold = byId("hold");
    for (const kind of ["pointerdown", "keydown"]) hold.addEventListener(kind, () => app.stage.hide(true));
    for (const kind of ["pointerup", "pointerleave", "keyup", "blur"]) hold.addEventListener(kind, () => app.stage.hide(false));
    byId("fit").addEventListener("click", () => app.stage.fit());
    byId("spot").addEventListener("click", () => app.spotlight(1));
    byId("reset").addEventListener("click", () => app.resetMask());
    this.build();
    this.pick("view");
    this.show_size();
  }

  get namesShown() {
    return byId("show-labels").checked;
  }

  get size() {
    return Number(byId("size").value);
  }

  get tolerance() {
    return Number(byId("tolerance").value);
  }

  set tolerance(value) {
    byId("tolerance").value = value;
    this.show_size();
  }

  show_size() {
    byId("size-out").textContent = `${this.size} px`;
    byId("tolerance-out").textContent = this.tolerance;
  }

  pick(tool) {
    this.tool = tool;
    for (const button of document.querySelectorAll("[data-tool]")) button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    for (const each of Object.keys(HELP)) this.app.stage.box.classList.toggle(each, each === tool);
    byId("tool-help").textContent = HELP[tool];
    byId("size-row").hidden = tool === "grow" || tool === "region" || tool === "view";
    byId("tolerance-row").hidden = tool !== "grow";
    byId("panel").classList.toggle("looking", tool === "view");
    byId("cursor").style.display = "none";
    this.app.stage.hint(null);
  }

  resize(way) {
    if (this.tool === "grow") {
      this.tolerance += 2 * way;
      this.app.painting.preview();
    } else {
      byId("size").value = way > 0 ? Math.max(this.size * 1.25, this.size + 1) : this.size / 1.25;
      this.show_size();
    }
  }

  build() {
    const { classes } = this.app;
    const rows = classes.map(({ name, color }, k) => this.line(k, name, color)).slice(1);
    rows.push(this.line(0, "background", "transparent"), this.line(255, "ignore", "#fff"));
    byId("classes").replaceChildren(...rows);
  }

  line(k, name, color) {
    const line = document.createElement("div"), button = document.createElement("button");
    line.className = k && k < 255 ? "class" : "class special";
    line.dataset.k = k;
    if (k && k < 255) {
      const tick = document.createElement("input");
      tick.type = "checkbox";
      tick.setAttribute("aria-label", `${name} is in the photo`);
      tick.addEventListener("change", () => this.retag());
      line.append(tick);
    } else line.append(document.createElement("span"));
    const dot = document.createElement("i"), label = document.createElement("span"), share = document.createElement("em"), key = document.createElement("kbd");
    dot.className = "dot";
    dot.style.background = color;
    label.className = "name";
    label.textContent = name;
    key.textContent = k === 255 ? "i" : k < 10 ? k : k < 19 ? `⇧${k - 9}` : "";
    button.setAttribute("aria-pressed", "false");
    button.append(dot, label, share, key);
    button.addEventListener("click", () => this.choose(k));
    line.append(button);
    return line;
  }

  choose(k) {
    if (k !== 255 && k >= this.app.classes.length) return;
    this.value = k;
    this.chosen = true;
    this.press();
    if (this.tool === "view" || this.tool === "eraser") this.pick("brush");
    else this.app.painting.preview();
  }

  press() {
    for (const line of byId("classes").children)
      line.querySelector("button").setAttribute("aria-pressed", String(Number(line.dataset.k) === this.value));
  }

  // Ticks, shares and the summary of a photo.
  show(row, counts, pixels) {
    if (!this.chosen) this.value = row.tags?.[0] ?? this.value;
    this.press();
    const told = [];
    for (const line of byId("classes").children) {
      const k = Number(line.dataset.k), tick = line.querySelector("input"), share = (100 * counts[k]) / pixels;
      if (tick) tick.checked = row.tags?.includes(k) ?? false;
      const text = counts[k] ? (share < 1 ? "< 1 %" : `${Math.round(share)} %`) : "";
      line.querySelector("em").textContent = text;
      if (text && k) told.push(`${k === 255 ? "ignored" : this.app.classes[k].name} ${text}`);
    }
    const summary = told.join(", ") || "all background";
    byId("summary").textContent = row.tags === null ? "No tags are known of this photo; all classes compete." : "";
    byId("overlay").setAttribute("aria-label", `Mask: ${summary}`);
    byId("reset").disabled = !row.painted && !this.app.mask?.undos.length;
  }

  retag() {
    const tags = [...byId("classes").children].filter((line) => line.querySelector("input")?.checked).map((line) => Number(line.dataset.k));
    this.app.retag(tags);
  }

  toggle(id) {
    const box = byId(id);
    box.checked = !box.checked;
    box.dispatchEvent(new Event("input"));
  }

  opacity(value) {
    this.app.stage.opacity = value;
    this.app.stage.draw();
  }

  nextOpacity() {
    const steps = [25, 55, 80, 100], now = Number(byId("opacity").value);
    byId("opacity").value = steps.find((step) => step > now) ?? steps[0];
    this.opacity(byId("opacity").value / 100);
  }

  camOff() {
    byId("show-cam").checked = false;
    this.app.stage.cam.hidden = true;
  }

  cam() {
    const { app } = this, { cam } = app.stage, k = this.value && this.value < 255 ? this.value : (app.row?.tags?.[0] ?? 1);
    cam.hidden = !byId("show-cam").checked || !app.mask;
    if (cam.hidden) return;
    cam.onerror = () => {
      this.camOff();
      app.notice("There is no activation map: it needs a model (start with a run folder, or with --model).");
    };
    cam.src = `/api/photos/${app.current}/cam?class=${k}`;
  }
}
