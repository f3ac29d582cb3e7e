// Mouse, pen and fingers on the stage: looking, painting, clicks, swipes, pinches.

const SWIPE = 90; // pixels that a finger moves for a decision
const byId = (id) => document.getElementById(id);

export class Gestures {
  // app: tool(), value(), radius(), painted(box), finished(), hover(x, y), click(x, y, touch), swipe(way), wheel(steps)
  constructor(stage, app) {
    Object.assign(this, { stage, app });
    this.fingers = new Map();
    this.mode = null;
    const box = stage.box;
    box.addEventListener("pointerdown", (event) => this.down(event));
    box.addEventListener("pointermove", (event) => this.move(event));
    box.addEventListener("pointerup", (event) => this.up(event));
    box.addEventListener("pointercancel", (event) => this.up(event, true));
    box.addEventListener("pointerleave", () => {
      byId("cursor").style.display = "none";
      if (!this.mode) app.hover(null);
    });
    box.addEventListener("contextmenu", (event) => event.preventDefault());
    box.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
    box.addEventListener("dblclick", () => app.tool() === "view" && stage.fit());
  }

  down(event) {
    if (!this.stage.ready) return;
    const { stage, app } = this;
    stage.box.setPointerCapture(event.pointerId);
    if (event.pointerType === "touch") {
      this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
      if (this.fingers.size === 2) {
        if (this.mode === "paint") app.finished({ drop: true });
        this.swipeBack();
        this.mode = "pinch";
        this.pinch = this.spread();
        return;
      }
      if (this.fingers.size > 2) return;
    } else if (this.mode) return;
    this.start = this.last = [event.clientX, event.clientY];
    const tool = app.tool();
    const right = event.button === 2 || event.button === 5 || (event.buttons & 32) > 0; // right mouse button, the pen's eraser
    if (event.button === 1 || tool === "view") {
      const whole = stage.zoom.scale <= stage.fitScale * 1.02;
      this.mode = event.pointerType === "touch" && whole ? "swipe" : "pan";
      stage.box.classList.add("dragging");
    } else if (tool === "brush" || tool === "eraser") {
      this.mode = "paint";
      this.value = tool === "eraser" || right ? 0 : app.value();
      app.begin();
      this.stroke([event]);
    } else {
      this.mode = "click";
    }
  }

  // Another photo comes: a stroke that has begun ends here.
  end() {
    if (this.mode === "paint") this.app.finished({});
    this.mode = null;
  }

  move(event) {
    const { stage, app } = this;
    this.cursor(event);
    if (this.fingers.has(event.pointerId)) this.fingers.set(event.pointerId, [event.clientX, event.clientY]);
    if (!this.mode) {
      if (event.pointerType !== "touch") app.hover(stage.at(event.clientX, event.clientY));
      return;
    }
    if (this.mode === "pinch" && this.fingers.size === 2) {
      const now = this.spread();
      stage.zoomAt(now.distance / this.pinch.distance, now.x, now.y);
      stage.move(now.x - this.pinch.x, now.y - this.pinch.y);
      this.pinch = now;
    } else if (this.mode === "pan") {
      stage.move(event.clientX - this.last[0], event.clientY - this.last[1]);
    } else if (this.mode === "swipe") {
      this.swipe(event.clientX - this.start[0], event.clientY - this.start[1]);
    } else if (this.mode === "paint") {
      const events = event.getCoalescedEvents?.() ?? [];
      this.stroke(events.length ? events : [event]);
    }
    this.last = [event.clientX, event.clientY];
  }

  up(event, canceled = false) {
    const { stage, app, mode } = this;
    this.fingers.delete(event.pointerId);
    stage.box.classList.remove("dragging");
    if (mode === "pinch") {
      if (this.fingers.size === 0) this.mode = null;
      return;
    }
    this.mode = null;
    if (mode === "paint") app.finished({});
    if (mode === "swipe") {
      const dx = event.clientX - this.start[0], dy = event.clientY - this.start[1];
      const way = canceled ? null : this.way(dx, dy);
      if (way) app.swipe(way);
      this.swipeBack();
    }
    if (mode === "click" && !canceled) {
      const moved = Math.hypot(event.clientX - this.start[0], event.clientY - this.start[1]);
      if (moved < 8) app.click(stage.at(event.clientX, event.clientY));
    }
  }

  stroke(events) {
    for (const each of events) {
      const [x0, y0] = this.stage.at(...this.last), [x1, y1] = this.stage.at(each.clientX, each.clientY);
      this.app.paint(x0, y0, x1, y1, this.value);
      this.last = [each.clientX, each.clientY];
    }
  }

  way(dx, dy) {
    if (-dy > SWIPE && -dy > Math.abs(dx)) return "later";
    if (Math.abs(dx) > SWIPE) return dx > 0 ? "accepted" : "rejected";
    return null;
  }

  swipe(dx, dy) {
    const { x, y, scale } = this.stage.zoom, verdict = byId("verdict"), way = this.way(dx, dy);
    this.stage.card.style.transform = `translate(${x + dx}px, ${y + Math.min(dy, 0)}px) rotate(${dx / 60}deg) scale(${scale})`;
    verdict.className = way ?? "";
    verdict.textContent = { accepted: "Accept", rejected: "Reject", later: "Later" }[way] ?? "";
    verdict.style.opacity = way ? 1 : 0;
  }

  swipeBack() {
    if (this.stage.fitted && this.stage.ready) this.stage.fit();
    byId("verdict").style.opacity = 0;
  }

  spread() {
    const [[x0, y0], [x1, y1]] = [...this.fingers.values()];
    return { x: (x0 + x1) / 2, y: (y0 + y1) / 2, distance: Math.max(Math.hypot(x1 - x0, y1 - y0), 1) };
  }

  wheel(event) {
    if (!this.stage.ready) return;
    event.preventDefault();
    if (this.app.tool() === "grow" && !event.ctrlKey) this.app.wheel(-Math.sign(event.deltaY));
    else this.stage.zoomAt(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.clientX, event.clientY);
  }

  cursor(event) {
    const circle = byId("cursor"), tool = this.app.tool();
    if (!this.stage.ready || event.pointerType === "touch" || (tool !== "brush" && tool !== "eraser")) {
      circle.style.display = "none";
      return;
    }
    const frame = this.stage.box.getBoundingClientRect(), size = 2 * this.app.radius() * this.stage.zoom.scale;
    Object.assign(circle.style, {
      display: "block", width: `${size}px`, height: `${size}px`,
      left: `${event.clientX - frame.left}px`, top: `${event.clientY - frame.top}px`,
    });
  }
}
