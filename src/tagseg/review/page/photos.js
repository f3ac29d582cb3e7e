// The photos at hand: those fetched ahead, and the masks of those that were open, with their steps.

import { Mask } from "./mask.js";
import { read, readMask } from "./server.js";

export const AHEAD = 3;
const KEPT = 5;

export class Photos {
  // settled: gives a promise that the server has answered all writes of a photo.
  constructor(settled) {
    this.settled = settled;
    this.ready = new Map(); // promises of [image, mask, facts]
    this.kept = new Map(); // masks with the version that they were saved as, null until the server has answered
  }

  async fetch(i) {
    await this.settled(i); // else the mask might come without the stroke that is on its way
    if (!this.ready.has(i)) {
      const image = new Image();
      image.src = `/api/photos/${i}/photo`;
      const fetched = Promise.all([image.decode().then(() => image), readMask(i), read(`/api/photos/${i}`)]);
      fetched.catch(() => this.ready.delete(i));
      this.ready.set(i, fetched);
      while (this.ready.size > 2 * AHEAD + 2) this.ready.delete(this.ready.keys().next().value);
    }
    return this.ready.get(i);
  }

  // The next time it is fetched again.
  stale(i) {
    this.ready.delete(i);
  }

  keep(i, mask) {
    if (!mask?.undos.length) return;
    this.kept.set(i, { mask, version: null });
    while (this.kept.size > KEPT) this.kept.delete(this.kept.keys().next().value);
  }

  saved(i, version) {
    const kept = this.kept.get(i);
    if (kept) kept.version = version;
  }

  // A decision was taken back or made again: the mask is the same, and so are its steps.
  stepped(i, version) {
    const kept = this.kept.get(i);
    if (kept?.version === version - 1) kept.version = version;
  }

  // The mask that was kept, where the server still has that one, else the server's: the one kept is then given up, lest it
  // be taken for what is saved from now on.
  mask(i, content) {
    const before = this.kept.get(i);
    if (before?.version === content.version) return before.mask;
    this.kept.delete(i);
    return new Mask(content);
  }

  forget(i) {
    this.stale(i);
    this.kept.delete(i);
  }
}
