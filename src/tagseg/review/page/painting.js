// Strokes, regions and growing: what the pointer does to the mask of the photo that is open.

import { Grower } from "./mask.js";

export class Painting {
  constructor(app) {
    this.app = app;
    this.point = null;
    this.grower = null;
  }

  // Another photo is open.
  begin() {
    this.grower = null;
  }

  hands() {
    return {
      tool: () => this.app.panel.tool,
      value: () => this.app.panel.value,
      radius: () => this.app.panel.size / 2,
      begin: () => this.app.mask.begin(),
      paint: (x0, y0, x1, y1, value) => {
        const box = this.app.mask.line(x0, y0, x1, y1, this.app.panel.size / 2, value);
        if (box) this.app.stage.draw(box);
      },
      finished: ({ drop }) => {
        const step = this.app.mask.end();
        if (step && drop) this.stepped(this.app.mask.undo());
        else if (step) this.app.changed();
      },
      hover: (point) => this.hover(point),
      click: (point) => this.click(point),
      swipe: (way) => this.app.decide(way),
      wheel: (steps) => {
        this.app.panel.tolerance += steps;
        this.hover(this.point);
      },
    };
  }

  // The pixels that a click at a point would change.
  reach(point) {
    const x = Math.floor(point?.[0] ?? -1), y = Math.floor(point?.[1] ?? -1), { width, height } = this.app.mask;
    if (x < 0 || y < 0 || x >= width || y >= height) return [];
    if (this.app.panel.tool === "region") return this.app.mask.region(x, y);
    this.grower ??= new Grower(this.app.stage.photo, width, height);
    return this.grower.grow(x, y, this.app.panel.tolerance, width, height);
  }

  hover(point) {
    this.point = point;
    if (!this.app.mask) return;
    const growing = this.app.panel.tool === "region" || this.app.panel.tool === "grow";
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.app.stage.hint(growing && point && this.app.mask ? this.reach(point) : null, this.app.panel.value));
  }

  // Tool, class or tolerance are others now.
  preview() {
    if (this.point) this.hover(this.point);
  }

  click(point) {
    if (!this.app.mask) return;
    cancelAnimationFrame(this.frame);
    this.app.mask.begin();
    const box = this.app.mask.fill(this.reach(point), this.app.panel.value);
    const step = this.app.mask.end();
    this.app.stage.hint(null);
    if (step) {
      this.app.stage.draw(box);
      this.app.changed();
    }
  }

  stepped(step) {
    this.app.stage.draw([step.left, step.top, step.left + step.w - 1, step.top + step.h - 1]);
    this.app.changed();
  }

  // What the click at the last point would do, by key.
  apply() {
    if (this.point && ["region", "grow"].includes(this.app.panel.tool)) this.click(this.point);
  }
}
