// The page: what the keys, buttons and gestures do to the photo, and what is told to the server.

import { ACTS } from "./actions.js";
import { Gestures } from "./gestures.js";
import { Keys } from "./keys.js";
import { Painting } from "./painting.js";
import { AHEAD, Photos } from "./photos.js";
import { Queue, stateOf } from "./queue.js";
import { read, showing, Writes } from "./server.js";
import { Stage } from "./stage.js";
import { Status } from "./status.js";
import { Panel } from "./panel.js";

const byId = (id) => document.getElementById(id);
const IDLE = 500; // milliseconds after the last stroke until the mask is sent

class App {
  constructor(about) {
    this.about = about;
    this.classes = about.classes;
    this.status = new Status();
    this.stage = new Stage(this.classes);
    this.queue = new Queue(this.classes, (i) => this.open(i));
    this.panel = new Panel(this);
    this.keys = new Keys((name, more) => this.act(name, more));
    this.keys.show();
    this.writes = new Writes({
      told: (state, why) => this.status.told(state, why),
      name: (i) => this.queue.rows.get(i).name,
      number: (name) => [...this.queue.rows.values()].find((row) => row.name === name)?.i,
      conflict: (i) => this.conflict(i),
      refused: (i, text) => this.refused(i, text),
    });
    this.photos = new Photos((i) => this.writes.settled(i));
    this.current = null;
    this.revision = 0;
    this.painting = new Painting(this);
    this.gestures = new Gestures(this.stage, this.painting.hands());
    byId("title").textContent = about.title;
    document.title = `${about.title} · tagseg review`;
    for (const [id, state] of [["accept", "accepted"], ["reject", "rejected"], ["later", "later"]])
      byId(id).addEventListener("click", () => this.decide(state));
    byId("undo").addEventListener("click", () => this.undo());
    byId("redo").addEventListener("click", () => this.redo());
    byId("back").addEventListener("click", () => this.go({ back: true }));
    byId("help").addEventListener("click", () => byId("keys").showModal());
    byId("keys-on").addEventListener("change", (event) => {
      this.keys.on = event.target.checked;
      this.keys.save();
    });
    byId("keys-reset").addEventListener("click", () => this.keys.reset());
    byId("open-queue").addEventListener("click", () => this.drawer(!byId("queue").classList.contains("shown")));
    addEventListener("beforeunload", (event) => (this.writes.pending || this.timer) && event.preventDefault());
    addEventListener("pagehide", () => this.flush());
    document.addEventListener("visibilitychange", () => document.hidden && this.flush());
  }

  async begin() {
    await this.poll();
    const first = this.queue.shown.find((i) => this.queue.rows.get(i).state === "open") ?? this.queue.shown[0];
    if (first !== undefined) await this.open(first);
    setInterval(() => this.poll().catch(() => {}), 2000);
  }

  // What others have done, and what the model has found since.
  async poll() {
    const path = `/api/rows?since=${this.revision ? this.revision + 1 : 0}`;
    const { revision, rows } = await read(path).catch((error) => this.moved(error));
    const anew = !this.revision;
    this.revision = revision;
    if (!rows.length) return;
    const here = rows.find((row) => row.i === this.current);
    this.queue.update(rows, { keep: !anew && this.queue.order !== "doubt" });
    if (here && !this.writes.jobs.some((job) => job.i === here.i) && here.version > (this.writes.versions.get(here.i) ?? 0)) this.conflict(here.i);
  }

  // Another review answers here, or this one with other photos: numbers and versions are theirs.
  async moved(error) {
    if (error.status !== 412 || this.leaving) throw error;
    const now = await read("/api/session");
    if (now.review === this.about.review) {
      this.leaving = true;
      this.hold();
      await this.writes.idle();
      location.reload();
    } else if (!this.writes.pending) this.notice(error.message);
    throw error;
  }

  // One photo

  async open(i) {
    this.hold();
    this.labeling = false;
    this.loading = this.drawn !== i;
    this.drawer(false);
    this.status.clear();
    this.current = i;
    this.queue.select(i);
    const row = this.queue.rows.get(i);
    this.headline(row);
    let parts;
    try {
      parts = await this.photos.fetch(i);
    } catch (error) {
      if (this.current !== i) return;
      this.stage.clear();
      Object.assign(this, { row, facts: null, drawn: i, loading: false });
      this.panel.show(row, new Uint8Array(256), 1);
      this.notice(error.message || "This photo cannot be shown.");
      return;
    }
    this.photos.stale(i);
    if (this.current !== i) return;
    const [image, content, facts] = parts;
    this.writes.see(i, content.version);
    this.mask = this.photos.mask(i, content);
    this.facts = this.row = facts;
    this.headline(facts);
    this.painting.begin();
    this.spot = -1;
    this.opened = performance.now();
    this.stage.show(image, this.mask);
    Object.assign(this, { drawn: i, loading: false });
    this.panel.camOff();
    this.refresh();
    document.body.dataset.shown = i; // for whoever watches the page
    for (const next of this.queue.upcoming(i, AHEAD)) this.photos.fetch(next).catch(() => {});
  }

  // What is still drawn is the photo before, or a mask that is made anew: no stroke may go to the one that comes.
  hold() {
    this.gestures.end();
    this.flush();
    this.drop();
    this.labeling = true; // until `open`
  }

  // The same, where what was not sent yet no longer fits.
  drop() {
    this.gestures.end();
    clearTimeout(this.timer);
    if (this.dirty && !this.writes.pending) this.status.told("saved");
    Object.assign(this, { timer: null, dirty: false, mask: null });
    this.stage.mask = null;
  }

  headline(row) {
    const tagged = row.tags === null ? "" : ` · ${row.tags.map((k) => this.classes[k].name).join(", ") || "no tags"}`;
    byId("name").textContent = row.name + tagged;
    byId("reason").textContent = row.reason;
  }

  refresh() {
    const counts = this.stage.names(this.panel.namesShown);
    this.panel.show(this.row, counts, this.mask.data.length);
  }

  // Decisions

  decide(state) {
    const i = this.current;
    if (i === null || this.loading || (!this.mask && state === "accepted")) return;
    this.gestures.end();
    const next = this.queue.after(i);
    const painted = this.queue.rows.get(i).painted || this.dirty;
    this.flush();
    const seconds = (performance.now() - this.opened) / 1000;
    this.photos.keep(i, this.mask);
    this.writes.decide(i, state, seconds).then((row) => row && this.took(row));
    byId("live").textContent = `${this.queue.rows.get(i).name} ${state === "later" ? "put off" : state}.`;
    this.queue.update([{ ...this.queue.rows.get(i), state, painted }], { keep: true });
    if (next === null) this.notice(this.queue.rest(i));
    else this.open(next).then(() => this.queue.arrange());
  }

  took(row) {
    this.queue.update([row], { keep: true });
    this.photos.saved(row.i, row.version);
    this.photos.stale(row.i);
    if (row.i === this.current) {
      this.row = row;
      this.headline(row);
    }
  }

  go({ back = false } = {}) {
    const next = this.queue.after(this.current, { any: true, back });
    if (next !== null) this.open(next);
  }

  // Undo: strokes first, then decisions.
  async undo() {
    this.gestures.end();
    if (this.mask?.undos.length) return this.painting.stepped(this.mask.undo());
    if (!this.labeling) await this.decision("undo");
  }

  async redo() {
    this.gestures.end();
    if (this.mask?.redos.length) return this.painting.stepped(this.mask.redo());
    if (!this.labeling) await this.decision("redo");
  }

  async decision(event) {
    this.flush();
    const row = await this.writes.step(event);
    if (!row) return this.notice(event === "undo" ? "There is no decision to take back." : "There is nothing to do again.");
    if (row.i === undefined) return; // of a photo that came after this page was loaded
    this.queue.update([row]);
    byId("live").textContent = `${row.name}: ${stateOf(row)}.`;
    this.photos.stepped(row.i, row.version);
    this.photos.stale(row.i);
    await this.open(row.i);
  }

  // Masks

  changed() {
    this.dirty = true;
    this.refresh();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.flush(), IDLE);
    this.status.told("busy");
  }

  flush() {
    clearTimeout(this.timer);
    this.timer = null;
    if (!this.dirty || !this.mask) return;
    this.dirty = false;
    this.writes.paint(this.current, this.mask.data, this.mask.touched).then((row) => row && this.took(row));
  }

  async retag(tags) {
    const i = this.current;
    if (this.loading) return;
    this.hold();
    this.row = { ...this.row, tags };
    this.headline(this.row);
    byId("reason").textContent = this.about.labels ? "labeling again with these tags …" : this.row.reason;
    const row = await this.writes.retag(i, tags);
    if (!row) return;
    this.took(row);
    if (this.writes.jobs.some((job) => job.i === i && job.path.endsWith("/tags"))) return; // another tick shows the mask
    await this.reload(i);
  }

  async resetMask() {
    if (this.loading) return;
    this.hold();
    const i = this.current, row = await this.writes.reset(i);
    if (!row) return;
    this.took(row);
    await this.reload(i);
  }

  // Takes the photo's mask from the server again.
  async reload(i) {
    this.photos.forget(i);
    if (this.current !== i) return;
    this.drop();
    await this.open(i);
  }

  // What the server says

  async conflict(i) {
    if (this.current === i) this.drop(); // strokes on another photo are still to be sent
    const row = await read(`/api/photos/${i}`).catch(() => null);
    if (row) {
      this.writes.versions.set(i, row.version);
      this.queue.update([row], { keep: true });
    }
    await this.reload(i);
    this.notice(`${this.queue.rows.get(i)?.name ?? "A photo"} was changed in another window. What is saved is shown here; nothing was overwritten.`);
  }

  refused(i, text) {
    Promise.resolve(i !== null && this.reload(i)).then(() => this.notice(text));
  }

  notice(text) {
    this.status.notice(text);
  }

  drawer(shown) {
    byId("queue").classList.toggle("shown", shown);
    byId("open-queue").setAttribute("aria-expanded", String(shown));
    if (shown) this.queue.draw(true);
  }

  act(name, more) {
    ACTS[name]?.(this, more);
  }

  spotlight(step) {
    const spots = this.facts?.spots ?? [];
    if (!this.mask || !spots.length) return this.notice("Without a model's probabilities no spot is more doubtful than another.");
    this.spot = (Math.max(this.spot, step ? -1 : 0) + step) % spots.length;
    this.stage.zoomTo(spots[this.spot]);
  }
}

read("/api/session").then((about) => {
  showing(about);
  const app = new App(about);
  window.tagsegReview = app; // for whoever watches the page
  return app.begin();
}).catch((error) => {
  Object.assign(byId("notice"), { textContent: error.message, hidden: false });
});

