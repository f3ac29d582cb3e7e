// What the page says: whether all is saved, and notices.

const SIGNS = { saved: "✓ saved", busy: "saving …", lost: "not saved yet", dropped: "not saved: see the notice" };

export class Status {
  constructor() {
    this.sign = document.getElementById("saved");
    this.bar = document.getElementById("notice");
  }

  // state: of SIGNS. why: what the server said, where it answered.
  told(state, why) {
    this.sign.className = `saved ${state}`;
    this.sign.textContent = SIGNS[state];
    if (state === "lost") {
      this.notice(`${why ?? "The server does not answer."} Your work is kept here and sent as soon as it can be; leave this page open.`);
      this.bar.dataset.lost = "yes";
    } else if (this.bar.dataset.lost) this.clear();
  }

  notice(text) {
    this.bar.textContent = text;
    this.bar.hidden = false;
    this.bar.dataset.lost = "";
  }

  clear() {
    this.bar.hidden = true;
    this.bar.dataset.lost = "";
  }
}
